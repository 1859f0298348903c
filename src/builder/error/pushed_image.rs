//! The errors of reading an image for `crabwright push`.

#![expect(missing_docs, reason = "`#[error]` says it")]

use std::io;
use std::path::PathBuf;

use crate::diag::Hint;
use crate::image::docker_archive_reader::DockerArchiveError;
use crate::image::layout::LayoutError;
use crate::image::{AssembleError, Digest};
use crate::layer::LayerError;

/// Why an image cannot be read for a push.
#[derive(Debug, thiserror::Error)]
pub enum PushedImageError {
    #[error("failed to push {}", path.display())]
    Missing {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Archive(#[from] DockerArchiveError),
    #[error("failed to read layer {member} of {}", path.display())]
    Layer {
        path: PathBuf,
        member: String,
        #[source]
        source: LayerError,
    },
    #[error("failed to read the OCI layout {}", path.display())]
    Layout {
        path: PathBuf,
        #[source]
        source: LayoutError,
    },
    #[error("the OCI layout {} has {found}, and exactly one is pushed", path.display())]
    ExpectedOneImage { path: PathBuf, found: String },
    #[error("failed to read {digest} of {} as JSON", path.display())]
    Json {
        path: PathBuf,
        digest: Digest,
        #[source]
        source: serde_json::Error,
    },
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
