//! Why a tree could not be compared.

use crate::diag::Hint;
use crate::diag::interrupt::Interrupted;
use crate::fs;

/// The tree could not be compared with its baseline.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Something in it cannot be read.
    #[error(transparent)]
    Io(#[from] fs::Error),
    /// A path that no layer can hold.
    #[error(
        "directories lie so deep in each other that a path has more than {limit} bytes ({start}…): no system can unpack such a \
         layer; remove them in the command that makes them"
    )]
    PathTooLong {
        /// How the path begins.
        start: String,
        /// How many bytes it may have.
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
