//! What can go wrong with a tree.

use std::io;
use std::path::PathBuf;

use crate::diag::Hint;
use crate::diag::interrupt::Interrupted;
use crate::fs;

use super::archive::ArchiveError;

/// What helps against names that take too much memory.
const MORE_MEMORY: &str =
    "the limit is half of the memory that this container may use: give it more, or build from fewer files";

/// A tree could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// A file system operation failed.
    #[error(transparent)]
    Io(#[from] fs::Error),
    /// A layer's archive cannot be read.
    #[error("failed to read its archive")]
    Layer {
        /// The layer, as the caller names it.
        layer: String,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// A member of a layer cannot be unpacked.
    #[error("failed to unpack {member:?}")]
    Member {
        /// The layer, as the caller names it.
        layer: String,
        /// The member's name as it stands in the archive.
        member: String,
        /// Why.
        #[source]
        source: MemberError,
    },
    /// A layer has more members than any honest one.
    #[error("layer {layer} has more than {limit} members")]
    TooManyMembers {
        /// The layer, as the caller names it.
        layer: String,
        /// How many it may have.
        limit: u64,
    },
    /// What has to be remembered of the files would take more memory than it may.
    #[error("the names and extended attributes of the files in {} take more than {limit} bytes of memory", path.display())]
    TooMuchMetadata {
        /// The tree's directory.
        path: PathBuf,
        /// How much they may take.
        limit: usize,
    },
    /// The build was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Hint for RootfsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io(error) => error.hint(),
            Self::Layer { source, .. } => source.hint(),
            Self::Member { source, .. } => source.hint(),
            Self::TooMuchMetadata { .. } => Some(MORE_MEMORY.to_owned()),
            Self::TooManyMembers { .. } | Self::Interrupted(_) => None,
        }
    }
}

/// Why a member of a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// Its name, or the name it links to, leads out of the root directory.
    #[error("the path {path:?} leads out of the root directory")]
    Escapes {
        /// The path.
        path: String,
    },
    /// Its name is longer than a path may be.
    #[error("the name has {length} bytes, the limit is {limit}")]
    NameTooLong {
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// What has to be remembered of this and all files before it would take more memory than it may.
    #[error("the names and extended attributes of the layers' files take more than {limit} bytes of memory")]
    TooMuchMetadata {
        /// How much they may take.
        limit: usize,
    },
    /// A hard link to nothing, or to a directory.
    #[error("it is a hard link to {target:?}, which is no file in this or a lower layer")]
    LinkTarget {
        /// What it links to.
        target: String,
    },
    /// The root directory would become something else.
    #[error("the root directory can only be a directory")]
    Root,
    /// A directory on the way is something else.
    #[error("{path:?} is not a directory")]
    NotDirectory {
        /// The path.
        path: String,
    },
    /// A whiteout that names nothing.
    #[error("the whiteout names no file")]
    Whiteout,
    /// The file system refused.
    #[error("failed to {verb}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Hint for MemberError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } => source.hint(),
            Self::TooMuchMetadata { .. } => Some(MORE_MEMORY.to_owned()),
            Self::Escapes { .. }
            | Self::NameTooLong { .. }
            | Self::LinkTarget { .. }
            | Self::Root
            | Self::NotDirectory { .. }
            | Self::Whiteout => None,
        }
    }
}
