//! The result of a command: its output, its exit status, and the files that only look changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// The stream that a chunk of output was written to.
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
    /// The command returned this exit code.
    Exited(i32),
    /// This signal ended the command.
    Signaled(i32),
}

impl Status {
    /// Reports whether the command returned 0.
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
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

impl ChangeTime {
    /// Returns the change time of a file.
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self { seconds: metadata.ctime(), nanoseconds: u32::try_from(metadata.ctime_nsec()).unwrap_or(0) }
    }
}

/// A file whose change time only the sandbox changed. A comparison by change time may treat `after` as `before`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restamp {
    /// Path relative to the root.
    pub path: PathBuf,
    /// The change time it had when [`Sandbox::run`](super::Sandbox::run) was called.
    pub before: ChangeTime,
    /// The change time it has now.
    pub after: ChangeTime,
}

/// The result of [`Sandbox::run`](super::Sandbox::run) for a command that ended, successfully or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How the command ended.
    pub status: Status,
    /// Files that look changed but are not.
    pub restamped: Vec<Restamp>,
    /// Mount points of the pod among the image's files that the command could not remove, replace or rename, as far as
    /// its output shows.
    pub busy: Vec<PathBuf>,
}
