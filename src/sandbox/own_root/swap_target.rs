//! Names the two directories of a swap, and the paths that stay.

use std::path::{Path, PathBuf};

use super::pinned_paths::PinnedPaths;
use super::state::{STASH, STATE};

/// The two directories of a swap, and the paths that stay.
#[derive(Debug, Clone)]
pub(super) struct SwapTarget {
    /// The directory whose entries are exchanged: `/`.
    pub(super) base: PathBuf,
    /// The stage's root directory.
    pub(super) root: PathBuf,
    /// The pinned paths; always with [`STATE`] and `root`.
    pub(super) pinned: PinnedPaths,
}

impl SwapTarget {
    /// Returns where a file of the container, given by its real path, is while the stage's files are in place.
    pub(super) fn during_swap(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.base) {
            Ok(inside) if !self.pinned.is_under_pinned(inside) => self.base.join(STATE).join(STASH).join(inside),
            _ => path.to_owned(),
        }
    }
}
