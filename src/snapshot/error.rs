//! Why a tree could not be compared.

use crate::fs;

/// The tree could not be compared with its baseline.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Something in it cannot be read.
    #[error(transparent)]
    Io(#[from] fs::Error),
    /// The build was asked to stop.
    #[error("interrupted by signal {signal}")]
    Interrupted {
        /// The signal.
        signal: i32,
    },
}
