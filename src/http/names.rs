//! Names to addresses, and which of them may be connected to.
//!
//! An address is judged where the connection takes it from, so that a name cannot be one thing when it is looked at and another
//! when it is connected to. Servers and hosts files of the machine are read once, before any RUN: an image's `/etc` is not asked.

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

/// A server chose a host that it must not choose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is an address of {scope}: no server elsewhere may lead there")]
pub struct LedAstray {
    /// The host.
    pub host: String,
    /// Where it is.
    pub scope: NetworkScope,
}

/// An address that a server leads to, and that cannot be judged to be fine.
#[derive(Debug, thiserror::Error)]
pub enum Unjudged {
    /// It is where it must not be.
    #[error(transparent)]
    Astray(#[from] LedAstray),
    /// The name has no address.
    #[error("the name has no address")]
    Unknown(#[source] NetError),
}

/// What resolves names for all clients of a build.
pub(super) struct Names {
    resolver: TokioResolver,
    /// Where the hosts that the user named were found; see [`Names::settle`].
    settled: Mutex<BTreeMap<String, NetworkScope>>,
}

impl Names {
    /// The machine's resolver. Without a `/etc/resolv.conf` it asks Google's servers, as the HTTP library does by itself.
    pub(super) fn of_machine() -> Result<Self, NetError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::debug!(%error, "/etc/resolv.conf cannot be used: Google's servers are asked");
            TokioResolver::builder_with_config(ResolverConfig::udp_and_tcp(&GOOGLE), TokioRuntimeProvider::default())
        });
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        Ok(Self { resolver: builder.build()?, settled: Mutex::default() })
    }

    /// A host that the user named answered from `scope`. It stays there: a name that leads to another scope later is one whose
    /// owner wants us to ask that scope (DNS rebinding).
    pub(super) fn settle(&self, host: &str, scope: NetworkScope) {
        self.settled.lock().entry(normalized(host)).or_insert(scope);
    }

    /// Where a host that the user named has to be; `None` as long as that is not known.
    fn home(&self, host: &str) -> Option<NetworkScope> {
        // What says that it is this machine is it, whatever a server of names thinks of it.
        let told = NetworkScope::of_host(host).filter(|scope| *scope == NetworkScope::Machine);
        told.or_else(|| self.settled.lock().get(&normalized(host)).copied())
    }
}

impl Names {
    /// Whether all addresses of a host are within `reach`.
    pub(super) async fn judge(&self, reach: Reach, host: &str) -> Result<(), Unjudged> {
        let home = self.home(host);
        if reach == Reach::Named && home.is_none() {
            return Ok(());
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<IpAddr> = match bare.parse() {
            Ok(address) => vec![address],
            Err(_name) => {
                let found = self.resolver.lookup_ip(bare).await;
                found.map_err(Unjudged::Unknown)?.iter().collect()
            }
        };
        match found.into_iter().map(NetworkScope::of).find(|scope| !Judge::allows(reach, home, *scope)) {
            Some(scope) => Err(LedAstray { host: host.to_owned(), scope }.into()),
            None => Ok(()),
        }
    }
}

/// How far names may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The user named the host: anywhere at first, then to where it was found.
    Named,
    /// A server named the host: elsewhere, and to one more scope.
    Led(Option<NetworkScope>),
}

impl Reach {
    /// How far the name of a `host` may lead that was named by `home`, a host that the user named, or (`None`) by a server elsewhere.
    ///
    /// # Errors
    /// The host says of itself that it is somewhere else.
    pub(super) fn of(home: Option<&str>, host: &str) -> Result<Self, LedAstray> {
        if home.is_some_and(|home| normalized(home) == normalized(host)) {
            return Ok(Self::Named);
        }
        let further = home.and_then(NetworkScope::of_host);
        match NetworkScope::of_host(host) {
            None | Some(NetworkScope::Elsewhere) => Ok(Self::Led(further)),
            scope if scope == further => Ok(Self::Led(further)),
            Some(scope) => Err(LedAstray { host: host.to_owned(), scope }),
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
            Reach::Led(further) => scope == NetworkScope::Elsewhere || further == Some(scope),
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
                Some(scope) if addresses.is_empty() => Err(LedAstray { host: host.to_owned(), scope }.into()),
                _ => Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_a_server_named_is_elsewhere() {
        for (further, allowed) in [
            (None, &[NetworkScope::Elsewhere][..]),
            (Some(NetworkScope::Machine), &[NetworkScope::Elsewhere, NetworkScope::Machine]),
            (Some(NetworkScope::Link), &[NetworkScope::Elsewhere, NetworkScope::Link]),
        ] {
            for scope in [NetworkScope::Machine, NetworkScope::Link, NetworkScope::Elsewhere] {
                assert_eq!(
                    Judge::allows(Reach::Led(further), None, scope),
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
