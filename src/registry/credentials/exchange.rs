//! Sends a request to a service that issues tokens, and parses its JSON response.
//!
//! Nothing that is sent or received gets into a message, except the service's own text about an error.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;

use super::super::remote_error::error_body;
use crate::http::{self, HttpClients, HttpError, Interrupted, RetryPolicy, Transient, host_of, retry_after};

/// The time limit for a service.
const TIME_LIMIT: Duration = Duration::from_secs(20);
const MAX_RESPONSE: usize = 1 << 20;

/// A reason why a service issued no token.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection failed.
    #[error("failed to ask {host} for a token")]
    Transport {
        /// The service.
        host: String,
        /// The error of the connection.
        #[source]
        source: HttpError,
    },
    /// The service refused.
    #[error("failed to ask {host} for a token: it answered {status}{details}")]
    Refused {
        /// The service.
        host: String,
        /// The HTTP status.
        status: StatusCode,
        /// The service's text with a leading space and in parentheses, or nothing.
        details: String,
        /// The delay of `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The response does not have the expected form.
    #[error("failed to ask {host} for a token: its response does not have the expected form")]
    Answer {
        /// The service.
        host: String,
    },
    /// A stop was requested.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Transient for ExchangeError {
    fn transient(&self) -> Option<Option<Duration>> {
        match self {
            Self::Transport { source, .. } => source.is_transient().then_some(None),
            Self::Refused { status, retry_after, .. } => {
                matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504).then_some(*retry_after)
            }
            _ => None,
        }
    }
}

impl ExchangeError {
    /// Reports whether the service does not exist on this machine.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Refused { status, .. } => *status == StatusCode::NOT_FOUND,
            _ => false,
        }
    }
}

/// Sends the request that `prepare` builds for `url`, and parses the response.
pub(super) async fn ask<T: DeserializeOwned>(
    http: &HttpClients,
    url: &Url,
    prepare: impl Fn(&reqwest::Client) -> RequestBuilder,
) -> Result<T, ExchangeError> {
    let host = host_of(url);
    let policy = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
    http::run(&policy, "ask for a token", || async {
        let transport = |error| ExchangeError::Transport { host: host.clone(), source: HttpError::new(error) };
        tracing::debug!(%host, "ask for a token");
        let mut response = prepare(http.for_url(url)).timeout(TIME_LIMIT).send().await.map_err(transport)?;
        let status = response.status();
        let wait = retry_after(response.headers());
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(transport)? {
            if body.len() + piece.len() > MAX_RESPONSE {
                return Err(ExchangeError::Answer { host: host.clone() });
            }
            body.extend_from_slice(&piece);
        }
        if !status.is_success() {
            let words: Vec<String> = error_body(&body).iter().map(ToString::to_string).collect();
            let details = if words.is_empty() { String::new() } else { format!(" ({})", words.join("; ")) };
            return Err(ExchangeError::Refused { host: host.clone(), status, details, retry_after: wait });
        }
        // The JSON library's message may quote the token.
        serde_json::from_slice(&body).map_err(|_secret| ExchangeError::Answer { host: host.clone() })
    })
    .await
}
