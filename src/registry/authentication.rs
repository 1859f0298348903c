//! How a host wants to be authenticated to, and the tokens it gave us (Docker's token specification).
//!
//! A token is good for a set of scopes. When the registry's challenge names more than we asked for, the set grows and stays
//! grown for later requests. All requests with the same set share one token, and one of them fetches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::challenge;
use super::credentials::{Keychain, Login, Lookup};
use super::error::{Refusal, RegistryError};
use super::transport::{HttpOrigin, error_body, read_bounded};
use crate::diag::redact::{self, Secret};
use crate::http::{is_loopback, retry_after};

/// What a token lives if the server does not say (Docker's token specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is renewed when it has less than this to live, or less than half of its life: uploads take a while.
const MARGIN: Duration = Duration::from_secs(60);
const MAX_TOKEN_RESPONSE: usize = 1 << 20;

/// What a request needs to be allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Access {
    /// The repository the request is about; it decides which credentials are used.
    pub(super) repository: String,
    /// `repository:a/b:pull,push` …
    pub(super) scopes: BTreeSet<String>,
}

impl Access {
    pub(super) fn pull(repository: &str) -> Self {
        Self { repository: repository.to_owned(), scopes: BTreeSet::from([format!("repository:{repository}:pull")]) }
    }

    pub(super) fn push(repository: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            scopes: BTreeSet::from([format!("repository:{repository}:pull,push")]),
        }
    }

    /// Also reading another repository, which a cross-repository mount needs.
    pub(super) fn and_pull(mut self, source: &str) -> Self {
        self.scopes.insert(format!("repository:{source}:pull"));
        self
    }
}

#[derive(Debug, Clone)]
enum Scheme {
    Anonymous,
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

#[derive(Debug)]
struct Token {
    value: Secret<String>,
    expires: Instant,
    life: Duration,
}

impl Token {
    fn usable(&self) -> bool {
        self.expires.saturating_duration_since(Instant::now()) > MARGIN.min(self.life / 2)
    }
}

#[derive(Debug, Default)]
struct Session {
    scopes: BTreeSet<String>,
    token: Option<Token>,
    /// Counts the tokens, so that of many requests refused with the same token only one fetches another.
    generation: u64,
}

/// What was sent, to be held against the answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    pub(super) header: Option<HeaderValue>,
    generation: u64,
}

/// The authentication of one registry.
#[derive(Debug)]
pub(super) struct Authenticator {
    registry: String,
    keychain: Arc<Keychain>,
    scheme: Mutex<Scheme>,
    sessions: Mutex<BTreeMap<Access, Arc<tokio::sync::Mutex<Session>>>>,
}

#[derive(Deserialize)]
struct TokenResponse {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        // The data are replaced as a whole, a panic in between leaves nothing half-done.
        Err(poisoned) => poisoned.into_inner(),
    }
}

impl Authenticator {
    /// `registry` is the name that credentials are looked up by.
    pub(super) fn new(registry: &str, keychain: Arc<Keychain>) -> Self {
        Self {
            registry: registry.to_owned(),
            keychain,
            scheme: Mutex::new(Scheme::Anonymous),
            sessions: Mutex::default(),
        }
    }

    fn lookup(&self, access: &Access) -> Result<Lookup, RegistryError> {
        self.keychain.lookup(&self.registry, &access.repository).map_err(|source| RegistryError::Credentials { source })
    }

    /// For messages: which credentials requests for `access` are made with.
    pub(super) fn describe(&self, access: &Access) -> String {
        match self.lookup(access) {
            Ok(lookup) => lookup.describe(),
            Err(error) => error.to_string(),
        }
    }

    /// Takes the challenges of a 401 into account. False if there is nothing new to try.
    pub(super) async fn challenged(
        &self,
        origin: &HttpOrigin,
        access: &Access,
        headers: &HeaderMap,
        sent: &Sent,
        operation: &str,
    ) -> Result<bool, RegistryError> {
        let offered: Vec<challenge::Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        if let Some(bearer) = offered.iter().find(|c| c.scheme == "bearer" && c.parameters.contains_key("realm")) {
            let realm = bearer.parameters.get("realm").map_or("", String::as_str);
            let realm = origin.base.join(realm).map_err(|_invalid| RegistryError::Protocol {
                operation: operation.to_owned(),
                host: origin.host.clone(),
                problem: format!("names a token server that is no URL: {}", redact::url(realm)),
            })?;
            let service = bearer.parameters.get("service").cloned();
            *locked(&self.scheme) = Scheme::Bearer { realm, service };
            let session = self.session(access);
            let mut session = session.lock().await;
            if let Some(scope) = bearer.parameters.get("scope") {
                session.scopes.extend(scope.split_whitespace().map(str::to_owned));
            }
            if session.generation == sent.generation {
                session.token = None;
            }
            return Ok(true);
        }
        if offered.iter().any(|challenge| challenge.scheme == "basic") {
            *locked(&self.scheme) = Scheme::Basic;
            return Ok(sent.header.is_none() && self.lookup(access)?.login().is_some());
        }
        if let Some(other) = offered.first() {
            tracing::debug!(registry = %self.registry, scheme = %other.scheme, "unknown way to authenticate");
        }
        Ok(false)
    }

