//! Creates the HTTP clients: TLS, name resolution, proxies, time limits.

use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::NetError;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Response, Url};

use super::lead::Lead;
use super::names::{ForbiddenReference, HostRefused, Judge, Names, Reach};
use super::network_scope::{NetworkScope, normalized};
use super::tls::{MachineRoots, TlsError, TlsSettings, machine_roots};
use crate::fs::gate;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A reason why the HTTP clients cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The resolver could not be started.
    #[error("failed to start the resolver")]
    Names(#[source] NetError),
    /// The container's files could not be restored after a command.
    #[error("failed to read the files with certificate authorities and name servers")]
    Files(#[source] std::io::Error),
    /// The HTTP library cannot start.
    #[error("failed to start the HTTP library")]
    Library(#[source] reqwest::Error),
}

/// The versions of HTTP that a server is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Versions {
    /// HTTP/1.1 only: blobs transfer faster over several connections than over streams of one, with some registries
    /// much faster.
    Http1,
    /// Both, for servers that support HTTP/2 only.
    Any,
}

/// The settings that all clients of a build share.
struct Machine {
    user_agent: String,
    roots: MachineRoots,
    names: Arc<Names>,
    /// The environment's proxies, as the HTTP library itself reads them.
    proxies: Matcher,
}

/// Clients for hosts that the user named and for hosts that servers refer to, with the environment's proxies and for
/// this machine itself.
#[derive(Clone)]
pub struct HttpClients {
    machine: Arc<Machine>,
    tls: TlsSettings,
    proxied: reqwest::Client,
    direct: reqwest::Client,
    /// For hosts that a remote server referred to.
    referred: reqwest::Client,
    /// For hosts that a server on this machine, by its own name, referred to.
    referred_from_machine: reqwest::Client,
    /// For hosts that a server on the machine's own link referred to.
    referred_from_link: reqwest::Client,
}

impl std::fmt::Debug for HttpClients {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HttpClients").field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl HttpClients {
    /// Creates the clients with the machine's certificate authorities, its name servers and the environment's proxies,
    /// which are read once.
    ///
    /// # Errors
    /// The HTTP library cannot start.
    pub fn new(user_agent: &str) -> Result<Self, SetupError> {
        let _pass = gate::pass().map_err(SetupError::Files)?;
        let machine = Machine {
            user_agent: user_agent.to_owned(),
            roots: machine_roots(),
            names: Arc::new(Names::of_machine().map_err(SetupError::Names)?),
            proxies: Matcher::from_system(),
        };
        Self::build(Arc::new(machine), TlsSettings::default(), Versions::Http1)
    }

    /// Returns clients for a server with its own TLS settings.
    ///
    /// # Errors
    /// The client certificate and its key cannot be used.
    pub fn with_tls(&self, tls: TlsSettings) -> Result<Self, SetupError> {
        Self::build(Arc::clone(&self.machine), tls, Versions::Http1)
    }

    /// Returns the same clients for a server that does not support HTTP/1.1.
    ///
    /// # Errors
    /// The HTTP library cannot start.
    pub fn with_http2(&self) -> Result<Self, SetupError> {
        Self::build(Arc::clone(&self.machine), self.tls.clone(), Versions::Any)
    }

    fn build(machine: Arc<Machine>, tls: TlsSettings, versions: Versions) -> Result<Self, SetupError> {
        let protocols: &[&[u8]] = match versions {
            Versions::Http1 => &[b"http/1.1"],
            Versions::Any => &[b"h2", b"http/1.1"],
        };
        let config = tls.client_config(&machine.roots, protocols)?;
        let builder = |reach| {
            let builder = reqwest::Client::builder()
                .user_agent(&machine.user_agent)
                .tls_backend_preconfigured(config.clone())
                .dns_resolver(Judge { names: Arc::clone(&machine.names), reach })
                .connect_timeout(CONNECT_TIMEOUT)
                // Callers follow redirects themselves, because they know which credentials must not be passed on.
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .retry(reqwest::retry::never());
            match versions {
                Versions::Http1 => builder.http1_only(),
                Versions::Any => builder.http2_adaptive_window(true),
            }
        };
        let direct = |reach| builder(reach).no_proxy().build().map_err(SetupError::Library);
        Ok(Self {
            proxied: builder(Reach::Named).build().map_err(SetupError::Library)?,
            direct: direct(Reach::Named)?,
            referred: direct(Reach::Referred(None))?,
            referred_from_machine: direct(Reach::Referred(Some(NetworkScope::Machine)))?,
            referred_from_link: direct(Reach::Referred(Some(NetworkScope::Link)))?,
            machine,
            tls,
        })
    }

    /// Returns the client for a `url` whose host the user named. Proxies are never used for this machine itself or its
    /// metadata service.
    pub fn for_url(&self, url: &Url) -> &reqwest::Client {
        if self.is_proxied(url) { &self.proxied } else { &self.direct }
    }

    /// Returns the client for a `url` that a server named, in a redirect, an upload session or a challenge; `home` is
    /// the URL that the user named. The host may be `home`'s own or a remote one. If `home` is by its name on this
    /// machine or its link, the host may be there too.
    ///
    /// The client checks that after it has resolved the name. With a proxy only the name itself is checked, because the
    /// proxy resolves it.
    ///
    /// # Errors
    /// The host is by its name in a forbidden scope.
    pub fn for_lead(&self, home: &Url, url: &Url) -> Result<&reqwest::Client, ForbiddenReference> {
        self.referred_by(home.host_str(), url)
    }

    /// Returns the client like [`Self::for_lead`], for a `url` that was reached through several servers.
    ///
    /// # Errors
    /// The host is by its name in a forbidden scope.
    pub fn for_step(&self, lead: &Lead, url: &Url) -> Result<&reqwest::Client, ForbiddenReference> {
        self.referred_by(lead.home(), url)
    }

    fn referred_by(&self, home: Option<&str>, url: &Url) -> Result<&reqwest::Client, ForbiddenReference> {
        match Reach::of(home, url.host_str().unwrap_or_default())? {
            Reach::Named => Ok(self.for_url(url)),
            Reach::Referred(_) if self.is_proxied(url) => Ok(&self.proxied),
            Reach::Referred(Some(NetworkScope::Machine)) => Ok(&self.referred_from_machine),
            Reach::Referred(Some(NetworkScope::Link)) => Ok(&self.referred_from_link),
            Reach::Referred(Some(NetworkScope::Elsewhere) | None) => Ok(&self.referred),
        }
    }

    /// Checks that all addresses of a `host` are allowed for a reference, for a connection that is not HTTP and that a
    /// library makes. The name may have a different address by then.
    ///
    /// # Errors
    /// An address is forbidden, or there is none.
    pub async fn judge(&self, lead: &Lead, host: &str) -> Result<(), HostRefused> {
        self.machine.names.judge(Reach::of(lead.home(), host)?, host).await
    }

    /// Records the scope from which the user's host responded: from now on it must stay there.
    pub fn settle(&self, home: &Url, response: &Response) {
        self.settle_at(home.host_str(), response);
    }

    /// Records the scope like [`Self::settle`], for a response to a request of [`Self::for_step`].
    pub fn settle_step(&self, lead: &Lead, response: &Response) {
        self.settle_at(lead.home(), response);
    }

    fn settle_at(&self, home: Option<&str>, response: &Response) {
        let url = response.url();
        if let (Some(home), Some(host)) = (home, url.host_str())
            && normalized(home) == normalized(host)
            && let Some(peer) = response.remote_addr().filter(|_| !self.is_proxied(url))
        {
            self.machine.names.settle(host, NetworkScope::of(peer.ip()));
        }
    }

    fn is_proxied(&self, url: &Url) -> bool {
        let scope = NetworkScope::of_host(url.host_str().unwrap_or_default());
        if matches!(scope, Some(NetworkScope::Machine | NetworkScope::Link)) {
            return false;
        }
        url.as_str().parse().is_ok_and(|uri| self.machine.proxies.intercept(&uri).is_some())
    }
}
