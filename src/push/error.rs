//! The errors of writing and pushing an image. They list what has been written so far.

#![expect(missing_docs, reason = "`#[error]` says it")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::diag::Hint;
use crate::http::{HttpError, Interrupted};
use crate::image::archive::ArchiveError;
use crate::image::layout::LayoutError;
use crate::image::{Digest, Reference, ReferenceError};
use crate::registry::RegistryError;

/// Why an image could not be pushed or written.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("failed to push to {destination}: a destination takes a tag, not a digest")]
    Digest { destination: Box<Reference> },
    #[error("failed to push to {repository} (no tag was written)")]
    Blob {
        repository: Box<Reference>,
        #[source]
        source: Box<RegistryError>,
    },
    #[error("failed to write tag {destination}{}", already(written))]
    Manifest {
        destination: Box<Reference>,
        written: Vec<Reference>,
        #[source]
        source: Box<RegistryError>,
    },
    #[error("push interrupted by signal {signal}: {}; {}", tags(written), blobs(uploaded))]
    Interrupted { signal: i32, written: Vec<Reference>, uploaded: Vec<(Reference, Digest)> },
    #[error(transparent)]
    Permission(Box<RegistryError>),
    #[error("failed to fetch layer {digest} for {}", output.display())]
    Fetch {
        digest: Digest,
        output: PathBuf,
        #[source]
        source: Box<RegistryError>,
    },
    #[error("failed to write OCI layout {}", path.display())]
    Layout {
        path: PathBuf,
        #[source]
        source: LayoutError,
    },
    #[error("failed to write the archive {}", path.display())]
    Archive {
        path: PathBuf,
        #[source]
        source: ArchiveError,
    },
    #[error("failed to name the archive's image")]
    Name(#[from] ReferenceError),
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    #[error("failed to write the archive to standard output: it is a terminal; give dest=FILE, or redirect it")]
    Terminal,
    #[error("{flag}={value}: digests are only sent to https URLs")]
    DigestUrl { flag: &'static str, value: String },
    #[error("failed to send the digest to {url}")]
    Send {
        url: String,
        #[source]
        source: SendError,
    },
    #[error("failed to write the image's metadata as JSON")]
    Metadata(#[source] serde_json::Error),
}

/// Why a digest could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("failed to start the HTTP client")]
    Clients(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the server answered {status}")]
    Status { status: u16 },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl PushError {
    /// Returns the tags and blobs that an interrupted push has written; `None` for other errors.
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
                Some("the next push to the same repository reuses the uploaded blobs".to_owned())
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

/// Describes the number of uploaded blobs of each repository, which the next push reuses.
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
