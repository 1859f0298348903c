//! The errors of writing the image's files (`type=local` and `type=tar`).

#![expect(missing_docs, reason = "`#[error]` says it")]

use std::path::PathBuf;

use crate::diag::Hint;
use crate::image::Digest;
use crate::layer::LayerError;
use crate::push::{PushError, Target};
use crate::registry::RegistryError;
use crate::rootfs::RootfsError;

/// Why the image's files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("failed to fetch layer {digest} for {target}")]
    Fetch {
        digest: Digest,
        target: Target,
        #[source]
        source: RegistryError,
    },
    #[error("failed to read layer {digest}")]
    Read {
        digest: Digest,
        #[source]
        source: LayerError,
    },
    #[error("failed to unpack layer {digest}")]
    Unpack {
        digest: Digest,
        #[source]
        source: RootfsError,
    },
    #[error("failed to write the image's files to {}", directory.display())]
    Directory {
        directory: PathBuf,
        #[source]
        source: RootfsError,
    },
    #[error(transparent)]
    Create(#[from] crate::fs::Error),
    #[error("failed to write the image's files to {target}")]
    Archive {
        target: Target,
        #[source]
        source: LayerError,
    },
    #[error(transparent)]
    Output(#[from] PushError),
}

impl Hint for FilesError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Fetch { source, .. } => source.hint(),
            Self::Read { source, .. } | Self::Archive { source, .. } => source.hint(),
            Self::Unpack { source, .. } | Self::Directory { source, .. } => source.hint(),
            Self::Create(error) => error.hint(),
            Self::Output(error) => error.hint(),
        }
    }
}
