//! The client itself: which hosts may be spoken to in plain http, and one shared endpoint for each.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use reqwest::Url;
use tokio::sync::{OnceCell, Semaphore};

use super::authentication::Authenticator;
use super::credentials::Keychain;
use super::error::RegistryError;
use super::transport::{Endpoint, HttpOrigin, ping};
use crate::diag::progress::Progress;
use crate::http::{self, HttpClients, RetryPolicy, is_loopback};
use crate::image::Reference;

/// How many blobs move at the same time.
const MAX_TRANSFERS: usize = 4;

/// What the user can set.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Pushes may use plain http where https fails.
    pub insecure: bool,
    /// Pulls may use plain http where https fails.
    pub insecure_pull: bool,
    /// Registries (`host[:port]`) that pushes and pulls may reach over plain http where https fails.
    pub insecure_registries: Vec<String>,
    /// The `User-Agent`.
    pub user_agent: String,
    /// How often transient errors are tried again.
    pub retry: RetryPolicy,
    /// Where transfers report.
    pub progress: Progress,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            insecure: false,
            insecure_pull: false,
            insecure_registries: Vec::new(),
            user_agent: http::USER_AGENT.to_owned(),
            retry: RetryPolicy::default(),
            progress: Progress::hidden(),
        }
    }
}

/// Whether a request reads or writes; they may be allowed plain http independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Pull,
    Push,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PlainHttp {
    Never,
    /// Where https does not work.
    Fallback,
    /// At once.
    Only,
}

/// A client for all registries of a build; cheap to clone, and safe to use from several tasks.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    keychain: Arc<Keychain>,
    http: HttpClients,
    endpoints: Mutex<EndpointCells>,
    transfers: Semaphore,
}

/// By registry host and by how plain http is allowed there; filled by the first request.
type EndpointCells = BTreeMap<(String, PlainHttp), Arc<OnceCell<Arc<Endpoint>>>>;

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with the credentials of the environment's Docker config, which are read now and not again.
    ///
    /// # Errors
    /// The Docker config or the HTTP client cannot be used.
    pub fn new(config: ClientConfig) -> Result<Self, RegistryError> {
        let keychain = Keychain::from_environment().map_err(|source| RegistryError::Credentials { source })?;
        Self::with_keychain(config, keychain)
    }

    /// A client with other credentials.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn with_keychain(config: ClientConfig, keychain: Keychain) -> Result<Self, RegistryError> {
        let http = HttpClients::new(&config.user_agent).map_err(|source| RegistryError::Setup { source })?;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                keychain: Arc::new(keychain),
                http,
                endpoints: Mutex::default(),
                transfers: Semaphore::new(MAX_TRANSFERS),
            }),
        })
    }

    /// Where transfers report.
    pub fn progress(&self) -> &Progress {
        &self.inner.config.progress
    }

    pub(super) fn policy(&self) -> &RetryPolicy {
        &self.inner.config.retry
    }

    /// Bounds how many blobs move at once; released when dropped.
    pub(super) async fn transfer_slot(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.inner.transfers.acquire().await.ok()
    }

    fn plain_http(&self, registry: &str, host: &str, purpose: Purpose) -> PlainHttp {
        let config = &self.inner.config;
        let named = config.insecure_registries.iter().any(|insecure| insecure == registry || insecure == host);
        let allowed = named
            || match purpose {
                Purpose::Pull => config.insecure_pull,
                Purpose::Push => config.insecure,
            };
        match (allowed, is_loopback(host_without_port(host))) {
            (true, true) => PlainHttp::Only,
            (true, false) | (false, true) => PlainHttp::Fallback,
            (false, false) => PlainHttp::Never,
        }
    }

    /// The registry of `reference`, pinged by the first who asks.
    pub(super) async fn endpoint(
        &self,
        reference: &Reference,
        purpose: Purpose,
        operation: &str,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        let host = reference.registry_host().to_owned();
        let plain = self.plain_http(&reference.registry, &host, purpose);
        let cell = {
            let mut endpoints = match self.inner.endpoints.lock() {
                Ok(endpoints) => endpoints,
                // Entries are only ever added.
                Err(poisoned) => poisoned.into_inner(),
            };
            Arc::clone(endpoints.entry((host.clone(), plain)).or_default())
        };
        let endpoint = cell.get_or_try_init(|| self.connect(&reference.registry, &host, plain, operation)).await?;
        Ok(Arc::clone(endpoint))
    }

    async fn connect(
        &self,
        registry: &str,
        host: &str,
        plain: PlainHttp,
        operation: &str,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        if plain == PlainHttp::Only {
            return self.ping("http", registry, host, operation).await;
        }
        let refused = match self.ping("https", registry, host, operation).await {
            Err(error) if plain == PlainHttp::Fallback && error.suggests_plain_http() => error,
            other => return other,
        };
        tracing::debug!(host, error = %refused, "https does not work, try plain http");
        let fallback = self.ping("http", registry, host, operation).await;
        // What a TLS server makes of plain http explains nothing.
        if fallback.is_err() && refused.blames_certificate() { Err(refused) } else { fallback }
    }

    async fn ping(
        &self,
        scheme: &str,
        registry: &str,
        host: &str,
        operation: &str,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        let base = Url::parse(&format!("{scheme}://{host}/")).map_err(|_invalid| RegistryError::Protocol {
            operation: operation.to_owned(),
            host: host.to_owned(),
            problem: "is not a host that a URL can name".to_owned(),
        })?;
        let origin = HttpOrigin { host: host.to_owned(), base, clients: self.inner.http.clone() };
        let authenticator = Authenticator::new(registry, Arc::clone(&self.inner.keychain));
        // Not retried here: each request that needs the endpoint runs inside `http::run`.
        ping(origin, authenticator, operation).await
    }

    /// Runs `attempt` with an endpoint, again where that may help.
    pub(super) async fn with_endpoint<T, A, F>(
        &self,
        reference: &Reference,
        purpose: Purpose,
        operation: &str,
        attempt: A,
    ) -> Result<T, RegistryError>
    where
        A: Fn(Arc<Endpoint>) -> F,
        F: Future<Output = Result<T, RegistryError>>,
    {
        http::run(self.policy(), operation, || async {
            let endpoint = self.endpoint(reference, purpose, operation).await?;
            attempt(endpoint).await
        })
        .await
    }
}

fn host_without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.split_once(']').map_or(host, |(address, _)| address);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_those_who_may() {
        let config = ClientConfig {
            insecure: true,
            insecure_registries: vec!["r.example:5000".to_owned()],
            ..ClientConfig::default()
        };
        let client = Client::with_keychain(config, Keychain::default()).unwrap();
        let plain = |host: &str, purpose| client.plain_http(host, host, purpose);
        assert_eq!(plain("other.example", Purpose::Pull), PlainHttp::Never);
        assert_eq!(plain("other.example", Purpose::Push), PlainHttp::Fallback);
        assert_eq!(plain("r.example:5000", Purpose::Pull), PlainHttp::Fallback);
        assert_eq!(plain("r.example", Purpose::Pull), PlainHttp::Never);
        assert_eq!(plain("localhost:5000", Purpose::Pull), PlainHttp::Fallback);
        assert_eq!(plain("127.0.0.1:5000", Purpose::Push), PlainHttp::Only);
        assert_eq!(plain("[::1]:5000", Purpose::Push), PlainHttp::Only);
    }
}
