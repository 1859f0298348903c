//! The data of a mount that an undo needs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cleared::Cleared;
use super::metadata::DirectoryMetadata;

/// A mount, as recorded in the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Placement {
    /// The mount point: a path outside of the root, without symbolic links.
    pub(super) target: PathBuf,
    /// Where the entry at the target waits.
    pub(super) hidden: PathBuf,
    pub(super) way: Way,
}

/// The method that puts a mount in place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Way {
    /// A rename.
    Move {
        origin: PathBuf,
        /// The attributes of a directory, to create it again if the command removes it.
        directory: Option<DirectoryMetadata>,
    },
    /// A symbolic link, because a rename would cross mounts or the source is already mounted elsewhere.
    Link { to: PathBuf },
    /// The pod's own mount point, emptied.
    Clear(Cleared),
}
