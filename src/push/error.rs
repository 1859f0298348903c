//! What can go wrong on the way out, and how far the image had got.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::diag::Hint;
use crate::http::{HttpError, Interrupted};
use crate::image::archive::ArchiveError;
use crate::image::layout::LayoutError;
use crate::image::{Digest, Reference, ReferenceError};
use crate::registry::RegistryError;

/// What went wrong while an image was pushed or written.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// A destination cannot be a destination.
    #[error("failed to push to {destination}: a destination takes a tag, not a digest")]
    Digest {
        /// The destination.
        destination: Box<Reference>,
    },
    /// A blob could not be brought to a repository.
    #[error("failed to push to {repository} (no tag was written)")]
    Blob {
        /// The repository.
        repository: Box<Reference>,
        /// The cause.
        #[source]
        source: Box<RegistryError>,
    },
    /// A tag could not be written.
    #[error("failed to write tag {destination}{}", already(written))]
    Manifest {
        /// The tag.
        destination: Box<Reference>,
        /// The tags that were written before.
        written: Vec<Reference>,
        /// The cause.
        #[source]
        source: Box<RegistryError>,
    },
    /// The build was asked to stop.
    #[error("push interrupted by signal {signal}: {}; {}", tags(written), blobs(uploaded))]
    Interrupted {
        /// The signal's number.
        signal: i32,
        /// The tags that were written.
        written: Vec<Reference>,
        /// The blobs that had been uploaded, each with its repository.
        uploaded: Vec<(Reference, Digest)>,
    },
    /// A destination may not be pushed to.
    #[error(transparent)]
    Permission(Box<RegistryError>),
    /// A layer that only exists in a registry could not be fetched for a local output.
    #[error("failed to fetch layer {digest} for {}", output.display())]
    Fetch {
        /// The layer.
        digest: Digest,
        /// Where it was to be written.
        output: PathBuf,
        /// The cause.
        #[source]
        source: Box<RegistryError>,
    },
    /// The OCI layout could not be written.
    #[error("failed to write OCI layout {}", path.display())]
    Layout {
        /// The layout's directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: LayoutError,
    },
    /// The archive could not be written.
    #[error("failed to write the archive {}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ArchiveError,
    },
    /// The name that an archive has without destinations is malformed.
    #[error("failed to name the archive's image")]
    Name(#[from] ReferenceError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    /// An archive would go to a terminal.
    #[error("failed to write the archive to standard output: it is a terminal; give dest=FILE, or redirect it")]
    Terminal,
    /// A digest file is a URL that cannot be sent to.
    #[error("{flag}={value}: a digest is sent to https URLs only")]
    DigestUrl {
        /// The flag.
        flag: &'static str,
        /// Its value without credentials.
        value: String,
    },
    /// The image's digest could not be sent.
    #[error("failed to send the digest to {url}")]
    Send {
        /// Where to, without credentials.
        url: String,
        /// The cause.
        #[source]
        source: SendError,
    },
    /// The metadata could not be made.
    #[error("failed to write the image's metadata as JSON")]
    Metadata(#[source] serde_json::Error),
}

/// Why a digest could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The HTTP library cannot start.
    #[error("failed to start the HTTP client")]
    Clients(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server cannot be reached.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It refuses.
    #[error("the server answered {status}")]
    Status {
        /// Its answer.
        status: u16,
    },
    /// The build was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl PushError {
    /// What a push that a signal ended has left in registries.
    pub fn left_behind(&self) -> Option<String> {
        match self {
            Self::Interrupted { written, uploaded, .. } => Some(format!("{}; {}", tags(written), blobs(uploaded))),
            _ => None,
        }
    }
}

impl Hint for PushError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Blob { source, .. }
            | Self::Manifest { source, .. }
            | Self::Permission(source)
            | Self::Fetch { source, .. } => source.hint(),
            Self::Interrupted { .. } => {
                Some("blobs that were uploaded are found again by the next push to the same repository".to_owned())
            }
            Self::File(error) => error.hint(),
            Self::Layout { source, .. } => source.hint(),
            Self::Archive { source, .. } => source.hint(),
            Self::Digest { .. }
            | Self::Name(_)
            | Self::Terminal
            | Self::DigestUrl { .. }
            | Self::Send { .. }
            | Self::Metadata(_) => None,
        }
    }
}

fn names(references: &[Reference]) -> String {
    references.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn already(written: &[Reference]) -> String {
    if written.is_empty() {
        return " (no tag was written)".to_owned();
    }
    format!(" (already written: {})", names(written))
}

fn tags(written: &[Reference]) -> String {
    if written.is_empty() { "no tag was written".to_owned() } else { format!("written: {}", names(written)) }
}

/// How many blobs each repository has got: they are found again by the next push.
fn blobs(uploaded: &[(Reference, Digest)]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (repository, _) in uploaded {
        *counts.entry(repository.to_string()).or_default() += 1;
    }
    if counts.is_empty() {
        return "no blob was uploaded".to_owned();
    }
    let shown: Vec<String> = counts
        .iter()
        .map(|(repository, count)| format!("{count} {} to {repository}", if *count == 1 { "blob" } else { "blobs" }))
        .collect();
    format!("uploaded: {}", shown.join(", "))
}
