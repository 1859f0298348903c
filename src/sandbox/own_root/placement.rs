//! What has to be known of a mount to undo it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cleared::Cleared;
use super::metadata::DirectoryMetadata;

/// One mount, as the journal has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Placement {
    /// Where it is put: an outside path without symbolic links.
    pub(super) target: PathBuf,
    /// Where what lay at the target waits.
    pub(super) hidden: PathBuf,
    pub(super) way: Way,
}

/// How a mount comes to its target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Way {
    /// Renamed.
    Move {
        origin: PathBuf,
        /// Of a directory: to make it anew when the command removed it.
        directory: Option<DirectoryMetadata>,
    },
    /// A symbolic link, because a rename would cross mounts or the source is in place elsewhere already.
    Link { to: PathBuf },
    /// The pod's own mount point, without what is in it.
    Clear(Cleared),
}
