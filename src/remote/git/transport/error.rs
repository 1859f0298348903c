//! Errors of the conversation with a git server.

#![expect(missing_docs, reason = "`#[error]` says it")]

use std::time::Duration;

use reqwest::StatusCode;

use crate::diag::Hint;
use crate::http::{ForbiddenReference, HostRefused, HttpError};

/// Why a conversation with a git server failed. The error around it names the repository.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("the URL is not one of a git server")]
    Url,
    #[error("{} {host}", if source.is_connect() { "cannot connect to" } else { "lost the connection to" })]
    Connection {
        host: String,
        #[source]
        source: HttpError,
    },
    #[error("lost the connection to {host} within a response")]
    Truncated {
        host: String,
        #[source]
        source: HttpError,
    },
    #[error("{host} sent nothing for {} seconds", idle.as_secs())]
    Stalled { host: String, idle: Duration },
    #[error("{host} sends too slowly")]
    Slow { host: String },
    #[error("invalid response status {status} from {host}")]
    Status { host: String, status: StatusCode, retry_after: Option<Duration> },
    #[error(
        "{host} {} (response status {status})",
        if *authorized { "does not accept the credentials" } else { "requires credentials" },
        status = StatusCode::UNAUTHORIZED
    )]
    Login { host: String, authorized: bool },
    #[error("the secret with the credentials is not a single line of text")]
    Authorization,
    #[error("{host} {problem}")]
    Redirect { host: String, problem: String },
    #[error("{host} does not respond as a git server: it sent {found}")]
    NotSmart { host: String, found: &'static str },
    #[error("refused to connect to {host}")]
    Astray {
        host: String,
        #[source]
        source: ForbiddenReference,
    },
    #[error("failed to resolve {host}")]
    Unknown {
        host: String,
        #[source]
        source: HostRefused,
    },
    #[error("more than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the fetch was cancelled")]
    GivenUp,
}

impl TransportError {
    /// Returns whether the same request may soon succeed, and how long the server asked to wait.
    pub(in super::super) fn transient(&self) -> Option<Option<Duration>> {
        match self {
            Self::Connection { source, .. } => source.is_transient().then_some(None),
            Self::Truncated { .. } | Self::Slow { .. } => Some(None),
            Self::Status { status, retry_after, .. } => {
                matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504).then_some(*retry_after)
            }
            _ => None,
        }
    }

    /// Reports whether the server answered, so that a different request may succeed.
    pub(in super::super) fn is_answer(&self) -> bool {
        matches!(self, Self::Status { .. })
    }

    /// Reports whether a remote server or repository led to this machine.
    pub(in super::super) fn is_astray(&self) -> bool {
        match self {
            Self::Astray { .. } => true,
            Self::Connection { source, .. } => source.forbidden_reference().is_some(),
            _ => false,
        }
    }
}

impl Hint for TransportError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            _ if self.is_astray() => {
                "a remote server must not refer to this machine or its metadata service, and the address of its name must not \
                 change to one of them: if the repository is meant to be there, use that URL in the build"
                    .to_owned()
            }
            Self::Login { .. } => {
                "pass the credentials as --secret id=GIT_AUTH_TOKEN (or GIT_AUTH_HEADER), or as GIT_AUTH_TOKEN.HOST for one host, \
                 which plain http requires; servers of submodules get them only over https, targets of redirects never"
                    .to_owned()
            }
            Self::Connection { source, .. } if source.causes().contains("certificate") => {
                "set SSL_CERT_FILE to a bundle with the server's certificate authority".to_owned()
            }
            Self::Connection { host, source } if source.causes().contains("dns error") => {
                format!("the name {host} could not be resolved: check it, and /etc/resolv.conf")
            }
            Self::Unknown { host, .. } => format!("the name {host} could not be resolved: check it, and /etc/resolv.conf"),
            Self::NotSmart { .. } => {
                "only git's smart protocol is supported over http: a repository that a web server serves as plain files cannot be fetched"
                    .to_owned()
            }
            Self::Redirect { .. } => "use the new URL of the repository".to_owned(),
            Self::Url
            | Self::Connection { .. }
            | Self::Truncated { .. }
            | Self::Stalled { .. }
            | Self::Slow { .. }
            | Self::Status { .. }
            | Self::Authorization
            | Self::Astray { .. }
            | Self::TooLarge { .. }
            | Self::GivenUp => return None,
        })
    }
}
