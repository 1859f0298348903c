//! The HTTP clients for `object_store`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use reqwest::Url;
use reqwest::header::{ETAG, HeaderValue, LAST_MODIFIED};

use crate::diag::redact;
use crate::http::HttpClients;

/// The time limit for the start of a response.
const RESPONSE_LIMIT: Duration = Duration::from_secs(120);

/// The clients. Each request uses the client for its URL.
#[derive(Debug, Clone)]
pub(super) struct StoreClients(HttpClients);

impl StoreClients {
    pub(super) fn new(clients: HttpClients) -> Self {
        Self(clients)
    }

    pub(super) fn http(&self) -> &HttpClients {
        &self.0
    }
}

impl HttpConnector for StoreClients {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait::async_trait]
impl HttpService for StoreClients {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url =
            Url::parse(&request.uri().to_string()).map_err(|error| HttpError::new(HttpErrorKind::Request, error))?;
        tracing::debug!(method = %request.method(), url = %redact::url(url.as_str()), "bucket");
        let answer = HttpService::call(self.0.for_url(&url), request);
        match tokio::time::timeout(RESPONSE_LIMIT, answer).await {
            Ok(answer) => answer.map(described),
            Err(elapsed) => Err(HttpError::new(HttpErrorKind::Timeout, elapsed)),
        }
    }
}

/// Adds headers that the library requires: the time of the last change, on which nothing here depends, and the version,
/// which some services omit. A missing version is replaced by one that no other response has, so that the rest of a
/// different response is never appended.
fn described(mut answer: HttpResponse) -> HttpResponse {
    static ANSWERS: AtomicU64 = AtomicU64::new(0);
    let headers = answer.headers_mut();
    headers.entry(LAST_MODIFIED).or_insert(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
    if !headers.contains_key(ETAG)
        && let Ok(tag) = HeaderValue::from_str(&format!("W/\"unknown-{}\"", ANSWERS.fetch_add(1, Ordering::Relaxed)))
    {
        headers.insert(ETAG, tag);
    }
    answer
}
