//! Errors of registries, whether retrying may help, and hints for the user.

#![allow(missing_docs, reason = "`#[error]` says it")]

use std::fmt;
use std::io;
use std::time::Duration;

use reqwest::StatusCode;

use super::credentials::CredentialsError;
use super::remote_error::RemoteError;
use crate::diag::Hint;
use crate::http::{HttpError, Interrupted, SetupError, Transient};
use crate::image::{Digest, Platform};

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The HTTP client could not be created.
    #[error("failed to set up the HTTP client")]
    Setup {
        #[source]
        source: SetupError,
    },
    /// Credentials could not be loaded.
    #[error("failed to load registry credentials")]
    Credentials {
        #[source]
        source: CredentialsError,
    },
    /// The connection could not be established.
    #[error("failed to {operation}: cannot connect to {host}")]
    Connect {
        operation: String,
        host: String,
        /// Without the URL, which may be signed.
        #[source]
        source: HttpError,
    },
    /// The connection broke.
    #[error("failed to {operation}: the connection to {host} failed")]
    Transport {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        /// Without the URL, which may be signed.
        #[source]
        source: HttpError,
    },
    /// No bytes were transferred for too long.
    #[error("failed to {operation}: nothing was transferred to or from {host} for {} seconds", idle.as_secs())]
    Stalled {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        idle: Duration,
    },
    /// The download was too slow to finish in reasonable time.
    #[error("failed to {operation}: {host} sends too slowly")]
    Slow {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
    },
    /// The registry, or its token server, refused.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The registry's response violates the protocol.
    #[error("failed to {operation}: {host} {problem}")]
    Protocol {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        /// What is wrong, as a phrase after the host's name.
        problem: String,
    },
    /// A document is not valid JSON of its type.
    #[error("failed to {operation}: {host} sent a malformed document")]
    Json {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        #[source]
        source: serde_json::Error,
    },
    /// A download ended early.
    #[error("failed to {operation}: truncated, {received} of {expected} bytes came from {host}")]
    Truncated {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        /// The descriptor's size.
        expected: u64,
        /// The bytes received.
        received: u64,
        /// The error that ended the connection, if any.
        #[source]
        source: Option<HttpError>,
    },
    /// The size of the content differs from the descriptor's.
    #[error("failed to {operation}: wrong size, expected {expected} bytes, {host} sends {received}")]
    Size {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        /// The descriptor's size.
        expected: u64,
        /// The size that the registry announced, or the bytes received when it was exceeded.
        received: u64,
    },
    /// The digest of the content is wrong.
    #[error("failed to {operation}: digest mismatch, expected {expected}, the content from {host} has {found}")]
    Digest {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        expected: Digest,
        found: Digest,
    },
    /// The index has no image for the platform.
    #[error("{reference} has no image for {wanted}; it has {}", platforms(available))]
    NoPlatform { reference: String, wanted: Box<Platform>, available: Vec<Platform> },
    /// The name is not that of an image that can be built upon.
    #[error("{reference} is not an image: {problem}")]
    NotAnImage { reference: String, problem: String },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    /// A stop was requested.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// A response with an error status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked.
    pub operation: String,
    /// `host:port`.
    pub host: String,
    /// The URL of the token server without its query, if that refused.
    pub token_server: Option<String>,
    /// The HTTP status.
    pub status: StatusCode,
    /// The errors in the response.
    pub remote: Vec<RemoteError>,
    /// A description of the credentials and their origin.
    pub credentials: String,
    /// The scopes that a token was requested for, if the registry uses tokens.
    pub scopes: Vec<String>,
    /// The delay of `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to {}: ", self.operation)?;
        if let Some(token_server) = &self.token_server {
            write!(f, "the token server {token_server} of ")?;
        }
        write!(f, "{} answered {}{}", self.host, self.status, list(&self.remote))
    }
}

fn list(remote: &[RemoteError]) -> String {
    if remote.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = remote.iter().map(ToString::to_string).collect();
    format!(" ({})", shown.join("; "))
}

