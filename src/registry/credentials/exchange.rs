//! One request to a service that hands out tokens, with its answer as JSON. Nothing of what is sent or received reaches a message,
//! but for the service's own words about an error.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;

use super::super::remote_error::error_body;
use crate::http::{self, HttpClients, HttpError, Interrupted, RetryPolicy, Transient, host_of, retry_after};

/// How long a service may take.
const TIME_LIMIT: Duration = Duration::from_secs(20);
const MAX_ANSWER: usize = 1 << 20;

/// Why a service gave no token.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No connection, or it broke.
    #[error("failed to ask {host} for a token")]
    Transport {
        /// The service.
        host: String,
        /// The cause.
        #[source]
        source: HttpError,
    },
    /// It refused.
    #[error("failed to ask {host} for a token: it answered {status}{said}")]
    Refused {
        /// The service.
        host: String,
        /// The HTTP status.
        status: StatusCode,
        /// Its words, with a leading space and in parentheses, or nothing.
        said: String,
        /// What `Retry-After` asked for.
        retry_after: Option<Duration>,
    },
    /// Its answer is something else.
    #[error("failed to ask {host} for a token: its answer is not what was expected")]
    Answer {
        /// The service.
        host: String,
    },
    /// The build was asked to stop.
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
    /// Whether there is no such service here.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Refused { status, .. } => *status == StatusCode::NOT_FOUND,
            _ => false,
        }
    }
}

/// Sends what `prepare` makes of a request to `url`, and reads the answer.
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
            if body.len() + piece.len() > MAX_ANSWER {
                return Err(ExchangeError::Answer { host: host.clone() });
            }
            body.extend_from_slice(&piece);
        }
        if !status.is_success() {
            let words: Vec<String> = error_body(&body).iter().map(ToString::to_string).collect();
            let said = if words.is_empty() { String::new() } else { format!(" ({})", words.join("; ")) };
            return Err(ExchangeError::Refused { host: host.clone(), status, said, retry_after: wait });
        }
        // The JSON library's message may quote the token.
        serde_json::from_slice(&body).map_err(|_secret| ExchangeError::Answer { host: host.clone() })
    })
    .await
}
