//! Errors of `crabwright push`: the archive or layout holds no image that can be pushed.

use std::io;
use std::path::PathBuf;

use crate::diag::Hint;
use crate::image::docker_archive_reader::DockerArchiveError;
use crate::image::layout::LayoutError;
use crate::image::{AssembleError, Digest};
use crate::layer::LayerError;

/// Why what lies at a path cannot be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushedImageError {
    /// There is nothing.
    #[error("failed to push {}", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive.
    #[error(transparent)]
    Archive(#[from] DockerArchiveError),
    /// A layer of it.
    #[error("failed to read layer {member} of {}", path.display())]
    Layer {
        /// The archive.
        path: PathBuf,
        /// The layer.
        member: String,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The layout.
    #[error("failed to read the OCI layout {}", path.display())]
    Layout {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: LayoutError,
    },
    /// It has no image, or several.
    #[error("the OCI layout {} has {found}, and exactly one is pushed", path.display())]
    ExpectedOneImage {
        /// Its directory.
        path: PathBuf,
        /// What it has.
        found: String,
    },
    /// A document of it is not the JSON it should be.
    #[error("failed to read {digest} of {} as JSON", path.display())]
    Json {
        /// Its directory.
        path: PathBuf,
        /// The document.
        digest: Digest,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The manifest.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
}

impl Hint for PushedImageError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { source, .. } => source.hint(),
            Self::Archive(error) => error.hint(),
            Self::Layer { source, .. } => source.hint(),
            Self::Layout { source, .. } => source.hint(),
            Self::ExpectedOneImage { .. } | Self::Json { .. } | Self::Assemble(_) => None,
        }
    }
}
