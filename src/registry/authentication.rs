//! How a host wants to be authenticated to, and the tokens it gave us (Docker's token specification).
//!
//! A token is good for a set of scopes. When the registry's challenge names more than we asked for, the set grows and stays
//! grown for later requests. All requests with the same set share one token, and one of them fetches it.

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

/// What a token lives if the server does not say (Docker's token specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is renewed when it has less than this to live, or less than half of its life: uploads take a while.
const MARGIN: Duration = Duration::from_secs(60);
const MAX_TOKEN_RESPONSE: usize = 1 << 20;
/// How long a token server may take.
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
    /// Says once that there are credentials which are not sent.
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
    /// `registry` is the name that credentials are looked up by.
    pub(super) fn new(registry: &str, keychain: Arc<Keychain>) -> Self {
        Self {
            registry: registry.to_owned(),
            keychain,
            scheme: Mutex::new(Scheme::Anonymous),
            sessions: Mutex::default(),
            withheld: Once::new(),
        }
    }

    /// The credentials for `access`; none where they would go over plain http, and nobody has asked for that.
    async fn lookup(&self, origin: &HttpOrigin, access: &Access) -> Result<Lookup, RegistryError> {
        let lookup = self.keychain.lookup(&self.registry, &access.repository).await;
        let lookup = lookup.map_err(|source| RegistryError::Credentials { source })?;
        if lookup.login().is_none() || origin.may_carry_credentials(&origin.base) {
            return Ok(lookup);
        }
        let why = format!(
            "{}, but are not sent over plain http; if they are to be, name the registry with --insecure-registry={}",
            lookup.describe(),
            origin.host
        );
        self.withheld.call_once(|| tracing::warn!("{}: {why}", origin.host));
        Ok(Lookup::Anonymous(why))
    }

    /// For messages: which credentials requests for `access` are made with.
    pub(super) async fn describe(&self, origin: &HttpOrigin, access: &Access) -> String {
        match self.lookup(origin, access).await {
            Ok(lookup) => lookup.describe(),
            Err(error) => error.to_string(),
        }
    }

    /// For messages: the scopes that a token for `access` was asked for; none where there are no tokens.
    pub(super) async fn asked_scopes(&self, access: &Access) -> Vec<String> {
        if !matches!(*self.scheme.lock(), Scheme::Bearer { .. }) {
            return Vec::new();
        }
        let session = self.session(access);
        let session = session.lock().await;
        session.scopes.iter().cloned().collect()
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
            let refused = |why: &dyn std::fmt::Display| RegistryError::Protocol {
                operation: operation.to_owned(),
                host: origin.host.clone(),
                problem: format!("names the token server {}: refused, {why}", redact::url(realm.as_str())),
            };
            if !matches!((origin.base.scheme(), realm.scheme()), (_, "https") | ("http", "http")) {
                return Err(refused(&"tokens for a registry on https do not come over plain http"));
            }
            origin.client_for(&realm).map_err(|astray| refused(&astray))?;
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
            tracing::debug!(registry = %self.registry, scheme = %other.scheme, "unknown way to authenticate");
        }
        Ok(false)
    }

    fn session(&self, access: &Access) -> Arc<tokio::sync::Mutex<Session>> {
        let mut sessions = self.sessions.lock();
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
        let scheme = self.scheme.lock().clone();
        match scheme {
            Scheme::Anonymous => Ok(Sent::default()),
            Scheme::Basic => {
                let lookup = self.lookup(origin, access).await?;
                Ok(Sent { header: lookup.login().and_then(basic), generation: 0 })
            }
            Scheme::Bearer { realm, service } => {
                let session = self.session(access);
                let mut session = session.lock().await;
                if !session.token.as_ref().is_some_and(Token::usable) {
                    let lookup = self.lookup(origin, access).await?;
                    if let Some(Credential::RegistryToken(token)) = lookup.login().map(|login| &login.credential) {
                        return Ok(Sent { header: secret_header("Bearer", token.reveal()), generation: 0 });
                    }
                    let scopes = session.scopes.clone();
                    let wanted = Wanted { realm, service, scopes };
                    let token = self.fetch_token(origin, &lookup, wanted, operation).await?;
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
        lookup: &Lookup,
        wanted: Wanted,
        operation: &str,
    ) -> Result<Token, RegistryError> {
        let realm = &wanted.realm;
        let shown_realm = redact::url(realm.as_str());
        if lookup.login().is_some() && !origin.may_carry_credentials(realm) {
            return Err(RegistryError::Protocol {
                operation: operation.to_owned(),
                host: origin.host.clone(),
                problem: format!(
                    "wants the credentials sent over plain http, to {shown_realm}: refused; if they are to be, name that host \
                     with --insecure-registry={}",
                    host_of(realm)
                ),
            });
        }
        tracing::debug!(realm = %shown_realm, scopes = ?wanted.scopes, "fetch a token");
        let token_host = realm.authority().rsplit('@').next().unwrap_or_default().to_owned();
        let client = origin.client_for(realm).map_err(|astray| RegistryError::Protocol {
            operation: operation.to_owned(),
            host: origin.host.clone(),
            problem: format!("names a token server: {astray}"),
        })?;
        let response = wanted
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
                scopes: wanted.scopes.iter().cloned().collect(),
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

/// What a token is asked for.
struct Wanted {
    realm: Url,
    service: Option<String>,
    scopes: BTreeSet<String>,
}

impl Wanted {
    /// A GET with the password, or OAuth2's POST with an identity token (Docker's token specification, both parts).
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

/// A header that the HTTP library does not print. A token with control characters makes none; the request is then refused,
/// with a message that says which credentials were used.
fn secret_header(scheme: &str, value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("{scheme} {value}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}
