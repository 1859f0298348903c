//! Owns the trees of a build: a tree has one owner, and dropping the owner removes its directory.
//!
//! Only the owner of an [`OwnedTree`] changes the tree. Once it is only read, it is a [`FinishedTree`], which also
//! stores the digests of its files. A file is identified by its inode, so the digests are dropped when the tree changes
//! or is removed: the next tree may have the same inodes.

use std::ops::{Deref, DerefMut};

use crate::cache::Files;
use crate::diag::progress::Progress;
use crate::fs::{OwnedDirectory, Removals};
use crate::plan::Action;
use crate::rootfs::Tree;

use super::copy::{CopyError, CopySource, FileDigests};
use super::files_of;

/// A tree that its owner may change. Dropping it removes the directory.
#[derive(Debug)]
pub(super) struct OwnedTree<'a> {
    // Dropped, and so closed, before its directory.
    tree: Tree,
    directory: OwnedDirectory<'a>,
    progress: &'a Progress,
}

impl<'a> OwnedTree<'a> {
    /// Takes over the directory of `tree`. Dropping it also subtracts it from the used disk space.
    pub(super) fn new(tree: Tree, removals: &'a Removals, progress: &'a Progress) -> Self {
        Self { directory: removals.own(tree.path()), tree, progress }
    }
}

impl Deref for OwnedTree<'_> {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.tree
    }
}

impl DerefMut for OwnedTree<'_> {
    fn deref_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }
}

impl Drop for OwnedTree<'_> {
    fn drop(&mut self) {
        self.progress.disk_use(self.directory.path(), 0);
    }
}

/// A tree that is only read.
#[derive(Debug)]
pub(super) struct FinishedTree<'a> {
    tree: OwnedTree<'a>,
    digests: FileDigests,
}

impl<'a> FinishedTree<'a> {
    /// Wraps a tree. No digests are known yet.
    pub(super) fn new(tree: OwnedTree<'a>) -> Self {
        Self { tree, digests: FileDigests::default() }
    }

    /// Returns the tree for changes and drops the digests.
    pub(super) fn into_tree(self) -> OwnedTree<'a> {
        self.tree
    }

    /// Returns the files that `action` reads from this tree as its origin number `origin`. `describe` names the tree in
    /// messages.
    ///
    /// # Errors
    /// As when the step executes.
    pub(super) fn files_of(&self, action: &Action, origin: usize, describe: &str) -> Result<Option<Files>, CopyError> {
        let source = CopySource { tree: &self.tree, ignore: None, reset_owner: false, describe };
        files_of(action, origin, &source, None, &self.digests)
    }
}

impl Deref for FinishedTree<'_> {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.tree
    }
}
