//! Why an instruction could not be done.

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
    /// A source that is not there, or that the build does not see.
    #[error("{path:?}: not found in {place}{}", hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
    NotFound {
        /// The source as a path of its tree.
        path: String,
        /// Where it was looked for.
        place: String,
        /// What may be wrong.
        hint: Option<String>,
    },
    /// A source that leads in a circle.
    #[error("{path:?}: too many symbolic links in {place}")]
    TooManyLinks {
        /// The source as a path of its tree.
        path: String,
        /// Where it was looked for.
        place: String,
    },
    /// A source that is a malformed pattern.
    #[error("bad pattern {pattern:?}")]
    Pattern {
        /// The source as written.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: BadPattern,
    },
    /// A pattern of `--exclude` is malformed.
    #[error("bad pattern in --exclude: {patterns}")]
    Exclude {
        /// The patterns as written.
        patterns: String,
        /// What is wrong with one of them.
        #[source]
        source: IgnoreError,
    },
    /// A source of `--parents` is malformed.
    #[error("bad pattern {pattern:?}")]
    ParentsPattern {
        /// The source as written.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: IgnoreError,
    },
    /// `--chmod` is malformed.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// `--chown` cannot be resolved.
    #[error(transparent)]
    Owner(#[from] UserError),
    /// A directory would have to replace something else.
    #[error("cannot copy to non-directory: {}", path.display())]
    NotDirectory {
        /// What is there, as a path of the image.
        path: PathBuf,
    },
    /// Something else would have to replace a directory.
    #[error("cannot replace to directory {} with file", path.display())]
    IsDirectory {
        /// The directory, as a path of the image.
        path: PathBuf,
    },
    /// An archive cannot be unpacked to where it should go.
    #[error("failed to unpack {archive:?} to {}: not a directory", path.display())]
    UnpackTarget {
        /// The archive as a path of its tree.
        archive: String,
        /// What is there, as a path of the image.
        path: PathBuf,
    },
    /// An archive is damaged.
    #[error("failed to unpack {archive:?}")]
    Archive {
        /// The archive as a path of its tree.
        archive: String,
        /// Why.
        #[source]
        source: Box<ArchiveError>,
    },
    /// A member of an archive cannot be unpacked.
    #[error("failed to unpack {member:?} of {archive:?}")]
    Member {
        /// The archive as a path of its tree.
        archive: String,
        /// The member's name as it stands in the archive.
        member: String,
        /// Why.
        #[source]
        source: Box<MemberError>,
    },
    /// It is no archive, or compressed in a way that nobody knows.
    #[error("{archive} is not a tar archive, plain or compressed with gzip, zstd, bzip2 or xz")]
    NotArchive {
        /// The archive's place, without credentials.
        archive: String,
        /// What stands there instead.
        #[source]
        source: io::Error,
    },
    /// An archive has more in it than is wanted.
    #[error("{archive} unpacks to more than {limit} files and directories")]
    TooManyEntries {
        /// The archive's place, without credentials.
        archive: String,
        /// The limit.
        limit: u64,
    },
    /// An archive is larger than is wanted.
    #[error("{archive} unpacks to more than {limit} bytes")]
    TooLarge {
        /// The archive's place, without credentials.
        archive: String,
        /// The limit.
        limit: u64,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] fs::Error),
    /// A tree cannot be read or changed, or the build was asked to stop.
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
    /// The directory it goes into is a link to nothing, or the file it links to is missing.
    #[error("{}: no such file or directory", path.display())]
    Missing {
        /// The path, within the directory unpacked to.
        path: PathBuf,
    },
    /// The way to it leads through something else than a directory.
    #[error("{}: not a directory", path.display())]
    NotDirectory {
        /// The path, within the directory unpacked to.
        path: PathBuf,
    },
    /// The way to it leads in a circle.
    #[error("{}: too many symbolic links", path.display())]
    TooManyLinks {
        /// The path, within the directory unpacked to.
        path: PathBuf,
    },
    /// The archive has too many members.
    #[error("too many members")]
    TooManyEntries,
    /// The archive's members are too large.
    #[error("too many bytes")]
    TooManyBytes,
    /// The tree cannot be changed.
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