fn platforms(available: &[Platform]) -> String {
    if available.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> = available.iter().map(ToString::to_string).collect();
    shown.join(", ")
}

impl Transient for RegistryError {
    fn transient(&self) -> Option<Option<Duration>> {
        match self {
            Self::Refused(refusal) => {
                matches!(refusal.status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504).then_some(refusal.retry_after)
            }
            Self::Transport { source, .. } | Self::Connect { source, .. } => source.is_transient().then_some(None),
            Self::Truncated { .. } | Self::Slow { .. } => Some(None),
            _ => None,
        }
    }
}

impl RegistryError {
    /// Classifies an error of the HTTP library: the connection failed, or broke later.
    pub(super) fn from_http(operation: &str, host: &str, error: reqwest::Error) -> Self {
        let operation = operation.to_owned();
        let host = host.to_owned();
        let source = HttpError::new(error);
        if source.is_connect() {
            Self::Connect { operation, host, source }
        } else {
            Self::Transport { operation, host, source }
        }
    }

    /// Reports whether plain http should be tried after https failed like this: no TLS session was established. A later
    /// failure happened within TLS. A server that requires a client certificate reports that only after the handshake
    /// (TLS 1.3), and may close the connection before its alert is read.
    pub(super) fn suggests_plain_http(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }

    /// Reports whether only a certificate is the problem: the server's, or a missing one of ours.
    pub(super) fn blames_certificate(&self) -> bool {
        match self {
            Self::Connect { source, .. } | Self::Transport { source, .. } => {
                source.causes().to_lowercase().contains("certificate")
            }
            _ => false,
        }
    }

    /// Returns the HTTP status, if the registry responded.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status.as_u16()),
            _ => None,
        }
    }

    /// Reports whether a tag could not be written because tags are immutable.
    pub fn is_immutable_tag(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_immutable_tag())
    }

    /// Reports whether a manifest was refused because a blob that it names is missing.
    pub fn is_missing_blob(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_missing_blob())
    }

    /// Reports whether a different server may succeed.
    pub(super) fn concerns_server(&self) -> bool {
        !matches!(self, Self::Interrupted(_) | Self::File { .. } | Self::Setup { .. })
    }

    /// Reports whether the server cannot be used at all, rather than not for this request.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Transport { .. } | Self::Stalled { .. } | Self::Slow { .. })
            || self.status().is_some_and(|status| status >= 500)
    }

    /// Reports whether the server does not support HTTP/1.1 (the TLS alert of RFC 7301).
    pub(super) fn refuses_protocol(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.causes().contains("NoApplicationProtocol"))
    }

    /// Returns the signal that ended the request, if one did.
    pub fn interrupted(&self) -> Option<i32> {
        match self {
            Self::Interrupted(interrupted) => Some(interrupted.signal),
            _ => None,
        }
    }
}

impl Hint for RegistryError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => refusal.hint(),
            Self::Connect { host, source, .. } | Self::Transport { host, source, .. }
                if source.is_tls_alert() && self.blames_certificate() =>
            {
                Some(format!("{host} requires a client certificate: set --registry-client-cert={host}=CERTIFICATE,KEY"))
            }
            Self::Connect { host, source, .. } => Some(connect_hint(host, source)),
            Self::Truncated { .. } => {
                Some("the registry or a proxy in front of it ended the download early".to_owned())
            }
            Self::Digest { .. } | Self::Size { .. } => {
                Some("the registry, or a proxy or mirror in front of it, has damaged content".to_owned())
            }
            Self::NoPlatform { .. } => Some("choose one of these with --custom-platform or FROM --platform".to_owned()),
            Self::File(error) => error.hint(),
            Self::Credentials { source } => source.hint(),
            Self::Setup { .. }
            | Self::Transport { .. }
            | Self::Stalled { .. }
            | Self::Slow { .. }
            | Self::Protocol { .. }
            | Self::Json { .. }
            | Self::NotAnImage { .. }
            | Self::Interrupted(_) => None,
        }
    }
}

