//! The address of a registry, its HTTP clients, and the hosts that credentials may be sent to.

use std::sync::Arc;

use reqwest::{Response, Url};

use super::traffic::Meter;
use super::trust::{self, Trust};
use crate::http::{ForbiddenReference, HttpClients, host_of, is_loopback};

/// The address of a registry, and the HTTP clients for it and for the servers that it refers to.
#[derive(Debug, Clone)]
pub(super) struct HttpOrigin {
    /// `host[:port]`, for messages.
    pub(super) host: String,
    /// `https://host[:port]/`
    pub(super) base: Url,
    /// Clients for the registry itself.
    pub(super) clients: HttpClients,
    /// Clients for token servers and storage on other hosts, each with its own settings.
    pub(super) trust: Arc<Trust>,
    /// True if certificates are checked, unless a setting for the server says otherwise.
    pub(super) verify: bool,
    /// The hosts that credentials may be sent to over plain http.
    pub(super) plain: Arc<PlainHosts>,
    /// Counts the traffic with the registry.
    pub(super) meter: Arc<Meter>,
}

/// The hosts that credentials may be sent to over plain http.
#[derive(Debug, Default)]
pub(super) struct PlainHosts {
    /// True if the registry itself is one.
    pub(super) registry: bool,
    /// Hosts (`host[:port]`) that flags name.
    pub(super) named: Vec<String>,
}

impl HttpOrigin {
    /// Returns the client for requests to `url`.
    pub(super) fn client_for(&self, url: &Url) -> Result<&reqwest::Client, ForbiddenReference> {
        let own = trust::server(url) == trust::server(&self.base);
        let clients = if own { &self.clients } else { self.trust.clients(url, self.verify) };
        clients.for_lead(&self.base, url)
    }

    /// Reports whether credentials for this registry may be sent to `url`.
    pub(super) fn owns(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Reports whether a response comes from the registry itself, so that its text may be shown. Others may come from a
    /// server that the registry redirected to.
    pub(super) fn is_own(&self, response: &Response) -> bool {
        self.owns(response.url())
    }

    /// Reports whether the connection to `url` may carry credentials: encrypted, within this machine, or allowed by the
    /// user.
    pub(super) fn may_carry_credentials(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        url.scheme() == "https"
            || is_loopback(host)
            || (self.plain.registry && url.host_str() == self.base.host_str())
            || self.plain.named.contains(&host_of(url))
    }
}
