//! Where a registry is: its address, the HTTP clients that lead there and on from there, and where credentials may go.

use std::sync::Arc;

use reqwest::{Response, Url};

use super::traffic::Meter;
use super::trust::{self, Trust};
use crate::http::{HttpClients, LedAstray, host_of, is_loopback};

/// Where a registry is, and the HTTP clients that lead there and on from there.
#[derive(Debug, Clone)]
pub(super) struct HttpOrigin {
    /// `host[:port]`, for messages.
    pub(super) host: String,
    /// `https://host[:port]/`
    pub(super) base: Url,
    /// For the registry itself.
    pub(super) clients: HttpClients,
    /// For token servers and storage elsewhere: each is checked in its own way.
    pub(super) trust: Arc<Trust>,
    /// Whether certificates are checked where nothing is said of a server.
    pub(super) verify: bool,
    /// Where credentials may go over plain http.
    pub(super) plain: Arc<PlainHosts>,
    /// What goes there and comes from there.
    pub(super) meter: Arc<Meter>,
}

/// Where credentials may go over plain http.
#[derive(Debug, Default)]
pub(super) struct PlainHosts {
    /// The registry itself.
    pub(super) registry: bool,
    /// `host[:port]` that flags name.
    pub(super) named: Vec<String>,
}

impl HttpOrigin {
    /// The client that may speak to `url`.
    pub(super) fn client_for(&self, url: &Url) -> Result<&reqwest::Client, LedAstray> {
        let own = trust::server(url) == trust::server(&self.base);
        let clients = if own { &self.clients } else { self.trust.clients(url, self.verify) };
        clients.for_lead(&self.base, url)
    }

    /// Whether credentials for this registry may go to `url`.
    pub(super) fn owns(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Whether an answer is the registry's own, whose words may be shown: others may be those of a server that it only led us to.
    pub(super) fn is_own(&self, response: &Response) -> bool {
        self.owns(response.url())
    }

    /// Whether the way to `url` is one for credentials: encrypted, within this machine, or what the user asked for.
    pub(super) fn may_carry_credentials(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        url.scheme() == "https"
            || is_loopback(host)
            || (self.plain.registry && url.host_str() == self.base.host_str())
            || self.plain.named.contains(&host_of(url))
    }
}
