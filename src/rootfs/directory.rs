//! An open directory of a tree, whose entries need not be looked up from the top one by one.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::fs::{Status, sys};

use super::attributes::Node;
use super::error::RootfsError;
use super::tree::Tree;

/// A directory of a tree, to look at what is in it.
#[derive(Debug)]
pub struct Directory<'t> {
    tree: &'t Tree,
    path: PathBuf,
    pub(super) descriptor: Arc<OwnedFd>,
}

impl Tree {
    /// Opens a directory. A link to one is followed.
    ///
    /// # Errors
    /// It is not a directory or cannot be opened.
    pub fn directory(&self, path: &Path) -> Result<Directory<'_>, RootfsError> {
        let descriptor = Arc::new(self.open_directory(path)?);
        Ok(Directory { tree: self, path: path.to_owned(), descriptor })
    }

    pub(super) fn open_directory(&self, path: &Path) -> Result<OwnedFd, RootfsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        self.root().open_at(path, flags).map_err(|errno| self.error("open directory", path, errno))
    }
}

impl Directory<'_> {
    /// Where it is in the tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn shown(&self, name: &OsStr) -> PathBuf {
        self.tree.shown(&self.path.join(name))
    }

    /// The names in it, sorted by their bytes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(&self) -> Result<Vec<OsString>, RootfsError> {
        sys::names(&self.descriptor).map_err(|errno| self.tree.error("list", &self.path, errno))
    }

    /// What is called `name` in it, as [`Tree::node`] says it; without extended attributes, which cost another system call,
    /// unless `with_xattrs`.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn node(&self, name: &OsStr, with_xattrs: bool) -> Result<Option<Node>, RootfsError> {
        let found = Status::at(&self.descriptor, name)
            .and_then(|status| self.tree.node_of(self.descriptor.as_fd(), name, &status, with_xattrs));
        let path = || self.path.join(name);
        match found {
            Ok(node) => Ok(Some(node)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(self.tree.absent_node(&path())),
            Err(errno) => Err(self.tree.error("look at", &path(), errno)),
        }
    }
}
