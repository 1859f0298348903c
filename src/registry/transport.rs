//! Makes HTTP requests to a registry: authorization, redirects, challenges, and readable errors.

use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use super::access::Access;
use super::answer::read_bounded;
use super::authentication::{Authenticator, SentAuthorization};
use super::body::{Activity, Payload};
use super::error::{Refusal, RegistryError};
use super::origin::HttpOrigin;
use super::remote_error::error_body;
use super::request_limit::RequestLimit;
use crate::diag::redact;
use crate::http::{host_of, retry_after};

const MAX_REDIRECTS: usize = 10;
/// The most challenges of one request that are followed: the first may require a scope, and the token for it may have
/// expired before it is used.
const MAX_CHALLENGES: u32 = 2;
const MAX_ERROR_BODY: usize = 64 << 10;
/// A registry that answered our ping.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) origin: HttpOrigin,
    pub(super) authenticator: Authenticator,
    /// The largest request that it accepts, as uploads have found out.
    pub(super) request_limit: RequestLimit,
}

/// A request to a registry.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload<'a>,
    pub(super) access: &'a Access,
    /// A description for the user; the start of every error message.
    pub(super) operation: &'a str,
}

impl Endpoint {
    /// Returns a URL below `/v2/`.
    pub(super) fn url(&self, path: &str, operation: &str) -> Result<Url, RegistryError> {
        self.origin.base.join(&format!("/v2/{path}")).map_err(|_invalid| RegistryError::Protocol {
            operation: operation.to_owned(),
            host: self.origin.host.clone(),
            problem: format!("cannot be asked for {path:?}: it is not a path"),
        })
    }

