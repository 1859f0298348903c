//! The registry client: decides which hosts may use plain http, shares one endpoint for each, and falls back from
//! failed mirrors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use reqwest::Url;
use tokio::sync::{OnceCell, Semaphore};

use super::access::Purpose;
use super::authentication::Authenticator;
use super::config::ClientConfig;
use super::credentials::{Keychain, Variables};
use super::error::RegistryError;
use super::mirrors::PullSources;
use super::origin::{HttpOrigin, PlainHosts};
use super::traffic::{Meter, Traffic};
use super::transport::{Endpoint, ping};
use super::trust::Trust;
use super::upload_session::OrphanedSession;
use crate::diag::progress::Progress;
use crate::http::{self, Pace, RetryPolicy, is_loopback, is_private};
use crate::image::Reference;

/// The most transfers of blobs at the same time.
const MAX_TRANSFERS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PlainHttp {
    Never,
    /// After https has failed.
    Fallback,
    /// Without trying https.
    Only,
}

/// A client for all registries of a build; cheap to clone and usable from several tasks.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// A lower limit for the attempts of a request than the configured one.
    max_attempts: Option<u32>,
}

struct Inner {
    config: ClientConfig,
    keychain: Arc<Keychain>,
    trust: Arc<Trust>,
    endpoints: Mutex<EndpointCells>,
    /// Mirrors that did not respond, by registry.
    outages: Mutex<BTreeSet<String>>,
    transfers: Semaphore,
    orphaned_sessions: Mutex<Vec<OrphanedSession>>,
    meter: Arc<Meter>,
}

/// Endpoints by registry host and approach; filled by the first request.
type EndpointCells = BTreeMap<(String, Approach), Arc<OnceCell<Arc<Endpoint>>>>;

