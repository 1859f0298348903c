//! Errors of the outputs that are files of the image: `type=local` and `type=tar`.

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
    /// A layer could not be fetched.
    #[error("failed to fetch layer {digest} for {target}")]
    Fetch {
        /// The layer.
        digest: Digest,
        /// What was to be written.
        target: Target,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// A layer could not be read.
    #[error("failed to read layer {digest}")]
    Read {
        /// The layer.
        digest: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A layer could not be unpacked.
    #[error("failed to unpack layer {digest}")]
    Unpack {
        /// The layer.
        digest: Digest,
        /// Why.
        #[source]
        source: RootfsError,
    },
    /// A file could not be written to the directory, or read before.
    #[error("failed to write the image's files to {}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: RootfsError,
    },
    /// The directory could not be made.
    #[error(transparent)]
    Create(#[from] crate::fs::Error),
    /// The archive could not be written.
    #[error("failed to write the image's files to {target}")]
    Archive {
        /// The archive.
        target: Target,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// Its file could not.
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
