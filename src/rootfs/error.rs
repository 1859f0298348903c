//! Errors of trees and of the members that are unpacked into them.

#![expect(missing_docs, reason = "`#[error]` says it")]

use std::io;
use std::path::PathBuf;

use crate::diag::Hint;
use crate::diag::interrupt::Interrupted;
use crate::fs;

use super::archive::ArchiveError;

/// The hint for names that take too much memory.
const MORE_MEMORY: &str =
    "the limit is half of the memory that this container may use: give it more, or build from fewer files";

/// A tree could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    #[error(transparent)]
    Io(#[from] fs::Error),
    #[error("failed to read its archive")]
    Layer {
        layer: String,
        #[source]
        source: ArchiveError,
    },
    #[error("failed to unpack {member:?}")]
    Member {
        layer: String,
        member: String,
        #[source]
        source: MemberError,
    },
    #[error("layer {layer} has more than {limit} members")]
    TooManyMembers { layer: String, limit: u64 },
    #[error("the names and extended attributes of the files in {} take more than {limit} bytes of memory", path.display())]
    TooMuchMetadata { path: PathBuf, limit: usize },
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
    #[error("the path {path:?} leads out of the root directory")]
    Escapes { path: String },
    #[error("the name has {length} bytes, the limit is {limit}")]
    NameTooLong { length: usize, limit: usize },
    #[error("the names and extended attributes of the layers' files take more than {limit} bytes of memory")]
    TooMuchMetadata { limit: usize },
    #[error("it is a hard link to {target:?}, which is not a file in this or a lower layer")]
    LinkTarget { target: String },
    #[error("the root directory can only be a directory")]
    Root,
    #[error("{path:?} is not a directory")]
    NotDirectory { path: String },
    #[error("the whiteout names no file")]
    Whiteout,
    #[error("failed to {verb}")]
    Io {
        verb: &'static str,
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