impl Refusal {
    fn hint(&self) -> Option<String> {
        let Self { host, credentials, operation, .. } = self;
        let writes = ["push", "upload", "mount", "check"].iter().any(|verb| operation.starts_with(verb));
        if self.says(&["quota", "storage limit", "LimitExceeded"]) {
            return Some("the project or the registry is full: delete old images there, or raise its quota".to_owned());
        }
        if self.is_immutable_tag() {
            return Some(
                "the tag exists and is immutable: push a different tag, or use --push-ignore-immutable-tag-errors"
                    .to_owned(),
            );
        }
        let asked = self.asked();
        Some(match self.status.as_u16() {
            401 => {
                format!("{credentials}{asked}; {host} needs valid ones in a config.json, whose directory DOCKER_CONFIG names")
            }
            403 if writes => format!("{credentials}{asked}; check that the user may push to this repository"),
            403 => format!("{credentials}{asked}; check that the user may pull from this repository"),
            404 if writes => {
                format!("check the repository's name; some registries need it to be created first ({credentials})")
            }
            404 => format!("check the name and the tag; a private repository may look missing too ({credentials})"),
            413 => "the registry or a proxy before it limits the size of a request, and smaller ones were not taken either \
                    (nginx: client_max_body_size)"
                .to_owned(),
            429 => format!("{host} limits the rate of requests; {credentials}"),
            _ => return None,
        })
    }

    /// Returns the scopes of the token, for a hint.
    fn asked(&self) -> String {
        if self.scopes.is_empty() { String::new() } else { format!(" (scope {})", self.scopes.join(" ")) }
    }

    /// Reports whether the registry refuses to overwrite a tag (the texts of ECR, Artifact Registry and Harbor).
    fn is_immutable_tag(&self) -> bool {
        self.operation.starts_with("push manifest")
            && self.says(&["enabled tag immutability", "tag is immutable", "configured as immutable"])
    }

    /// Reports whether the registry lacks a blob of the manifest (the code of the OCI distribution specification).
    fn is_missing_blob(&self) -> bool {
        self.operation.starts_with("push manifest")
            && self.remote.iter().any(|error| error.code == "MANIFEST_BLOB_UNKNOWN" || error.code == "BLOB_UNKNOWN")
    }

    /// Reports whether the registry's own text contains one of `words`.
    fn says(&self, words: &[&str]) -> bool {
        self.remote.iter().any(|error| {
            let said = format!("{} {}", error.code, error.message).to_lowercase();
            words.iter().any(|word| said.contains(&word.to_lowercase()))
        })
    }
}

fn connect_hint(host: &str, source: &HttpError) -> String {
    let plain =
        format!("if it uses plain http, allow that with --insecure-registry={host} (or --insecure, --insecure-pull)");
    // The TLS and DNS libraries' error types are not accessible here, only their texts.
    let causes = source.causes();
    if source.forbidden_reference().is_some() {
        return format!(
            "a remote server must not refer to this machine or its metadata service, nor must the address of {host} change to one \
             of these: check what resolves the name"
        );
    }
    if causes.contains("certificate") {
        return format!(
            "the certificate of {host} is not trusted here: name it or its authority with --registry-certificate={host}=FILE"
        );
    }
    if causes.contains("InvalidContentType") {
        return format!("{host} does not speak TLS; {plain}");
    }
    if causes.contains("dns error") {
        return format!("the name {host} could not be resolved: check it, and /etc/resolv.conf");
    }
    if source.is_timeout() {
        return format!("{host} does not answer: check the address, the network and its policies");
    }
    match source.io_kind() {
        Some(io::ErrorKind::ConnectionRefused) => format!("is the registry running at {host}? {plain}"),
        _ => format!("check that {host} can be reached from here; {plain}"),
    }
}