    fn session(&self, access: &Access) -> Arc<tokio::sync::Mutex<Session>> {
        let mut sessions = locked(&self.sessions);
        let session = sessions.entry(access.clone()).or_insert_with(|| {
            Arc::new(tokio::sync::Mutex::new(Session { scopes: access.scopes.clone(), ..Session::default() }))
        });
        Arc::clone(session)
    }

    /// The `Authorization` of a request; none where the host wants none.
    pub(super) async fn authorization(
        &self,
        origin: &HttpOrigin,
        access: &Access,
        operation: &str,
    ) -> Result<Sent, RegistryError> {
        let scheme = locked(&self.scheme).clone();
        match scheme {
            Scheme::Anonymous => Ok(Sent::default()),
            Scheme::Basic => {
                let lookup = self.lookup(access)?;
                Ok(Sent { header: lookup.login().and_then(basic), generation: 0 })
            }
            Scheme::Bearer { realm, service } => {
                let session = self.session(access);
                let mut session = session.lock().await;
                if !session.token.as_ref().is_some_and(Token::usable) {
                    let scopes = session.scopes.clone();
                    let token = self.fetch_token(origin, access, realm, service.as_deref(), &scopes, operation).await?;
                    session.token = Some(token);
                    session.generation += 1;
                }
                let header = session.token.as_ref().and_then(|token| secret_header("Bearer", token.value.reveal()));
                Ok(Sent { header, generation: session.generation })
            }
        }
    }

    async fn fetch_token(
        &self,
        origin: &HttpOrigin,
        access: &Access,
        mut realm: Url,
        service: Option<&str>,
        scopes: &BTreeSet<String>,
        operation: &str,
    ) -> Result<Token, RegistryError> {
        let shown_realm = redact::url(realm.as_str());
        let lookup = self.lookup(access)?;
        let downgrade = origin.base.scheme() == "https" && realm.scheme() != "https";
        if downgrade && lookup.login().is_some() && !is_loopback(realm.host_str().unwrap_or_default()) {
            return Err(RegistryError::Protocol {
                operation: operation.to_owned(),
                host: origin.host.clone(),
                problem: format!("wants the credentials sent over plain http, to {shown_realm}: refused"),
            });
        }
        {
            let mut query = realm.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            for scope in scopes {
                query.append_pair("scope", scope);
            }
        }
        tracing::debug!(realm = %shown_realm, ?scopes, "fetch a token");
        let token_host = realm.authority().rsplit('@').next().unwrap_or_default().to_owned();
        let mut request = origin.clients.for_url(&realm).request(Method::GET, realm);
        if let Some(header) = lookup.login().and_then(basic) {
            request = request.header(AUTHORIZATION, header);
        }
        let response = request.send().await.map_err(|error| RegistryError::from_http(operation, &token_host, error))?;
        let status = response.status();
        let wait = retry_after(response.headers());
        let body = read_bounded(response, MAX_TOKEN_RESPONSE, operation, &token_host).await?;
        if !status.is_success() {
            return Err(RegistryError::Refused(Box::new(Refusal {
                operation: operation.to_owned(),
                host: origin.host.clone(),
                token_server: Some(shown_realm),
                status,
                remote: error_body(&body),
                credentials: lookup.describe(),
                retry_after: wait,
            })));
        }
        let malformed = |problem: &str| RegistryError::Protocol {
            operation: operation.to_owned(),
            host: token_host.clone(),
            problem: problem.to_owned(),
        };
        // The JSON library's message may quote the token.
        let parsed: TokenResponse = serde_json::from_slice(&body)
            .map_err(|_secret| malformed("sent a token response that is no JSON object"))?;
        let value = parsed
            .token
            .or(parsed.access_token)
            .filter(|token| !token.is_empty())
            .ok_or_else(|| malformed("sent a response without a token"))?;
        let life = parsed.expires_in.filter(|seconds| *seconds > 0).map_or(DEFAULT_LIFE, Duration::from_secs);
        let life = life.min(Duration::from_secs(86_400));
        Ok(Token { value: Secret::new(value), expires: Instant::now() + life, life })
    }
}

fn basic(login: &Login) -> Option<HeaderValue> {
    use base64::Engine;
    let pair = format!("{}:{}", login.username, login.password.reveal());
    secret_header("Basic", &base64::engine::general_purpose::STANDARD.encode(pair))
}

/// A header that the HTTP library does not print. A token with control characters makes none; the request is then refused,
/// with a message that says which credentials were used.
fn secret_header(scheme: &str, value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("{scheme} {value}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}
