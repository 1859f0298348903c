//! One HTTP exchange with a registry: authorization, redirects, another try after a 401, and readable errors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use super::authentication::{Access, Authenticator, Sent};
use super::blob_upload::RequestLimit;
use super::body::{Activity, Payload, RESPONSE_LIMIT};
use super::error::{Refusal, RegistryError, RemoteError};
use super::traffic::Meter;
use super::trust::{self, Trust};
use crate::diag::redact;
use crate::http::{HttpClients, LedAstray, host_of, is_loopback, retry_after};

/// How long a response may be silent between two pieces of its body.
const BODY_LIMIT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 10;
/// How many refusals of one request are answered with another token: the first may want a scope, and what was given for that may
/// have ended by the time it is shown.
const MAX_CHALLENGES: u32 = 2;
const MAX_ERROR_BODY: usize = 64 << 10;
/// How much of an error page that is not JSON is shown.
const MAX_ERROR_TEXT: usize = 300;

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
    fn owns(&self, url: &Url) -> bool {
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

/// A registry that answered our ping.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) origin: HttpOrigin,
    pub(super) authenticator: Authenticator,
    /// How large a request may be here, as uploads have found out.
    pub(super) request_limit: RequestLimit,
}

/// What is asked.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload<'a>,
    pub(super) access: &'a Access,
    /// What the user would call it; the start of every error message.
    pub(super) operation: &'a str,
}

impl Endpoint {
    /// A URL below `/v2/`.
    pub(super) fn url(&self, path: &str, operation: &str) -> Result<Url, RegistryError> {
        self.origin.base.join(&format!("/v2/{path}")).map_err(|_invalid| RegistryError::Protocol {
            operation: operation.to_owned(),
            host: self.origin.host.clone(),
            problem: format!("cannot be asked for {path:?}: not a path"),
        })
    }

    /// Sends a request; a 401 is answered with what its challenge asks for. Any status is a success here.
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
            let again =
                self.authenticator.challenged(&self.origin, request.access, headers, &sent, request.operation).await?;
            if !again {
                return Ok(response);
            }
        }
    }

    /// Sends a request and accepts only some answers.
    pub(super) async fn expect(&self, request: &Request<'_>, accepted: &[u16]) -> Result<Response, RegistryError> {
        let response = self.send(request).await?;
        if accepted.contains(&response.status().as_u16()) {
            return Ok(response);
        }
        Err(self.refusal(request, response).await)
    }

    /// The error that an unwanted answer stands for.
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
            scopes: self.authenticator.asked_scopes(request.access).await,
            retry_after: wait,
        }))
    }

    /// Follows redirects; `Authorization` goes to the registry itself and nowhere else.
    async fn follow(&self, request: &Request<'_>, sent: &Sent) -> Result<Response, RegistryError> {
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

    async fn exchange(&self, request: &Request<'_>, url: Url, sent: &Sent) -> Result<Response, RegistryError> {
        let host = host_of(&url);
        let owns = self.origin.owns(&url);
        tracing::debug!(method = %request.method, url = %redact::url(url.as_str()), authorized = owns && sent.header.is_some(), "request");
        let client = self
            .origin
            .client_for(&url)
            .map_err(|astray| self.protocol(request.operation, format!("leads astray: {astray}")))?;
        let mut builder = client.request(request.method.clone(), url).headers(request.headers.clone());
        if owns && let Some(header) = &sent.header {
            builder = builder.header(AUTHORIZATION, header);
        }
        let _pass = match &request.payload {
            Payload::File(file) => file.reach().await?,
            _ => None,
        };
        // Not earlier: that wait is not the server's.
        let activity = Activity::new();
        self.origin.meter.request(match &request.payload {
            Payload::None | Payload::Arriving(_) => 0,
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
            Payload::Arriving(file) => builder = builder.body(file.open(&activity, &self.origin.meter)),
        }
        let response = activity
            .limit(request.payload.patience(), builder.send())
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

    /// Where a redirect or an upload session leads.
    pub(super) fn location(&self, response: &Response, operation: &str) -> Result<Url, RegistryError> {
        let header = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| self.protocol(operation, "answered without a Location".to_owned()))?;
        let mut url = response.url().join(header).map_err(|_invalid| {
            self.protocol(operation, format!("gave a Location that is no URL: {}", redact::url(header)))
        })?;
        if url.scheme() == "http" && self.origin.base.scheme() == "https" {
            // A registry behind a proxy that ends TLS often does not know its own scheme.
            let own_name = url.host_str() == self.origin.base.host_str();
            let port = self.origin.base.port();
            if !own_name || url.set_scheme("https").is_err() || url.set_port(port).is_err() {
                let shown = redact::url(header);
                return Err(self.protocol(operation, format!("leads from https to plain http, to {shown}: refused")));
            }
        }
        let refused =
            |why: &str| self.protocol(operation, format!("leads to {}: refused{why}", redact::url(url.as_str())));
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused(""));
        }
        if let Err(astray) = self.origin.client_for(&url) {
            return Err(refused(&format!(", {astray}")));
        }
        Ok(url)
    }

    /// The answer makes no sense.
    pub(super) fn protocol(&self, operation: &str, problem: String) -> RegistryError {
        RegistryError::Protocol { operation: operation.to_owned(), host: self.origin.host.clone(), problem }
    }
}

