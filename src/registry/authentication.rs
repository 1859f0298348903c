//! Authenticates to a registry: remembers the scheme, and fetches and shares tokens (Docker's token specification).
//!
//! A token is valid for a set of scopes. If a challenge names scopes beyond the requested ones, they are added to the
//! set for all later requests. All requests with the same set share one token, and only one of them fetches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::access::Access;
use super::answer::read_bounded;
use super::challenge;
use super::credentials::{Credential, Keychain, Login, Lookup};
use super::error::{Refusal, RegistryError};
use super::origin::HttpOrigin;
use super::remote_error::error_body;
use crate::diag::redact::{self, Secret};
use crate::http::{host_of, retry_after};

/// The lifetime of a token if the server does not state one (Docker's token specification).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token is renewed when less than this, or less than half of its lifetime, remains: uploads take a while.
const MARGIN: Duration = Duration::from_secs(60);
const MAX_TOKEN_RESPONSE: usize = 1 << 20;
/// The time limit for a token server.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(60);

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
    lifetime: Duration,
}

impl Token {
    fn is_usable(&self) -> bool {
        self.expires.saturating_duration_since(Instant::now()) > MARGIN.min(self.lifetime / 2)
    }
}

#[derive(Debug, Default)]
struct TokenSession {
    scopes: BTreeSet<String>,
    token: Option<Token>,
    /// The number of the token, so that of many requests refused with the same token only one fetches a new one.
    generation: u64,
}

/// The authorization that a request was sent with, to compare with the response.
#[derive(Debug, Clone, Default)]
pub(super) struct SentAuthorization {
    pub(super) header: Option<HeaderValue>,
    generation: u64,
}

/// The authentication state of one registry.
#[derive(Debug)]
pub(super) struct Authenticator {
    registry: String,
    keychain: Arc<Keychain>,
    scheme: Mutex<Scheme>,
    sessions: Mutex<BTreeMap<Access, Arc<tokio::sync::Mutex<TokenSession>>>>,
    /// Limits the warning about credentials that are not sent to one.
    withheld: Once,
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

impl Authenticator {
    /// Creates the state for `registry`, the name by which credentials are looked up.
    pub(super) fn new(registry: &str, keychain: Arc<Keychain>) -> Self {
        Self {
            registry: registry.to_owned(),
            keychain,
            scheme: Mutex::new(Scheme::Anonymous),
            sessions: Mutex::default(),
            withheld: Once::new(),
        }
    }

    /// Returns the credentials for `access`; none if they would go over plain http and the user has not allowed that.
    async fn lookup(&self, origin: &HttpOrigin, access: &Access) -> Result<Lookup, RegistryError> {
        let lookup = self.keychain.lookup(&self.registry, &access.repository).await;
        let lookup = lookup.map_err(|source| RegistryError::Credentials { source })?;
        if lookup.login().is_none() || origin.may_carry_credentials(&origin.base) {
            return Ok(lookup);
        }
        let why = format!(
            "{}, but are not sent over plain http; to allow it, name the registry with --insecure-registry={}",
            lookup.describe(),
            origin.host
        );
        self.withheld.call_once(|| tracing::warn!("{}: {why}", origin.host));
        Ok(Lookup::Anonymous(why))
    }

    /// Describes the credentials of requests for `access`, for messages.
    pub(super) async fn describe(&self, origin: &HttpOrigin, access: &Access) -> String {
        match self.lookup(origin, access).await {
            Ok(lookup) => lookup.describe(),
            Err(error) => error.to_string(),
        }
    }

    /// Returns the scopes that a token for `access` was requested for, for messages; empty without token
    /// authentication.
    pub(super) async fn requested_scopes(&self, access: &Access) -> Vec<String> {
        if !matches!(*self.scheme.lock(), Scheme::Bearer { .. }) {
            return Vec::new();
        }
        let session = self.session(access);
        let session = session.lock().await;
        session.scopes.iter().cloned().collect()
    }

