//! The HTTP clients: TLS, name resolution, proxies, time limits.

use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::NetError;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Response, Url};

use super::lead::Lead;
use super::names::{Judge, LedAstray, Names, Reach, Unjudged};
use super::network_scope::{NetworkScope, normalized};
use super::tls::{MachineRoots, TlsError, TlsSettings, machine_roots};
use crate::fs::gate;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nothing resolves names.
    #[error("failed to start the resolver")]
    Names(#[source] NetError),
    /// The container's files could not be given back after a command.
    #[error("failed to read the files that say whom connections trust and where names lead")]
    Files(#[source] std::io::Error),
    /// The HTTP library cannot start.
    #[error("failed to start the HTTP library")]
    Library(#[source] reqwest::Error),
}

/// The versions of HTTP that a server is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Versions {
    /// HTTP/1.1 alone: blobs move faster over several connections than over the streams of one, behind some registries much faster.
    Http1,
    /// Either, for servers that speak HTTP/2 only.
    Any,
}

/// What all clients of a build have in common.
struct Machine {
    user_agent: String,
    roots: MachineRoots,
    names: Arc<Names>,
    /// The environment's proxies, as the HTTP library itself reads them.
    proxies: Matcher,
}

/// Clients for what the user named and for what servers lead to, behind the environment's proxies and on this machine itself.
#[derive(Clone)]
pub struct HttpClients {
    machine: Arc<Machine>,
    tls: TlsSettings,
    proxied: reqwest::Client,
    direct: reqwest::Client,
    /// For hosts that a server elsewhere named.
    led: reqwest::Client,
    /// The same where the server is on this machine, by its own name.
    led_from_machine: reqwest::Client,
    /// The same where it is at the machine's own link.
    led_from_link: reqwest::Client,
}

impl std::fmt::Debug for HttpClients {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HttpClients").field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl HttpClients {
    /// Reads the machine's certificate authorities, its servers of names and the environment's proxies, once.
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

    /// Clients for a server with settings of its own.
    ///
    /// # Errors
    /// The client certificate and its key cannot be used.
    pub fn with_tls(&self, tls: TlsSettings) -> Result<Self, SetupError> {
        Self::build(Arc::clone(&self.machine), tls, Versions::Http1)
    }

    /// The same clients for a server that does not speak HTTP/1.1.
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
                // Redirects are followed by who asks, who knows when credentials have to stay behind.
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
            led: direct(Reach::Led(None))?,
            led_from_machine: direct(Reach::Led(Some(NetworkScope::Machine)))?,
            led_from_link: direct(Reach::Led(Some(NetworkScope::Link)))?,
            machine,
            tls,
        })
    }

    /// The client for a `url` whose host the user named: neither this machine itself nor what serves its metadata is ever behind a
    /// proxy.
    pub fn for_url(&self, url: &Url) -> &reqwest::Client {
        if self.is_proxied(url) { &self.proxied } else { &self.direct }
    }

    /// The client for a `url` that a server named, be it in a redirect, an upload session or a challenge; `home` is what the user
    /// named. Its host may be that of `home` again, or one elsewhere. A `home` that says of itself that it is on this machine, or at
    /// its link, may also lead there.
    ///
    /// The client makes sure of it when it has resolved the name. Behind a proxy it is the proxy that resolves it, so that no
    /// more is known than what the name itself says.
    ///
    /// # Errors
    /// The host says of itself that it is somewhere else.
    pub fn for_lead(&self, home: &Url, url: &Url) -> Result<&reqwest::Client, LedAstray> {
        self.led_by(home.host_str(), url)
    }

    /// The same for a `url` that servers led to by more than one step.
    ///
    /// # Errors
    /// The host says of itself that it is somewhere else.
    pub fn for_step(&self, lead: &Lead, url: &Url) -> Result<&reqwest::Client, LedAstray> {
        self.led_by(lead.home(), url)
    }

    fn led_by(&self, home: Option<&str>, url: &Url) -> Result<&reqwest::Client, LedAstray> {
        match Reach::of(home, url.host_str().unwrap_or_default())? {
            Reach::Named => Ok(self.for_url(url)),
            Reach::Led(_) if self.is_proxied(url) => Ok(&self.proxied),
            Reach::Led(Some(NetworkScope::Machine)) => Ok(&self.led_from_machine),
            Reach::Led(Some(NetworkScope::Link)) => Ok(&self.led_from_link),
            Reach::Led(Some(NetworkScope::Elsewhere) | None) => Ok(&self.led),
        }
    }

    /// Makes sure that all addresses of a `host` are where a lead may go to, for a connection that is not of HTTP and that somebody
    /// else makes. The name may have another address by then.
    ///
    /// # Errors
    /// One of them is somewhere else, or there is none.
    pub async fn judge(&self, lead: &Lead, host: &str) -> Result<(), Unjudged> {
        self.machine.names.judge(Reach::of(lead.home(), host)?, host).await
    }

    /// The host that the user named has answered: from now on it stays where it is.
    pub fn settle(&self, home: &Url, response: &Response) {
        self.settle_at(home.host_str(), response);
    }

    /// The same for an answer to a request that [`Self::for_step`] had the client for.
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
