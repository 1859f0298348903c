//! What a command leaves: its output, how it ended, and which files only look changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Where a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Status {
    /// It returned this exit code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

impl Status {
    /// Whether the command returned 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

/// An inode change time (`st_ctime`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ChangeTime {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanoseconds: u32,
}

impl ChangeTime {
    /// Returns that of a file.
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self { seconds: metadata.ctime(), nanoseconds: u32::try_from(metadata.ctime_nsec()).unwrap_or(0) }
    }
}

/// A file whose change time the sandbox itself moved, and nobody else: a compare by change time may take `after` for
/// `before`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restamp {
    /// Path relative to the root.
    pub path: PathBuf,
    /// The change time it had when [`Sandbox::run`](super::Sandbox::run) was called.
    pub before: ChangeTime,
    /// The change time it has now.
    pub after: ChangeTime,
}

/// What [`Sandbox::run`](super::Sandbox::run) gives back when the command could be run to its end, well or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How the command ended.
    pub status: Status,
    /// Files that look changed but are not.
    pub restamped: Vec<Restamp>,
    /// Mount points of the pod among the image's files that the command could not remove, replace or rename, as far as its
    /// output tells.
    pub busy: Vec<PathBuf>,
}
