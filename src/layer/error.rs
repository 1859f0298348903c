//! The errors of writing and reading layers.

#![expect(missing_docs, reason = "`#[error]` says it")]

use std::path::PathBuf;

use crate::diag::Hint;
use crate::diag::interrupt::Interrupted;
use crate::fs;
use crate::image::Digest;

/// Why a layer could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error(transparent)]
    Io(#[from] fs::Error),
    /// Something still writes to the tree. `found` is at most one more than `expected`, however large the file is.
    #[error("{} changed while it was read: {expected} bytes became {found}", path.display())]
    FileChanged { path: PathBuf, expected: u64, found: u64 },
    #[error("failed to compress the layer")]
    Compress {
        #[source]
        source: std::io::Error,
    },
    #[error("failed to write the tar")]
    Tar {
        #[source]
        source: std::io::Error,
    },
    #[error("failed to read a layer of type {media_type}")]
    Read {
        media_type: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to start a thread that decompresses the layer")]
    Thread(#[source] std::io::Error),
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

/// The uncompressed content of a layer does not match the diffID. It is the cause of an [`std::io::Error`], because it
/// is detected while reading.
#[derive(Debug, thiserror::Error)]
#[error("the layer's content has the digest {found}, the image's config says {expected}")]
pub struct DiffIdMismatch {
    pub expected: Digest,
    pub found: Digest,
}
