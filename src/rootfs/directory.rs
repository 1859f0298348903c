//! An open directory of a tree, which avoids resolving the path of each entry.

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

/// An open directory of a tree.
#[derive(Debug)]
pub struct Directory<'t> {
    tree: &'t Tree,
    path: PathBuf,
    pub(super) descriptor: Arc<OwnedFd>,
}

impl Tree {
    /// Opens a directory. A link to a directory is followed.
    ///
    /// # Errors
    /// The path is not a directory or cannot be opened.
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
    /// Returns its path in the tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn shown(&self, name: &OsStr) -> PathBuf {
        self.tree.shown(&self.path.join(name))
    }

    /// Returns the names in it, sorted by their bytes.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> Result<Vec<OsString>, RootfsError> {
        sys::names(&self.descriptor).map_err(|errno| self.tree.error("list", &self.path, errno))
    }

    /// Returns the node of an entry, as [`Tree::node`] does; extended attributes, which cost a further system call, are
    /// only included with `with_xattrs`.
    ///
    /// # Errors
    /// The status of the entry cannot be read.
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