/// The ways in which a registry may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Approach {
    plain: PlainHttp,
    /// True if credentials may be sent over plain http.
    passwords: bool,
    /// True if certificates are checked, unless a setting for the server says otherwise.
    verify: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client with the credentials of the environment. Their files are read now and not again.
    ///
    /// # Errors
    /// The Docker config, a certificate or the HTTP client cannot be used.
    pub fn new(config: ClientConfig) -> Result<Self, RegistryError> {
        let trust = Trust::new(&config)?;
        let keychain = Keychain::new(
            Variables::of_process(),
            config.named_registries.clone(),
            config.credential_sources.clone(),
            config.azure_configuration.as_deref(),
            trust.without_settings().clone(),
        )
        .map_err(|source| RegistryError::Credentials { source })?;
        Ok(Self::assemble(config, keychain, trust))
    }

    /// Creates a client with the credentials of `keychain`.
    ///
    /// # Errors
    /// A certificate or the HTTP client cannot be used.
    pub fn with_keychain(config: ClientConfig, keychain: Keychain) -> Result<Self, RegistryError> {
        let trust = Trust::new(&config)?;
        Ok(Self::assemble(config, keychain, trust))
    }

    fn assemble(config: ClientConfig, keychain: Keychain, trust: Trust) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                keychain: Arc::new(keychain),
                trust: Arc::new(trust),
                endpoints: Mutex::default(),
                outages: Mutex::default(),
                transfers: Semaphore::new(MAX_TRANSFERS),
                orphaned_sessions: Mutex::default(),
                meter: Arc::default(),
            }),
            max_attempts: None,
        }
    }

    /// Returns the display of transfers.
    pub fn progress(&self) -> &Progress {
        &self.inner.config.progress
    }

    /// Returns the same client with a limit for attempts, for requests whose failure costs less than waiting.
    #[must_use]
    pub fn with_max_attempts(&self, attempts: u32) -> Self {
        Self { inner: Arc::clone(&self.inner), max_attempts: Some(attempts) }
    }

    /// Returns the requests and bytes exchanged with registries so far.
    pub fn traffic(&self) -> Traffic {
        self.inner.meter.read()
    }

    /// Returns the minimum pace of pulled blobs.
    pub(super) fn pace(&self) -> Pace {
        self.inner.config.pace
    }

    fn policy(&self, purpose: Purpose) -> RetryPolicy {
        let config = &self.inner.config;
        let retries = match purpose {
            Purpose::Pull => config.pull_retries,
            Purpose::Push => config.push_retries,
        };
        let attempts = config.retry.attempts.max(retries.saturating_add(1));
        RetryPolicy {
            attempts: self.max_attempts.map_or(attempts, |max_attempts| max_attempts.min(attempts)),
            ..config.retry
        }
    }

    /// Returns the sources to pull an image from, in order. Mirrors that are down are left out, so that not every blob
    /// waits for them.
    pub(super) fn pull_sources(&self, reference: &Reference) -> PullSources {
        let mut pull_sources = self.inner.config.mirrors.pull_sources(reference);
        let outages = self.inner.outages.lock();
        pull_sources.first.retain(|source| !outages.contains(&source.registry));
        pull_sources
    }

    /// Returns the error of a mirror if the next source cannot help; otherwise logs it.
    pub(super) fn try_next_source(&self, source: &Reference, error: RegistryError) -> Result<(), RegistryError> {
        if !error.concerns_server() {
            return Err(error);
        }
        if error.is_outage() {
            self.inner.outages.lock().insert(source.registry.clone());
        }
        tracing::warn!("{error}; the next registry is tried");
        Ok(())
    }

    /// Waits for one of the transfer slots; released when dropped.
    pub(super) async fn transfer_slot(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.inner.transfers.acquire().await.ok()
    }

    /// Returns a transfer slot if one is free.
    pub(super) fn free_transfer_slot(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.inner.transfers.try_acquire().ok()
    }

    /// Returns the abandoned uploads that their registries still wait for.
    pub(super) fn orphaned_sessions(&self) -> MutexGuard<'_, Vec<OrphanedSession>> {
        self.inner.orphaned_sessions.lock()
    }

    fn approach(&self, registry: &str, host: &str, purpose: Purpose) -> Approach {
        let config = &self.inner.config;
        let named = self.insecure_hosts().any(|insecure| insecure == registry || insecure == host);
        let is_allowed = match purpose {
            Purpose::Pull => config.insecure_pull,
            Purpose::Push => config.insecure,
        };
        let name = host_without_port(host);
        // As in kaniko: https cannot be expected for a name that no public authority certifies.
        let local = is_loopback(name) || is_private(name) || name.ends_with(".local");
        let plain = match (named || is_allowed, is_loopback(name)) {
            (true, true) => PlainHttp::Only,
            (true, false) => PlainHttp::Fallback,
            (false, _) if local => PlainHttp::Fallback,
            (false, _) => PlainHttp::Never,
        };
        // Anyone on the network path can make https fail, so a password needs an explicit setting.
        let passwords = named || (is_allowed && config.named_registries.contains(registry));
        Approach { plain, passwords, verify: Trust::verifies(config, purpose) }
    }

    /// Returns the hosts (`host[:port]`) that flags name for plain http.
    fn insecure_hosts(&self) -> impl Iterator<Item = &String> {
        self.inner.config.insecure_registries.iter().chain(self.inner.config.mirrors.plain_http())
    }

    /// Returns the endpoint of `reference`'s registry, which the first caller pings.
    pub(super) async fn endpoint(
        &self,
        reference: &Reference,
        purpose: Purpose,
        operation: &str,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        let host = reference.registry_host().to_owned();
        let approach = self.approach(&reference.registry, &host, purpose);
        let cell = Arc::clone(self.inner.endpoints.lock().entry((host.clone(), approach)).or_default());
        let connect = async || {
            let base = Url::parse(&format!("https://{host}/")).map_err(|_invalid| RegistryError::Protocol {
                operation: operation.to_owned(),
                host: host.clone(),
                problem: "is not a valid host name".to_owned(),
            })?;
            let trust = Arc::clone(&self.inner.trust);
            let clients = trust.clients(&base, approach.verify).clone();
            let plain = PlainHosts { registry: approach.passwords, named: self.insecure_hosts().cloned().collect() };
            let meter = Arc::clone(&self.inner.meter);
            let origin = HttpOrigin {
                host: host.clone(),
                base,
                clients,
                trust,
                verify: approach.verify,
                plain: Arc::new(plain),
                meter,
            };
            self.connect(&reference.registry, origin, approach.plain, operation).await
        };
        let endpoint = cell.get_or_try_init(connect).await?;
        Ok(Arc::clone(endpoint))
    }

    async fn connect(
        &self,
        registry: &str,
        https: HttpOrigin,
        plain: PlainHttp,
        operation: &str,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        let mut http = https.clone();
        // Both schemes have a host, so this does not fail.
        if http.base.set_scheme("http").is_err() || plain == PlainHttp::Only {
            return self.ping(registry, http, operation).await;
        }
        let refused = match self.ping(registry, https.clone(), operation).await {
            Err(error) if error.refuses_protocol() => {
                let clients = https.clients.with_http2().map_err(|source| RegistryError::Setup { source })?;
                return self.ping(registry, HttpOrigin { clients, ..https }, operation).await;
            }
            // A server that speaks TLS does not answer plain http.
            Err(error)
                if plain == PlainHttp::Fallback && error.suggests_plain_http() && !error.blames_certificate() =>
            {
                error
            }
            other => return other,
        };
        tracing::debug!(host = %http.host, error = %refused, "https does not work, try plain http");
        self.ping(registry, http, operation).await
    }

    async fn ping(&self, registry: &str, origin: HttpOrigin, operation: &str) -> Result<Arc<Endpoint>, RegistryError> {
        let authenticator = Authenticator::new(registry, Arc::clone(&self.inner.keychain));
        // Not retried here: each request that needs the endpoint runs inside `http::run`.
        ping(origin, authenticator, operation).await
    }

    /// Runs `attempt` with an endpoint, and retries transient errors.
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
        http::run(&self.policy(purpose), operation, || async {
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
    fn plain_http_is_for_allowed_hosts_only() {
        let config = ClientConfig {
            insecure: true,
            insecure_registries: vec!["r.example:5000".to_owned()],
            ..ClientConfig::default()
        };
        let client = Client::with_keychain(config, Keychain::default()).unwrap();
        let plain = |host: &str, purpose| client.approach(host, host, purpose).plain;
        assert_eq!(plain("other.example", Purpose::Pull), PlainHttp::Never);
        assert_eq!(plain("other.example", Purpose::Push), PlainHttp::Fallback);
        assert_eq!(plain("r.example:5000", Purpose::Pull), PlainHttp::Fallback);
        assert_eq!(plain("r.example", Purpose::Pull), PlainHttp::Never);
        assert_eq!(plain("localhost:5000", Purpose::Pull), PlainHttp::Fallback);
        assert_eq!(plain("127.0.0.1:5000", Purpose::Push), PlainHttp::Only);
        assert_eq!(plain("[::1]:5000", Purpose::Push), PlainHttp::Only);
        for host in ["10.1.2.3", "192.168.0.1:5000", "[fd00::1]:5000", "registry.local", "registry.local:5000"] {
            assert_eq!(plain(host, Purpose::Pull), PlainHttp::Fallback, "{host}");
        }
        assert_eq!(plain("8.8.8.8", Purpose::Pull), PlainHttp::Never);
    }

    #[test]
    fn passwords_go_over_plain_http_if_a_flag_names_the_host() {
        let config = ClientConfig {
            insecure: true,
            insecure_pull: true,
            insecure_registries: vec!["named.example".to_owned()],
            named_registries: BTreeSet::from(["destination.example".to_owned()]),
            ..ClientConfig::default()
        };
        let careless = Client::with_keychain(config, Keychain::default()).unwrap();
        let careful = Client::with_keychain(ClientConfig::default(), Keychain::default()).unwrap();
        let passwords = |client: &Client, host: &str| client.approach(host, host, Purpose::Pull).passwords;
        assert!(passwords(&careless, "named.example") && passwords(&careless, "destination.example"));
        for host in ["base.example", "10.1.2.3:5000", "registry.local"] {
            assert!(!passwords(&careless, host), "{host}: a Dockerfile named it");
            assert!(!passwords(&careful, host), "{host}");
        }
    }
}
