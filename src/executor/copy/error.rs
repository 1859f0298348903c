//! The errors of `COPY` and `ADD`.

#![expect(missing_docs, reason = "`#[error]` says it")]

use std::io;
use std::path::PathBuf;

use crate::context::{BadPattern, IgnoreError};
use crate::diag::Hint;
use crate::diag::interrupt::Interrupted;
use crate::executor::directories::DirectoryError;
use crate::executor::users::UserError;
use crate::fs;
use crate::rootfs::RootfsError;
use crate::rootfs::archive::ArchiveError;

use super::mode::ModeError;

/// A COPY or ADD that failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("{path:?}: not found in {place}{}", hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
    NotFound { path: String, place: String, hint: Option<String> },
    #[error("{path:?}: too many symbolic links in {place}")]
    TooManyLinks { path: String, place: String },
    #[error("bad pattern {pattern:?}")]
    Pattern {
        pattern: String,
        #[source]
        source: BadPattern,
    },
    #[error("bad pattern in --exclude: {patterns}")]
    Exclude {
        patterns: String,
        #[source]
        source: IgnoreError,
    },
    #[error("bad pattern {pattern:?}")]
    ParentsPattern {
        pattern: String,
        #[source]
        source: IgnoreError,
    },
    #[error(transparent)]
    Mode(#[from] ModeError),
    #[error(transparent)]
    Owner(#[from] UserError),
    #[error("cannot copy to non-directory: {}", path.display())]
    NotDirectory { path: PathBuf },
    #[error("cannot replace to directory {} with file", path.display())]
    IsDirectory { path: PathBuf },
    #[error("failed to unpack {archive:?} to {}: not a directory", path.display())]
    UnpackTarget { archive: String, path: PathBuf },
    #[error("failed to unpack {archive:?}")]
    Archive {
        archive: String,
        #[source]
        source: Box<ArchiveError>,
    },
    #[error("failed to unpack {member:?} of {archive:?}")]
    Member {
        archive: String,
        member: String,
        #[source]
        source: Box<MemberError>,
    },
    #[error("{archive} is not a tar archive, plain or compressed with gzip, zstd, bzip2 or xz")]
    NotArchive {
        archive: String,
        #[source]
        source: io::Error,
    },
    #[error("{archive} unpacks to more than {limit} files and directories")]
    TooManyEntries { archive: String, limit: u64 },
    #[error("{archive} unpacks to more than {limit} bytes")]
    TooLarge { archive: String, limit: u64 },
    #[error(transparent)]
    Read(#[from] fs::Error),
    #[error(transparent)]
    Tree(#[from] RootfsError),
}

impl Hint for CopyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::TooManyEntries { .. } => Some("--context-max-entries allows more".to_owned()),
            Self::TooLarge { .. } => Some("--context-max-size allows more, as in --context-max-size=20GiB".to_owned()),
            Self::Archive { source, .. } => source.hint(),
            Self::Member { source, .. } => source.hint(),
            Self::NotArchive { source, .. } => source.hint(),
            Self::Owner(error) => error.hint(),
            Self::Read(error) => error.hint(),
            Self::Tree(error) => error.hint(),
            // What may be wrong with a missing source is in the message.
            Self::NotFound { .. }
            | Self::TooManyLinks { .. }
            | Self::Pattern { .. }
            | Self::Exclude { .. }
            | Self::ParentsPattern { .. }
            | Self::Mode(_)
            | Self::NotDirectory { .. }
            | Self::IsDirectory { .. }
            | Self::UnpackTarget { .. } => None,
        }
    }
}

impl From<Interrupted> for CopyError {
    fn from(interrupted: Interrupted) -> Self {
        Self::Tree(interrupted.into())
    }
}

impl From<DirectoryError> for CopyError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::NotDirectory { path } => Self::NotDirectory { path },
            DirectoryError::Tree(error) => Self::Tree(error),
        }
    }
}

/// Why a member of an archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    #[error("{}: no such file or directory", path.display())]
    Missing { path: PathBuf },
    #[error("{}: not a directory", path.display())]
    NotDirectory { path: PathBuf },
    #[error("{}: too many symbolic links", path.display())]
    TooManyLinks { path: PathBuf },
    #[error("too many members")]
    TooManyEntries,
    #[error("too many bytes")]
    TooManyBytes,
    #[error(transparent)]
    Tree(#[from] RootfsError),
}

impl Hint for MemberError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Tree(error) => error.hint(),
            Self::Missing { .. }
            | Self::NotDirectory { .. }
            | Self::TooManyLinks { .. }
            | Self::TooManyEntries
            | Self::TooManyBytes => None,
        }
    }
}

/// Whether a file system operation failed for this reason.
pub(super) fn is_kind(error: &RootfsError, kind: io::ErrorKind) -> bool {
    matches!(error, RootfsError::Io(error) if error.kind() == kind)
}
