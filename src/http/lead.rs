//! Who chose where a request goes, for what servers lead to by more than one step.
//!
//! The host that the user named may lead to its own kind of scope (see [`super::HttpClients::for_lead`]); a server elsewhere that it
//! led to may not lead back to this machine in its stead.

use super::network_scope::{NetworkScope, normalized};

/// The user who named a host, or servers that this host led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lead {
    /// The host that the user named, as long as nothing but it, or a server in the same kind of scope, has led on.
    home: Option<String>,
}

impl Lead {
    /// The user named `host`.
    pub fn of_user(host: &str) -> Self {
        Self { home: Some(normalized(host)) }
    }

    /// What a server at `host`, which this lead went to, may lead to in its turn.
    #[must_use]
    pub fn onward(&self, host: &str) -> Self {
        let home = self.home.as_ref().filter(|home| {
            let scope = NetworkScope::of_host(home);
            **home == normalized(host) || (scope.is_some() && scope == NetworkScope::of_host(host))
        });
        Self { home: home.cloned() }
    }

    /// The host that the user named; `None` where a server elsewhere leads.
    pub(super) fn home(&self) -> Option<&str> {
        self.home.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_named_leads_as_far_as_servers_like_it_do() {
        let lead = Lead::of_user("localhost");
        assert_eq!(lead.onward("127.0.0.1"), lead);
        assert_eq!(lead.onward("git.example"), Lead::default());
        assert_eq!(lead.onward("git.example").onward("localhost"), Lead::default(), "there is no way back");
        let lead = Lead::of_user("Git.example.");
        assert_eq!(lead.onward("git.example"), lead);
        assert_eq!(lead.onward("other.example"), Lead::default());
    }
}
