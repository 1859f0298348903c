//! The errors of a snapshot.

use crate::diag::Hint;
use crate::diag::interrupt::Interrupted;
use crate::fs;

/// Why a tree could not be compared with its baseline.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file of the tree cannot be read.
    #[error(transparent)]
    Io(#[from] fs::Error),
    /// A path is too long for any system to unpack.
    #[error(
        "directories are nested so deeply that a path has more than {limit} bytes ({start}…): no system can unpack such a \
         layer; remove them in the command that makes them"
    )]
    PathTooLong {
        /// The start of the path.
        start: String,
        /// The most bytes of a path.
        limit: usize,
    },
    /// The build was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Hint for SnapshotError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io(error) => error.hint(),
            Self::PathTooLong { .. } | Self::Interrupted(_) => None,
        }
    }
}
