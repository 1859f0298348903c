//! Tracks who chose the target of a request, over several references.
//!
//! The host that the user named may refer to its own scope (see [`super::HttpClients::for_lead`]). A remote server that
//! it refers to must not refer back to this machine on its behalf.

use super::network_scope::{NetworkScope, normalized};

/// The origin of a request's target: the user's host, or servers that it referred to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lead {
    /// The host that the user named, as long as only it, or servers in the same scope, have referred on.
    home: Option<String>,
}

impl Lead {
    /// Starts with a `host` that the user named.
    pub fn of_user(host: &str) -> Self {
        Self { home: Some(normalized(host)) }
    }

    /// Returns the origin for references of a server at `host`, which this one referred to.
    #[must_use]
    pub fn onward(&self, host: &str) -> Self {
        let home = self.home.as_ref().filter(|home| {
            let scope = NetworkScope::of_host(home);
            **home == normalized(host) || (scope.is_some() && scope == NetworkScope::of_host(host))
        });
        Self { home: home.cloned() }
    }

    /// Returns the host that the user named; `None` if a remote server referred on.
    pub(super) fn home(&self) -> Option<&str> {
        self.home.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_host_may_refer_within_its_scope() {
        let lead = Lead::of_user("localhost");
        assert_eq!(lead.onward("127.0.0.1"), lead);
        assert_eq!(lead.onward("git.example"), Lead::default());
        assert_eq!(lead.onward("git.example").onward("localhost"), Lead::default(), "there is no way back");
        let lead = Lead::of_user("Git.example.");
        assert_eq!(lead.onward("git.example"), lead);
        assert_eq!(lead.onward("other.example"), Lead::default());
    }
}
