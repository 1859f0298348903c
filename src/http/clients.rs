//! The HTTP clients: TLS, name resolution, proxies, time limits.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rustls::RootCertStore;

use super::origin::{is_link_local, is_loopback};
use super::tls::{TlsError, TlsSettings, machine_roots};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP library cannot start.
    #[error("start the HTTP library")]
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

/// One client for what lies behind the environment's proxies, and one for this machine itself.
#[derive(Debug, Clone)]
pub struct HttpClients {
    user_agent: String,
    roots: Arc<RootCertStore>,
    tls: TlsSettings,
    proxied: reqwest::Client,
    direct: reqwest::Client,
}

impl HttpClients {
    /// Reads the machine's certificate authorities and the environment's proxies, once.
    ///
    /// # Errors
    /// The HTTP library cannot start.
    pub fn new(user_agent: &str) -> Result<Self, SetupError> {
        Self::build(user_agent, Arc::new(machine_roots()), TlsSettings::default(), Versions::Http1)
    }

    /// Clients for a server with settings of its own.
    ///
    /// # Errors
    /// The client certificate and its key cannot be used.
    pub fn with_tls(&self, tls: TlsSettings) -> Result<Self, SetupError> {
        Self::build(&self.user_agent, Arc::clone(&self.roots), tls, Versions::Http1)
    }

    /// The same clients for a server that does not speak HTTP/1.1.
    ///
    /// # Errors
    /// The HTTP library cannot start.
    pub fn with_http2(&self) -> Result<Self, SetupError> {
        Self::build(&self.user_agent, Arc::clone(&self.roots), self.tls.clone(), Versions::Any)
    }

    fn build(
        user_agent: &str,
        roots: Arc<RootCertStore>,
        tls: TlsSettings,
        versions: Versions,
    ) -> Result<Self, SetupError> {
        let protocols: &[&[u8]] = match versions {
            Versions::Http1 => &[b"http/1.1"],
            Versions::Any => &[b"h2", b"http/1.1"],
        };
        let config = tls.client_config(&roots, protocols)?;
        let builder = || {
            let builder = reqwest::Client::builder()
                .user_agent(user_agent)
                .tls_backend_preconfigured(config.clone())
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
        let proxied = builder().build().map_err(SetupError::Library)?;
        let direct = builder().no_proxy().build().map_err(SetupError::Library)?;
        Ok(Self { user_agent: user_agent.to_owned(), roots, tls, proxied, direct })
    }

    /// The client for `url`: neither this machine itself nor what serves its metadata is ever behind a proxy.
    pub fn for_url(&self, url: &Url) -> &reqwest::Client {
        let host = url.host_str().unwrap_or_default();
        if is_loopback(host) || is_link_local(host) { &self.direct } else { &self.proxied }
    }
}
