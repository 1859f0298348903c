//! The errors of reading and writing layouts.

use std::path::PathBuf;

use crate::diag::Hint;
use crate::image::Digest;

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    /// A JSON file is malformed.
    #[error("failed to read {} as JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The directory is not a layout, or one of an unknown version.
    #[error("{} is not an OCI image layout of version 1", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
    },
    /// The blob's size differs from its descriptor's.
    #[error("blob {digest} in {}: expected {expected} bytes, found {found}", path.display())]
    Size {
        /// The layout's directory.
        path: PathBuf,
        /// The blob.
        digest: Digest,
        /// The descriptor's size.
        expected: u64,
        /// The actual size.
        found: u64,
    },
    /// The blob's content does not match its digest.
    #[error("blob {expected} in {}: the content has digest {found}", path.display())]
    Digest {
        /// The layout's directory.
        path: PathBuf,
        /// The blob.
        expected: Digest,
        /// The actual digest.
        found: Digest,
    },
    /// A document is too large for a manifest, index or configuration.
    #[error("{digest} in {}: {size} bytes are too many for a manifest or config", path.display())]
    TooLarge {
        /// The layout's directory.
        path: PathBuf,
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
    },
}

impl Hint for LayoutError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Json { .. }
            | Self::NotALayout { .. }
            | Self::Size { .. }
            | Self::Digest { .. }
            | Self::TooLarge { .. } => None,
        }
    }
}
