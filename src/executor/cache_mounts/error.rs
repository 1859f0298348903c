//! Errors of the archives in which cache mounts travel.

use crate::diag::Hint;
use crate::diag::interrupt::Interrupted;
use crate::layer::LayerError;
use crate::rootfs::RootfsError;
use crate::rootfs::archive::ArchiveError;

/// Why an archive of a cache mount cannot be written or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum CacheArchiveError {
    /// The archive cannot be read.
    #[error("failed to read its archive")]
    Archive(#[source] ArchiveError),
    /// This program did not write the archive.
    #[error("its archive is refused: {member:?} {problem}")]
    Foreign {
        /// The member's name as the archive has it.
        member: String,
        /// The rule that it breaks.
        problem: &'static str,
    },
    /// The archive has too many files.
    #[error("it has more than {limit} files")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// The names of its directories would take too much memory.
    #[error("the names of its directories have more than {limit} bytes")]
    TooManyDirectories {
        /// The limit.
        limit: usize,
    },
    /// The archive is too large.
    #[error("it unpacks to more than {limit} bytes (--cache-mounts-limit)")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// A file cannot be inspected.
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    /// A file cannot be written.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The archive cannot be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The build was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Hint for CacheArchiveError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Archive(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Rootfs(error) => error.hint(),
            Self::Layer(error) => error.hint(),
            Self::Foreign { .. }
            | Self::TooManyEntries { .. }
            | Self::TooManyDirectories { .. }
            | Self::TooLarge { .. }
            | Self::Interrupted(_) => None,
        }
    }
}
