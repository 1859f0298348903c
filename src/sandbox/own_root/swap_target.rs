//! What is exchanged with what, and what stays.

use std::path::{Path, PathBuf};

use super::pinned_paths::PinnedPaths;
use super::state::{STASH, STATE};

/// What is exchanged with what.
#[derive(Debug, Clone)]
pub(super) struct SwapTarget {
    /// The directory whose entries are exchanged: `/`.
    pub(super) base: PathBuf,
    /// The stage's root directory.
    pub(super) root: PathBuf,
    /// What stays: [`STATE`] and `root` in any case.
    pub(super) pinned: PinnedPaths,
}

impl SwapTarget {
    /// Where a file of the container's, given by its real path, is while the stage's are in place.
    pub(super) fn during_swap(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.base) {
            Ok(inside) if !self.pinned.is_under_pinned(inside) => self.base.join(STATE).join(STASH).join(inside),
            _ => path.to_owned(),
        }
    }
}
