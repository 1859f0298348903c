//! Why a layer could not be written or read.

use std::path::PathBuf;

use crate::diag::Hint;
use crate::diag::interrupt::Interrupted;
use crate::fs;
use crate::image::Digest;

/// A layer could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] fs::Error),
    /// A file's size changed while it was put into the layer: something still writes to the tree.
    #[error("{} changed while it was read: {expected} bytes became {found}", path.display())]
    FileChanged {
        /// The file.
        path: PathBuf,
        /// Its size when it was opened.
        expected: u64,
        /// The bytes that were there in the end; one more than expected stands for any number.
        found: u64,
    },
    /// The threads that compress could not be started, or ended early.
    #[error("failed to compress the layer")]
    Compress {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A tar could not be written.
    #[error("failed to write the tar")]
    Tar {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The start of a layer, which tells how it is compressed, cannot be read.
    #[error("failed to read a layer of type {media_type}")]
    Read {
        /// What the manifest calls it.
        media_type: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The thread that reads ahead could not be started.
    #[error("failed to start a thread that decompresses the layer")]
    Thread(#[source] std::io::Error),
    /// The build was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Hint for LayerError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io(error) => error.hint(),
            Self::Compress { source } | Self::Tar { source } | Self::Read { source, .. } | Self::Thread(source) => {
                source.hint()
            }
            Self::FileChanged { .. } | Self::Interrupted(_) => None,
        }
    }
}

/// The uncompressed content of a layer is not what the image's config says. The cause of an [`std::io::Error`], because it
/// is found while reading.
#[derive(Debug, thiserror::Error)]
#[error("the layer's content has the digest {found}, the image's config says {expected}")]
pub struct DiffIdMismatch {
    /// What the config says.
    pub expected: Digest,
    /// What the content has.
    pub found: Digest,
}