/// Asks for `/v2/`, which tells whether and how to authenticate.
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
    let response = endpoint.follow(&request, &Sent::default()).await?;
    match response.status().as_u16() {
        401 => {
            let none = Sent::default();
            endpoint.authenticator.challenged(&endpoint.origin, &access, response.headers(), &none, operation).await?;
        }
        429 | 500..=599 => return Err(endpoint.refusal(&request, response).await),
        // Some registries do not serve /v2/ itself; the request that follows tells more than this one.
        status => tracing::debug!(status, host = %endpoint.origin.host, "ping"),
    }
    Ok(Arc::new(endpoint))
}

/// The next piece of a body, within the time limit.
pub(super) async fn next_chunk(
    response: &mut Response,
    operation: &str,
    host: &str,
) -> Result<Option<Bytes>, RegistryError> {
    tokio::time::timeout(BODY_LIMIT, response.chunk())
        .await
        .map_err(|_elapsed| RegistryError::Stalled {
            operation: operation.to_owned(),
            host: host.to_owned(),
            idle: BODY_LIMIT,
        })?
        .map_err(|error| RegistryError::from_http(operation, host, error))
}

/// A whole body, if it is no longer than `limit` bytes.
pub(super) async fn read_bounded(
    mut response: Response,
    limit: usize,
    operation: &str,
    host: &str,
) -> Result<Vec<u8>, RegistryError> {
    let started = Instant::now();
    let mut body = Vec::new();
    while let Some(chunk) = next_chunk(&mut response, operation, host).await? {
        if body.len() + chunk.len() > limit {
            return Err(RegistryError::Protocol {
                operation: operation.to_owned(),
                host: host.to_owned(),
                problem: format!("sends more than {limit} bytes where a small document is expected"),
            });
        }
        body.extend_from_slice(&chunk);
        if started.elapsed() > RESPONSE_LIMIT {
            let idle = RESPONSE_LIMIT;
            return Err(RegistryError::Stalled { operation: operation.to_owned(), host: host.to_owned(), idle });
        }
    }
    Ok(body)
}

/// The errors in the body of an answer: JSON of the distribution spec, of a token server, or some text.
pub(super) fn error_body(body: &[u8]) -> Vec<RemoteError> {
    let text = |value: &serde_json::Value, name: &str| {
        value.get(name).and_then(|found| found.as_str()).map(one_line).unwrap_or_default()
    };
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
        if let Some(errors) = json.get("errors").and_then(|errors| errors.as_array()) {
            let remote = errors
                .iter()
                .map(|error| RemoteError { code: text(error, "code"), message: text(error, "message") })
                .filter(|error| !error.code.is_empty() || !error.message.is_empty());
            return remote.take(5).collect();
        }
        for name in ["message", "details", "error_description", "error", "detail"] {
            let message = text(&json, name);
            if !message.is_empty() {
                return vec![RemoteError { code: String::new(), message }];
            }
        }
        return Vec::new();
    }
    let page = one_line(&String::from_utf8_lossy(body));
    if page.is_empty() || page.starts_with('<') {
        return Vec::new();
    }
    vec![RemoteError { code: String::new(), message: page }]
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    line.chars().take(MAX_ERROR_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_in_every_shape() {
        let shown =
            |body: &str| error_body(body.as_bytes()).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert_eq!(shown(r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#), "DENIED: no; X");
        assert_eq!(shown(r#"{"details":"incorrect username or password"}"#), "incorrect username or password");
        assert_eq!(shown("too many\n requests"), "too many requests");
        assert_eq!(shown("<html>413</html>"), "");
        assert_eq!(shown(""), "");
        assert_eq!(shown("\u{1b}[31mred"), "[31mred");
    }
}