    /// Sends a request, and again after a 401 with what its challenge requires. Returns responses of any status.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Response, RegistryError> {
        let mut challenges = 0;
        loop {
            let sent = self.authenticator.authorization(&self.origin, request.access, request.operation).await?;
            let response = self.follow(request, &sent).await?;
            let ours = self.origin.owns(response.url());
            if response.status() != StatusCode::UNAUTHORIZED || challenges == MAX_CHALLENGES || !ours {
                return Ok(response);
            }
            challenges += 1;
            let headers = response.headers();
            let again = self
                .authenticator
                .apply_challenges(&self.origin, request.access, headers, &sent, request.operation)
                .await?;
            if !again {
                return Ok(response);
            }
        }
    }

    /// Sends a request and accepts only some statuses.
    pub(super) async fn expect(&self, request: &Request<'_>, accepted: &[u16]) -> Result<Response, RegistryError> {
        let response = self.send(request).await?;
        if accepted.contains(&response.status().as_u16()) {
            return Ok(response);
        }
        Err(self.refusal(request, response).await)
    }

    /// Converts an unexpected response to an error.
    pub(super) async fn refusal(&self, request: &Request<'_>, response: Response) -> RegistryError {
        let status = response.status();
        let host = host_of(response.url());
        let wait = retry_after(response.headers());
        let remote = if self.origin.is_own(&response) {
            match read_bounded(response, MAX_ERROR_BODY, request.operation, &host).await {
                Ok(body) => error_body(&body),
                Err(error) => {
                    tracing::debug!(%error, "the body of an error could not be read");
                    Vec::new()
                }
            }
        } else {
            Vec::new()
        };
        RegistryError::Refused(Box::new(Refusal {
            operation: request.operation.to_owned(),
            host,
            token_server: None,
            status,
            remote,
            credentials: self.authenticator.describe(&self.origin, request.access).await,
            scopes: self.authenticator.requested_scopes(request.access).await,
            retry_after: wait,
        }))
    }

    /// Follows redirects; `Authorization` is sent to the registry itself only.
    async fn follow(&self, request: &Request<'_>, sent: &SentAuthorization) -> Result<Response, RegistryError> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.exchange(request, url.clone(), sent).await?;
            let reads = matches!(request.method, Method::GET | Method::HEAD);
            let redirects = match response.status().as_u16() {
                301..=303 => reads,
                307 | 308 => true,
                _ => false,
            };
            if !redirects {
                return Ok(response);
            }
            url = self.location(&response, request.operation)?;
            tracing::debug!(to = %redact::url(url.as_str()), "redirected");
        }
        Err(self.protocol(request.operation, format!("redirects more than {MAX_REDIRECTS} times")))
    }

    async fn exchange(
        &self,
        request: &Request<'_>,
        url: Url,
        sent: &SentAuthorization,
    ) -> Result<Response, RegistryError> {
        let host = host_of(&url);
        let owns = self.origin.owns(&url);
        tracing::debug!(method = %request.method, url = %redact::url(url.as_str()), authorized = owns && sent.header.is_some(), "request");
        let client = self
            .origin
            .client_for(&url)
            .map_err(|error| self.protocol(request.operation, format!("redirects: {error}")))?;
        let mut builder = client.request(request.method.clone(), url).headers(request.headers.clone());
        if owns && let Some(header) = &sent.header {
            builder = builder.header(AUTHORIZATION, header);
        }
        let _pass = match &request.payload {
            Payload::File(file) => file.advance_to().await?,
            _ => None,
        };
        // Created only now, because the wait above is not the server's.
        let activity = Activity::new();
        self.origin.meter.request(match &request.payload {
            Payload::None | Payload::Growing(_) => 0,
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::File(file) => file.length,
        });
        match &request.payload {
            Payload::None => {
                if matches!(request.method, Method::POST | Method::PUT | Method::PATCH) {
                    // Some registries answer 411 to a POST without a length.
                    builder = builder.header(CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
            }
            Payload::Bytes(bytes) => builder = builder.body(bytes.clone()),
            Payload::File(file) => {
                builder = builder.header(CONTENT_LENGTH, HeaderValue::from(file.length)).body(file.open(&activity)?);
            }
            Payload::Growing(file) => builder = builder.body(file.open(&activity, &self.origin.meter)),
        }
        let response = activity
            .limit(request.payload.idle_limit(), builder.send())
            .await
            .map_err(|idle| RegistryError::Stalled {
                operation: request.operation.to_owned(),
                host: host.clone(),
                idle,
            })?
            .map_err(|error| RegistryError::from_http(request.operation, &host, error))?;
        tracing::debug!(status = response.status().as_u16(), host = %host, "response");
        self.origin.clients.settle(&self.origin.base, &response);
        if request.method != Method::HEAD {
            self.origin.meter.answer(response.content_length().unwrap_or_default());
        }
        Ok(response)
    }

    /// Returns the target of a redirect or an upload session.
    pub(super) fn location(&self, response: &Response, operation: &str) -> Result<Url, RegistryError> {
        let header = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| self.protocol(operation, "answered without a Location".to_owned()))?;
        let mut url = response.url().join(header).map_err(|_invalid| {
            self.protocol(operation, format!("sent a Location that is not a URL: {}", redact::url(header)))
        })?;
        if url.scheme() == "http" && self.origin.base.scheme() == "https" {
            // A registry behind a proxy that terminates TLS often does not know its own scheme.
            let own_name = url.host_str() == self.origin.base.host_str();
            let port = self.origin.base.port();
            if !own_name || url.set_scheme("https").is_err() || url.set_port(port).is_err() {
                let shown = redact::url(header);
                return Err(
                    self.protocol(operation, format!("redirects from https to plain http, to {shown}: refused"))
                );
            }
        }
        let refused =
            |why: &str| self.protocol(operation, format!("redirects to {}: refused{why}", redact::url(url.as_str())));
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused(""));
        }
        if let Err(error) = self.origin.client_for(&url) {
            return Err(refused(&format!(", {error}")));
        }
        Ok(url)
    }

    /// Returns an error for a response that violates the protocol.
    pub(super) fn protocol(&self, operation: &str, problem: String) -> RegistryError {
        RegistryError::Protocol { operation: operation.to_owned(), host: self.origin.host.clone(), problem }
    }
}

/// Requests `/v2/`, to find out whether and how to authenticate.
pub(super) async fn ping(
    origin: HttpOrigin,
    authenticator: Authenticator,
    operation: &str,
) -> Result<Arc<Endpoint>, RegistryError> {
    let endpoint = Endpoint { origin, authenticator, request_limit: RequestLimit::default() };
    let url = endpoint.url("", operation)?;
    let access = Access { repository: String::new(), scopes: std::collections::BTreeSet::new() };
    let request = Request {
        method: Method::GET,
        url,
        headers: HeaderMap::new(),
        payload: Payload::None,
        access: &access,
        operation,
    };
    let response = endpoint.follow(&request, &SentAuthorization::default()).await?;
    match response.status().as_u16() {
        401 => {
            let none = SentAuthorization::default();
            endpoint
                .authenticator
                .apply_challenges(&endpoint.origin, &access, response.headers(), &none, operation)
                .await?;
        }
        429 | 500..=599 => return Err(endpoint.refusal(&request, response).await),
        // Some registries do not serve /v2/. The request that follows reports a clearer error.
        status => tracing::debug!(status, host = %endpoint.origin.host, "ping"),
    }
    Ok(Arc::new(endpoint))
}
