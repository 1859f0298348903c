//! What can go wrong between us and a registry, whether trying again may help, and what to tell the user to look at.

use std::fmt;
use std::io;
use std::time::Duration;

use reqwest::StatusCode;

use super::credentials::CredentialsError;
use super::remote_error::RemoteError;
use crate::diag::Hint;
use crate::http::{HttpError, Interrupted, SetupError, Transient};
use crate::image::{Digest, Platform};

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The HTTP client could not be made.
    #[error("failed to set up the HTTP client")]
    Setup {
        /// The cause.
        #[source]
        source: SetupError,
    },
    /// The Docker config could not be used.
    #[error("failed to load registry credentials")]
    Credentials {
        /// The cause.
        #[source]
        source: CredentialsError,
    },
    /// No connection to the host came about.
    #[error("failed to {operation}: cannot connect to {host}")]
    Connect {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        /// The cause; without the URL, which may be signed.
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
        /// The cause; without the URL, which may be signed.
        #[source]
        source: HttpError,
    },
    /// Nothing moved for too long.
    #[error("failed to {operation}: nothing came from or went to {host} for {} seconds", idle.as_secs())]
    Stalled {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        /// How long.
        idle: Duration,
    },
    /// So little came that the blob would take for ever.
    #[error("failed to {operation}: hardly anything comes from {host}")]
    Slow {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
    },
    /// The registry, or its token server, refused.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The registry answered with something that makes no sense.
    #[error("failed to {operation}: {host} {problem}")]
    Protocol {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// A document is not the JSON it should be.
    #[error("failed to {operation}: {host} sent a malformed document")]
    Json {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        /// The cause.
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
        /// The bytes that came.
        received: u64,
        /// How the connection ended, where it did not end as it should.
        #[source]
        source: Option<HttpError>,
    },
    /// The content has another size than its descriptor says.
    #[error("failed to {operation}: wrong size, expected {expected} bytes, {host} sends {received}")]
    Size {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        /// The descriptor's size.
        expected: u64,
        /// What the registry announced, or what had come when it was too much.
        received: u64,
    },
    /// The content is not what was asked for.
    #[error("failed to {operation}: digest mismatch, expected {expected}, the content from {host} has {found}")]
    Digest {
        /// What was asked.
        operation: String,
        /// `host:port`.
        host: String,
        /// The digest asked for.
        expected: Digest,
        /// The content's digest.
        found: Digest,
    },
    /// The index has no image for the platform.
    #[error("{reference} has no image for {wanted}; it has {}", platforms(available))]
    NoPlatform {
        /// The image.
        reference: String,
        /// What was asked for.
        wanted: Box<Platform>,
        /// What there is.
        available: Vec<Platform>,
    },
    /// What the name stands for is not an image that can be built upon.
    #[error("{reference} is not an image: {problem}")]
    NotAnImage {
        /// The name.
        reference: String,
        /// Why.
        problem: String,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    /// The build was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// An answer with a status that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked.
    pub operation: String,
    /// `host:port`.
    pub host: String,
    /// The URL of the token server without its query, where that one refused.
    pub token_server: Option<String>,
    /// The HTTP status.
    pub status: StatusCode,
    /// The server's own errors.
    pub remote: Vec<RemoteError>,
    /// Which credentials were used, and where they came from.
    pub credentials: String,
    /// The scopes that a token was asked for, where the registry wants tokens.
    pub scopes: Vec<String>,
    /// What `Retry-After` asked for.
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
    /// Sorts an error of the HTTP library: did the connection fail to come about, or break?
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

    /// Whether a host that may speak plain http should be asked so, after https failed like this: no session came about. What
    /// breaks later broke over TLS; a server that wants a certificate of ours says so only after the handshake (TLS 1.3), and
    /// may close the connection before it is heard.
    pub(super) fn suggests_plain_http(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }

    /// Whether TLS itself works, and only the server's certificate, or the lack of one of ours, stands in the way.
    pub(super) fn blames_certificate(&self) -> bool {
        match self {
            Self::Connect { source, .. } | Self::Transport { source, .. } => {
                source.causes().to_lowercase().contains("certificate")
            }
            _ => false,
        }
    }

    /// The HTTP status, if the registry answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status.as_u16()),
            _ => None,
        }
    }

    /// Whether a tag could not be written because the registry lets no tag change.
    pub fn is_immutable_tag(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_immutable_tag())
    }

    /// Whether a manifest was refused because a blob that it names is not there.
    pub fn is_missing_blob(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_missing_blob())
    }

    /// Whether another server may give what this one did not.
    pub(super) fn concerns_server(&self) -> bool {
        !matches!(self, Self::Interrupted(_) | Self::File { .. } | Self::Setup { .. })
    }

    /// Whether the server cannot be used at all, rather than not for this.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Transport { .. } | Self::Stalled { .. } | Self::Slow { .. })
            || self.status().is_some_and(|status| status >= 500)
    }

    /// Whether the server speaks no HTTP/1.1 (the TLS alert of RFC 7301).
    pub(super) fn refuses_protocol(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.causes().contains("NoApplicationProtocol"))
    }

    /// The signal that ended the request, if one did.
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
                Some(format!(
                    "{host} wants to be shown a certificate it knows: give --registry-client-cert={host}=CERTIFICATE,KEY"
                ))
            }
            Self::Connect { host, source, .. } => Some(connect_hint(host, source)),
            Self::Truncated { .. } => Some("the registry or a proxy before it cut the download short".to_owned()),
            Self::Digest { .. } | Self::Size { .. } => {
                Some("the registry, or a proxy or mirror before it, holds damaged content".to_owned())
            }
            Self::NoPlatform { .. } => {
                Some("ask for one of these with --custom-platform or FROM --platform".to_owned())
            }
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
            return Some(
                "the project or the registry is full: delete old images there, or have its quota raised".to_owned(),
            );
        }
        if self.is_immutable_tag() {
            return Some(
                "the tag is there and must not change: push under another, or give --push-ignore-immutable-tag-errors"
                    .to_owned(),
            );
        }
        let asked = self.asked();
        Some(match self.status.as_u16() {
            401 => {
                format!("{credentials}{asked}; {host} wants valid ones in a config.json, whose directory DOCKER_CONFIG names")
            }
            403 if writes => format!("{credentials}{asked}; check that the user may push to this repository"),
            403 => format!("{credentials}{asked}; check that the user may pull from this repository"),
            404 if writes => {
                format!("check the repository's name; some registries want it created first ({credentials})")
            }
            404 => format!("check the name and the tag; a private repository may look absent too ({credentials})"),
            413 => "the registry or a proxy before it limits the size of a request, and smaller ones were not taken either \
                    (nginx: client_max_body_size)"
                .to_owned(),
            429 => format!("{host} limits the rate of requests; {credentials}"),
            _ => return None,
        })
    }

    /// The scopes of the token, for a hint.
    fn asked(&self) -> String {
        if self.scopes.is_empty() { String::new() } else { format!(" (scope {})", self.scopes.join(" ")) }
    }

    /// Whether the registry keeps a tag from being written a second time (the words of ECR, Artifact Registry and Harbor).
    fn is_immutable_tag(&self) -> bool {
        self.operation.starts_with("push manifest")
            && self.says(&["enabled tag immutability", "tag is immutable", "configured as immutable"])
    }

    /// Whether the registry lacks a blob of the manifest (the code of the OCI distribution specification).
    fn is_missing_blob(&self) -> bool {
        self.operation.starts_with("push manifest")
            && self.remote.iter().any(|error| error.code == "MANIFEST_BLOB_UNKNOWN" || error.code == "BLOB_UNKNOWN")
    }

    /// Whether the registry's own words have one of `words` in them.
    fn says(&self, words: &[&str]) -> bool {
        self.remote.iter().any(|error| {
            let said = format!("{} {}", error.code, error.message).to_lowercase();
            words.iter().any(|word| said.contains(&word.to_lowercase()))
        })
    }
}

fn connect_hint(host: &str, source: &HttpError) -> String {
    let plain =
        format!("if it speaks plain http, allow that with --insecure-registry={host} (or --insecure, --insecure-pull)");
    // The TLS and DNS libraries' own types are not reachable from here, only their words are.
    let causes = source.causes();
    if source.led_astray().is_some() {
        return format!(
            "a server elsewhere must not lead to this machine or its metadata service, nor must the address of {host} change to one \
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
