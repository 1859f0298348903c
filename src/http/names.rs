//! Resolves names, and decides which addresses may be connected to.
//!
//! Addresses are checked in the resolver that the connection uses, so that a name cannot have one address when it is
//! checked and a different one when it is used. The machine's name servers and hosts files are read once, before any
//! RUN: an image's `/etc` is never used.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{GOOGLE, LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use parking_lot::Mutex;
use reqwest::dns::{Name, Resolve, Resolving};

use super::network_scope::{NetworkScope, normalized};

/// A server referred to a forbidden host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is an address of {scope}: a remote server must not refer to it")]
pub struct ForbiddenReference {
    /// The host.
    pub host: String,
    /// Its scope.
    pub scope: NetworkScope,
}

/// A host that a server referred to and that is not allowed.
#[derive(Debug, thiserror::Error)]
pub enum HostRefused {
    /// Its scope is forbidden.
    #[error(transparent)]
    Astray(#[from] ForbiddenReference),
    /// The name has no address.
    #[error("the name has no address")]
    Unknown(#[source] NetError),
}

/// The resolver that all clients of a build share.
pub(super) struct Names {
    resolver: TokioResolver,
    /// The scopes in which the user's hosts were found; see [`Names::settle`].
    settled: Mutex<BTreeMap<String, NetworkScope>>,
}

impl Names {
    /// Returns the machine's resolver. Without a `/etc/resolv.conf` it asks Google's servers, as the HTTP library does.
    pub(super) fn of_machine() -> Result<Self, NetError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::debug!(%error, "/etc/resolv.conf cannot be used: Google's servers are asked");
            TokioResolver::builder_with_config(ResolverConfig::udp_and_tcp(&GOOGLE), TokioRuntimeProvider::default())
        });
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        Ok(Self { resolver: builder.build()?, settled: Mutex::default() })
    }

    /// Records that the user's host responded from `scope`, and must stay there. If its name later resolves to a
    /// different scope, the name's owner wants us to connect to that scope (DNS rebinding).
    pub(super) fn settle(&self, host: &str, scope: NetworkScope) {
        self.settled.lock().entry(normalized(host)).or_insert(scope);
    }

    /// Returns the scope in which the user's host must be; `None` as long as it is not known.
    fn home(&self, host: &str) -> Option<NetworkScope> {
        // A name of this machine is this machine, whatever a name server says.
        let own_scope = NetworkScope::of_host(host).filter(|scope| *scope == NetworkScope::Machine);
        own_scope.or_else(|| self.settled.lock().get(&normalized(host)).copied())
    }
}

impl Names {
    /// Checks that all addresses of a host are within `reach`.
    pub(super) async fn judge(&self, reach: Reach, host: &str) -> Result<(), HostRefused> {
        let home = self.home(host);
        if reach == Reach::Named && home.is_none() {
            return Ok(());
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<IpAddr> = match bare.parse() {
            Ok(address) => vec![address],
            Err(_name) => {
                let found = self.resolver.lookup_ip(bare).await;
                found.map_err(HostRefused::Unknown)?.iter().collect()
            }
        };
        match found.into_iter().map(NetworkScope::of).find(|scope| !Judge::allows(reach, home, *scope)) {
            Some(scope) => Err(ForbiddenReference { host: host.to_owned(), scope }.into()),
            None => Ok(()),
        }
    }
}

/// The scopes that a name may resolve to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The user named the host: any scope at first, then the one it was found in.
    Named,
    /// A server named the host: remote addresses, and one more scope.
    Referred(Option<NetworkScope>),
}

impl Reach {
    /// Returns the allowed scopes for a `host` that was named by `home`, a host that the user named, or (`None`) by a
    /// remote server.
    ///
    /// # Errors
    /// The host is by its name in a forbidden scope.
    pub(super) fn of(home: Option<&str>, host: &str) -> Result<Self, ForbiddenReference> {
        if home.is_some_and(|home| normalized(home) == normalized(host)) {
            return Ok(Self::Named);
        }
        let further = home.and_then(NetworkScope::of_host);
        match NetworkScope::of_host(host) {
            None | Some(NetworkScope::Elsewhere) => Ok(Self::Referred(further)),
            scope if scope == further => Ok(Self::Referred(further)),
            Some(scope) => Err(ForbiddenReference { host: host.to_owned(), scope }),
        }
    }
}

/// The resolver of one client.
pub(super) struct Judge {
    pub(super) names: Arc<Names>,
    pub(super) reach: Reach,
}

impl Judge {
    fn allows(reach: Reach, home: Option<NetworkScope>, scope: NetworkScope) -> bool {
        match reach {
            Reach::Named => home.is_none_or(|home| home == scope),
            Reach::Referred(further) => scope == NetworkScope::Elsewhere || further == Some(scope),
        }
    }
}

impl Resolve for Judge {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, reach) = (Arc::clone(&self.names), self.reach);
        Box::pin(async move {
            let host = name.as_str();
            let found = names.resolver.lookup_ip(host).await?;
            let home = names.home(host);
            let mut refused = None;
            let mut addresses = Vec::new();
            for address in found.iter() {
                let scope = NetworkScope::of(address);
                if Self::allows(reach, home, scope) {
                    addresses.push(SocketAddr::new(address, 0));
                } else {
                    refused = Some(scope);
                }
            }
            match refused {
                Some(scope) if addresses.is_empty() => Err(ForbiddenReference { host: host.to_owned(), scope }.into()),
                _ => Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_a_server_named_must_be_remote() {
        for (further, allowed) in [
            (None, &[NetworkScope::Elsewhere][..]),
            (Some(NetworkScope::Machine), &[NetworkScope::Elsewhere, NetworkScope::Machine]),
            (Some(NetworkScope::Link), &[NetworkScope::Elsewhere, NetworkScope::Link]),
        ] {
            for scope in [NetworkScope::Machine, NetworkScope::Link, NetworkScope::Elsewhere] {
                assert_eq!(
                    Judge::allows(Reach::Referred(further), None, scope),
                    allowed.contains(&scope),
                    "{further:?} {scope:?}"
                );
            }
        }
    }

    #[test]
    fn a_host_that_the_user_named_stays_where_it_was_found() {
        let names = Names::of_machine().unwrap();
        assert_eq!(names.home("r.example"), None);
        names.settle("R.example.", NetworkScope::Elsewhere);
        names.settle("r.example", NetworkScope::Link);
        assert_eq!(names.home("r.example"), Some(NetworkScope::Elsewhere), "the first time counts");
        assert!(!Judge::allows(Reach::Named, names.home("r.example"), NetworkScope::Machine));
        assert_eq!(names.home("x.localhost"), Some(NetworkScope::Machine));
    }
}
