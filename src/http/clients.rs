//! The HTTP clients: certificate authorities, name resolution, proxies, time limits.
//!
//! Authorities are those of the machine (`SSL_CERT_FILE` and `SSL_CERT_DIR` honoured) together with Mozilla's, which are
//! compiled in: an executor image made from scratch has no file of them, and the HTTP library refuses to start with none.

use std::time::Duration;

use reqwest::Url;

use super::origin::is_loopback;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// One client for what lies behind the environment's proxies, and one for this machine itself.
#[derive(Debug, Clone)]
pub struct HttpClients {
    proxied: reqwest::Client,
    direct: reqwest::Client,
}

impl HttpClients {
    /// Reads the machine's certificate authorities and the environment's proxies, once.
    ///
    /// # Errors
    /// The HTTP library cannot start.
    pub fn new(user_agent: &str) -> Result<Self, reqwest::Error> {
        let build = |builder: reqwest::ClientBuilder| builder.build();
        let roots = machine_roots();
        let clients = build(builder(user_agent, &roots))
            .and_then(|proxied| Ok(Self { proxied, direct: build(builder(user_agent, &roots).no_proxy())? }));
        match clients {
            Ok(clients) => Ok(clients),
            Err(error) if roots.is_empty() => Err(error),
            Err(error) => {
                // One malformed file among the machine's authorities must not cost us all servers.
                tracing::warn!(%error, "the certificate authorities of this machine are not usable, only the built-in ones are used");
                let proxied = build(builder(user_agent, &[]))?;
                Ok(Self { proxied, direct: build(builder(user_agent, &[]).no_proxy())? })
            }
        }
    }

    /// The client for `url`: this machine itself is never behind a proxy.
    pub fn for_url(&self, url: &Url) -> &reqwest::Client {
        if is_loopback(url.host_str().unwrap_or_default()) { &self.direct } else { &self.proxied }
    }
}

fn machine_roots() -> Vec<reqwest::Certificate> {
    let found = rustls_native_certs::load_native_certs();
    let asked_for = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    for error in &found.errors {
        if asked_for {
            tracing::warn!(%error, "a certificate authority of SSL_CERT_FILE or SSL_CERT_DIR cannot be read");
        } else {
            tracing::debug!(%error, "skip a certificate authority");
        }
    }
    found.certs.iter().filter_map(|certificate| reqwest::Certificate::from_der(certificate).ok()).collect()
}

fn builder(user_agent: &str, machine_roots: &[reqwest::Certificate]) -> reqwest::ClientBuilder {
    let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|certificate| reqwest::Certificate::from_der(certificate).ok());
    reqwest::Client::builder()
        .user_agent(user_agent)
        .tls_certs_only(bundled.chain(machine_roots.iter().cloned()))
        .connect_timeout(CONNECT_TIMEOUT)
        // Redirects are followed by who asks, who knows when credentials have to stay behind.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        // Blobs move faster over several connections than over the streams of one, behind some registries much faster.
        .http1_only()
}
