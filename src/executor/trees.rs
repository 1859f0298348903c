//! Trees of a build: each has one owner, and its directory ends with that owner.
//!
//! A tree is changed by its owner alone, as an [`OwnedTree`]. Once it is only read it is a [`FinishedTree`], and what has
//! been learnt of its files is kept with it: a file is known by its inode, and means nothing once the tree changes or is
//! gone, for the next tree may have the same inodes.

use std::ops::{Deref, DerefMut};

use crate::cache::Files;
use crate::diag::progress::Progress;
use crate::fs::{OwnedDirectory, Removals};
use crate::plan::Action;
use crate::rootfs::Tree;

use super::copy::{CopyError, CopySource, KnownFiles};
use super::files_of;

/// A tree that whoever has this may change. Dropping it removes the directory.
#[derive(Debug)]
pub(super) struct OwnedTree<'a> {
    // Closed before its directory goes.
    tree: Tree,
    directory: OwnedDirectory<'a>,
    progress: &'a Progress,
}

impl<'a> OwnedTree<'a> {
    /// Takes the directory of `tree` over. It no longer counts as used disk space when it goes.
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
    digests: KnownFiles,
}

impl<'a> FinishedTree<'a> {
    /// Nothing is known of its files yet.
    pub(super) fn new(tree: OwnedTree<'a>) -> Self {
        Self { tree, digests: KnownFiles::default() }
    }

    /// The tree, to be changed; what was known of its files is forgotten.
    pub(super) fn into_tree(self) -> OwnedTree<'a> {
        self.tree
    }

    /// What `action` reads of it as its origin with the number `origin`. `describe` is the tree's name in messages.
    ///
    /// # Errors
    /// As when the step is carried out.
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
