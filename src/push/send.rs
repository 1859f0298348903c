//! Sends the text of a digest file to a URL with PUT, as kaniko does for signed URLs of object stores.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{StatusCode, Url};

use super::error::SendError;
use crate::http::{HttpClients, HttpError, Interrupted, RetryPolicy, Transient, USER_AGENT, retry_after, run};

/// The time limit of a request: the text is short.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Sends `content` to `url`, with retries if the server is busy or cannot be reached.
///
/// # Errors
/// The server cannot be reached or refuses the request, or the build was asked to stop.
pub(super) async fn put(url: &Url, content: &str) -> Result<(), SendError> {
    let clients = HttpClients::new(USER_AGENT).map_err(|error| SendError::Clients(error.into()))?;
    let attempt = async || {
        let request = clients.for_url(url).put(url.clone()).timeout(TIME_LIMIT);
        let request = request.header(CONTENT_TYPE, "text/plain").body(content.to_owned());
        let answer = request.send().await.map_err(HttpError::new)?;
        let status = answer.status();
        // Redirects are not followed: the URL was signed for this server.
        if status.is_success() {
            return Ok(());
        }
        Err(AttemptError::Status { status, retry_after: retry_after(answer.headers()) })
    };
    run(&RetryPolicy::default(), "send the digest", attempt).await.map_err(|failed| match failed {
        AttemptError::Http(error) => SendError::Http(error),
        AttemptError::Status { status, .. } => SendError::Status { status: status.as_u16() },
        AttemptError::Interrupted(interrupted) => SendError::Interrupted(interrupted),
    })
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the server answered {status}")]
    Status { status: StatusCode, retry_after: Option<Duration> },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Transient for AttemptError {
    fn transient(&self) -> Option<Option<Duration>> {
        match self {
            Self::Http(error) => error.is_transient().then_some(None),
            Self::Status { status, retry_after } => {
                (status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS).then_some(*retry_after)
            }
            Self::Interrupted(_) => None,
        }
    }
}
