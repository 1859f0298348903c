//! Why a git server did not answer, or not as one.

use std::time::Duration;

use reqwest::StatusCode;

use crate::diag::Hint;
use crate::http::{ForbiddenReference, HostRefused, HttpError};

/// A conversation with a git server that failed. The repository is named by the error around it.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The URL means another server to other readers of it, or none.
    #[error("the URL is not one of a git server")]
    Url,
    /// No connection to the host came about, or it broke.
    #[error("{} {host}", if source.is_connect() { "cannot connect to" } else { "lost the connection to" })]
    Connection {
        /// `host[:port]`.
        host: String,
        /// The cause.
        #[source]
        source: HttpError,
    },
    /// The answer did not come whole.
    #[error("lost the connection to {host} in the middle of an answer")]
    Truncated {
        /// `host[:port]`.
        host: String,
        /// The cause.
        #[source]
        source: HttpError,
    },
    /// Nothing came for too long.
    #[error("nothing came from {host} for {} seconds", idle.as_secs())]
    Stalled {
        /// `host[:port]`.
        host: String,
        /// How long.
        idle: Duration,
    },
    /// So little came that the repository would take for ever.
    #[error("hardly anything comes from {host}")]
    Slow {
        /// `host[:port]`.
        host: String,
    },
    /// The server refused.
    #[error("invalid response status {status} from {host}")]
    Status {
        /// `host[:port]`.
        host: String,
        /// The HTTP status.
        status: StatusCode,
        /// What `Retry-After` asked for.
        retry_after: Option<Duration>,
    },
    /// The server wants credentials, or other ones.
    #[error(
        "{host} {} (response status {status})",
        if *authorized { "does not take the credentials it was given" } else { "wants credentials" },
        status = StatusCode::UNAUTHORIZED
    )]
    Login {
        /// `host[:port]`.
        host: String,
        /// Whether credentials were sent.
        authorized: bool,
    },
    /// A secret cannot be sent as a header.
    #[error("the secret with its credentials is not one line of text")]
    Authorization,
    /// The server redirects to nowhere, without end, or too late.
    #[error("{host} {problem}")]
    Redirect {
        /// `host[:port]`.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something else than a git server answered, or one that has nothing but files.
    #[error("{host} does not answer as a git server: it sent {found}")]
    NotSmart {
        /// `host[:port]`.
        host: String,
        /// What the answer says it is, as far as that is known: a server's own words are not shown.
        found: &'static str,
    },
    /// A server or a repository elsewhere leads to this machine.
    #[error("{host} must not be asked")]
    Astray {
        /// `host[:port]`, or the host alone where it is not one of HTTP.
        host: String,
        /// What is wrong with it.
        #[source]
        source: ForbiddenReference,
    },
    /// The name of a submodule's host, which the git library connects to, has no address that could be judged.
    #[error("cannot tell where {host} is")]
    Unknown {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: HostRefused,
    },
    /// The answer has more than is wanted.
    #[error("more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Who asked waits no longer.
    #[error("the fetch was given up")]
    GivenUp,
}

impl TransportError {
    /// Whether the same request may succeed in a moment, and how long the server asked to wait for it.
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

    /// Whether the server answered, and another question may have another answer.
    pub(in super::super) fn is_answer(&self) -> bool {
        matches!(self, Self::Status { .. })
    }

    /// Whether somebody elsewhere led to this machine.
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
                "a server elsewhere must not lead to this machine or its metadata service, nor must a name's address change to one \
                 of these: if the repository is meant to be there, name that URL in the build"
                    .to_owned()
            }
            Self::Login { .. } => {
                "give the credentials as --secret id=GIT_AUTH_TOKEN (or GIT_AUTH_HEADER); GIT_AUTH_TOKEN.HOST for one host, which plain \
                 http needs; submodules get them over https only, and servers that a redirect leads to get none"
                    .to_owned()
            }
            Self::Connection { source, .. } if source.causes().contains("certificate") => {
                "name a bundle with the server's certificate authority in SSL_CERT_FILE".to_owned()
            }
            Self::Connection { host, source } if source.causes().contains("dns error") => {
                format!("the name {host} could not be resolved: check it, and /etc/resolv.conf")
            }
            Self::Unknown { host, .. } => format!("the name {host} could not be resolved: check it, and /etc/resolv.conf"),
            Self::NotSmart { .. } => {
                "git's smart protocol is spoken over http, and no other: repositories that lie as files on a web server cannot be fetched"
                    .to_owned()
            }
            Self::Redirect { .. } => "name the repository by the URL that it has moved to".to_owned(),
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