    /// Applies the challenges of a 401. Returns false if there is nothing new to try.
    pub(super) async fn apply_challenges(
        &self,
        origin: &HttpOrigin,
        access: &Access,
        headers: &HeaderMap,
        sent: &SentAuthorization,
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
                problem: format!("names a token server that is not a URL: {}", redact::url(realm)),
            })?;
            let refused = |why: &dyn std::fmt::Display| RegistryError::Protocol {
                operation: operation.to_owned(),
                host: origin.host.clone(),
                problem: format!("names the token server {}: refused, {why}", redact::url(realm.as_str())),
            };
            if !matches!((origin.base.scheme(), realm.scheme()), (_, "https") | ("http", "http")) {
                return Err(refused(&"tokens for a registry on https do not come over plain http"));
            }
            origin.client_for(&realm).map_err(|error| refused(&error))?;
            let service = bearer.parameters.get("service").cloned();
            *self.scheme.lock() = Scheme::Bearer { realm, service };
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
            *self.scheme.lock() = Scheme::Basic;
            return Ok(sent.header.is_none() && self.lookup(origin, access).await?.login().and_then(basic).is_some());
        }
        if let Some(other) = offered.first() {
            tracing::debug!(registry = %self.registry, scheme = %other.scheme, "unknown authentication scheme");
        }
        Ok(false)
    }

    fn session(&self, access: &Access) -> Arc<tokio::sync::Mutex<TokenSession>> {
        let mut sessions = self.sessions.lock();
        let session = sessions.entry(access.clone()).or_insert_with(|| {
            Arc::new(tokio::sync::Mutex::new(TokenSession { scopes: access.scopes.clone(), ..TokenSession::default() }))
        });
        Arc::clone(session)
    }

    /// Returns the `Authorization` of a request; none if the host does not require one.
    pub(super) async fn authorization(
        &self,
        origin: &HttpOrigin,
        access: &Access,
        operation: &str,
    ) -> Result<SentAuthorization, RegistryError> {
        let scheme = self.scheme.lock().clone();
        match scheme {
            Scheme::Anonymous => Ok(SentAuthorization::default()),
            Scheme::Basic => {
                let lookup = self.lookup(origin, access).await?;
                Ok(SentAuthorization { header: lookup.login().and_then(basic), generation: 0 })
            }
            Scheme::Bearer { realm, service } => {
                let session = self.session(access);
                let mut session = session.lock().await;
                if !session.token.as_ref().is_some_and(Token::is_usable) {
                    let lookup = self.lookup(origin, access).await?;
                    if let Some(Credential::RegistryToken(token)) = lookup.login().map(|login| &login.credential) {
                        return Ok(SentAuthorization {
                            header: secret_header("Bearer", token.reveal()),
                            generation: 0,
                        });
                    }
                    let scopes = session.scopes.clone();
                    let token_request = TokenRequest { realm, service, scopes };
                    let token = self.fetch_token(origin, &lookup, token_request, operation).await?;
                    session.token = Some(token);
                    session.generation += 1;
                }
                let header = session.token.as_ref().and_then(|token| secret_header("Bearer", token.value.reveal()));
                Ok(SentAuthorization { header, generation: session.generation })
            }
        }
    }

    async fn fetch_token(
        &self,
        origin: &HttpOrigin,
        lookup: &Lookup,
        token_request: TokenRequest,
        operation: &str,
    ) -> Result<Token, RegistryError> {
        let realm = &token_request.realm;
        let shown_realm = redact::url(realm.as_str());
        if lookup.login().is_some() && !origin.may_carry_credentials(realm) {
            return Err(RegistryError::Protocol {
                operation: operation.to_owned(),
                host: origin.host.clone(),
                problem: format!(
                    "requests the credentials over plain http, at {shown_realm}: refused; to allow it, name that host \
                     with --insecure-registry={}",
                    host_of(realm)
                ),
            });
        }
        tracing::debug!(realm = %shown_realm, scopes = ?token_request.scopes, "fetch a token");
        let token_host = realm.authority().rsplit('@').next().unwrap_or_default().to_owned();
        let client = origin.client_for(realm).map_err(|error| RegistryError::Protocol {
            operation: operation.to_owned(),
            host: origin.host.clone(),
            problem: format!("names a token server: {error}"),
        })?;
        let response = token_request
            .request(client, lookup.login())
            .timeout(TOKEN_TIMEOUT)
            .send()
            .await
            .map_err(|error| RegistryError::from_http(operation, &token_host, error))?;
        let status = response.status();
        let wait = retry_after(response.headers());
        let own = origin.is_own(&response);
        let body = read_bounded(response, MAX_TOKEN_RESPONSE, operation, &token_host).await?;
        if !status.is_success() {
            return Err(RegistryError::Refused(Box::new(Refusal {
                operation: operation.to_owned(),
                host: origin.host.clone(),
                token_server: Some(shown_realm),
                status,
                remote: if own { error_body(&body) } else { Vec::new() },
                credentials: lookup.describe(),
                scopes: token_request.scopes.iter().cloned().collect(),
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
            .map_err(|_secret| malformed("sent a token response that is not a JSON object"))?;
        let value = parsed
            .token
            .or(parsed.access_token)
            .filter(|token| !token.is_empty())
            .ok_or_else(|| malformed("sent a response without a token"))?;
        let lifetime = parsed.expires_in.filter(|seconds| *seconds > 0).map_or(DEFAULT_LIFETIME, Duration::from_secs);
        let lifetime = lifetime.min(Duration::from_secs(86_400));
        Ok(Token { value: Secret::new(value), expires: Instant::now() + lifetime, lifetime })
    }
}

/// The parameters of a token request.
struct TokenRequest {
    realm: Url,
    service: Option<String>,
    scopes: BTreeSet<String>,
}

impl TokenRequest {
    /// Builds a GET with the password, or OAuth2's POST with an identity token (both parts of Docker's token
    /// specification).
    fn request(&self, client: &reqwest::Client, login: Option<&Login>) -> reqwest::RequestBuilder {
        let scopes = || self.scopes.iter().map(String::as_str);
        let service = self.service.as_deref().map(|service| ("service", service));
        if let Some(Credential::IdentityToken(token)) = login.map(|login| &login.credential) {
            let scope = scopes().collect::<Vec<_>>().join(" ");
            let mut form = vec![
                ("grant_type", "refresh_token"),
                ("client_id", "crabwright"),
                ("refresh_token", token.reveal().as_str()),
                ("scope", scope.as_str()),
            ];
            form.extend(service);
            return client.request(Method::POST, self.realm.clone()).form(&form);
        }
        let mut url = self.realm.clone();
        url.query_pairs_mut().extend_pairs(service).extend_pairs(scopes().map(|scope| ("scope", scope)));
        let request = client.request(Method::GET, url);
        match login.and_then(basic) {
            Some(header) => request.header(AUTHORIZATION, header),
            None => request,
        }
    }
}

fn basic(login: &Login) -> Option<HeaderValue> {
    use base64::Engine;
    let Credential::Password { username, password } = &login.credential else { return None };
    let pair = format!("{username}:{}", password.reveal());
    secret_header("Basic", &base64::engine::general_purpose::STANDARD.encode(pair))
}

/// Returns a header that the HTTP library does not log. `None` for a token with control characters; the request is then
/// refused, with a message that describes the credentials.
fn secret_header(scheme: &str, value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("{scheme} {value}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}
