//! Descends into the directories of a tree and back, with a bounded number of open descriptors.
//!
//! An untrusted archive decides how deep a tree is, and a descriptor for each level could exhaust the process's limit.
//! Only the deepest directories of the path are held open. A closed one is opened again as `..` of its child, which no
//! link can redirect, and must be the directory that was closed: if a directory was moved meanwhile, going back fails.
//! No path is involved, so a tree may be deeper than the longest path.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::{Errno, Result};

use super::{Status, sys};

/// The most open directories. Ordinary trees are hardly deeper, so none of their directories is opened twice; and
/// several threads may walk at a time.
const MAX_OPEN: usize = 16;

/// The directories from the start of a walk to its current one.
#[derive(Debug)]
pub struct Descent<'t> {
    /// The start.
    top: BorrowedFd<'t>,
    /// The flags with which directories are opened.
    flags: OFlags,
    /// Device and inode of the closed directories below the start.
    closed: Vec<(u64, u64)>,
    /// The open directories below those. Empty only at the start.
    open: VecDeque<OwnedFd>,
}

impl<'t> Descent<'t> {
    /// Starts at a directory. `flags` are those with which the directories below it are opened.
    pub fn new(top: BorrowedFd<'t>, flags: OFlags) -> Self {
        Self { top, flags, closed: Vec::new(), open: VecDeque::new() }
    }

    /// Returns the number of directories below the start, including the current one.
    pub fn depth(&self) -> usize {
        self.closed.len() + self.open.len()
    }

    /// Returns the current directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.open.back().map_or(self.top, AsFd::as_fd)
    }

    /// Opens the directory `name` in the current one and enters it.
    ///
    /// # Errors
    /// The kernel's error; `ENOTDIR` or `ELOOP` if it is a link, not a directory.
    pub fn enter(&mut self, name: &OsStr) -> Result<()> {
        let directory = sys::open_at(self.directory(), name, self.flags | OFlags::DIRECTORY, 0)?;
        self.push(directory)
    }

    /// Enters a directory that was opened in the current one.
    ///
    /// # Errors
    /// The identity of a directory that has to be closed cannot be read.
    pub fn push(&mut self, directory: OwnedFd) -> Result<()> {
        if self.open.len() >= MAX_OPEN
            && let Some(uppermost) = self.open.front()
        {
            self.closed.push(identity(uppermost)?);
            self.open.pop_front();
        }
        self.open.push_back(directory);
        Ok(())
    }

    /// Returns to the parent directory; stays at the start.
    ///
    /// # Errors
    /// The kernel's error, or `ESTALE` if the parent is not the directory from which this one was entered.
    pub fn leave(&mut self) -> Result<()> {
        if self.open.len() == 1
            && let Some(left) = self.closed.last()
        {
            let above = sys::open_at(self.directory(), OsStr::new(".."), self.flags | OFlags::DIRECTORY, 0)?;
            if identity(&above)? != *left {
                return Err(Errno::STALE);
            }
            self.closed.pop();
            self.open.push_front(above);
        }
        self.open.pop_back();
        Ok(())
    }
}

fn identity(directory: &OwnedFd) -> Result<(u64, u64)> {
    let Status { device, inode, .. } = Status::of(directory)?;
    Ok((device, inode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use super::*;

    const DEEP: usize = 3 * MAX_OPEN;

    /// Nested directories called `d`, and a file called `secret` next to the uppermost.
    fn nested(depth: usize) -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(directory.path().join("secret"), "outside").expect("file");
        std::fs::create_dir_all(directory.path().join("root").join(below(depth))).expect("directories");
        let root = super::super::Root::open(directory.path().join("root")).expect("root");
        let root = root.open_at(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY).expect("root");
        (directory, root)
    }

    fn below(depth: usize) -> PathBuf {
        std::iter::repeat_n("d", depth).collect()
    }

    fn descended(root: &OwnedFd) -> Descent<'_> {
        let mut descent = Descent::new(root.as_fd(), OFlags::PATH);
        for _ in 0..DEEP {
            descent.enter(OsStr::new("d")).expect("enter");
        }
        assert_eq!(descent.open.len(), MAX_OPEN);
        descent
    }

    #[test]
    fn leaving_returns_to_the_same_directories() {
        let (_directory, root) = nested(DEEP);
        let mut descent = Descent::new(root.as_fd(), OFlags::PATH);
        let mut seen = vec![Status::of(&root).expect("status").inode];
        for depth in 1..=DEEP {
            descent.enter(OsStr::new("d")).expect("enter");
            seen.push(Status::of(descent.directory()).expect("status").inode);
            assert_eq!((descent.depth(), descent.open.len()), (depth, depth.min(MAX_OPEN)));
        }
        while let Some(inode) = seen.pop() {
            assert_eq!((descent.depth(), Status::of(descent.directory()).expect("status").inode), (seen.len(), inode));
            descent.leave().expect("leave");
        }
        assert_eq!(Status::of(descent.directory()), Status::of(&root), "the start has no parent");
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_is_not_entered() {
        let (directory, root) = nested(1);
        let mut descent = Descent::new(root.as_fd(), OFlags::PATH);
        std::fs::rename(directory.path().join("root/d"), directory.path().join("root/moved")).expect("move");
        symlink(directory.path(), directory.path().join("root/d")).expect("link");
        assert!(matches!(descent.enter(OsStr::new("d")), Err(Errno::NOTDIR | Errno::LOOP)));
        assert_eq!(descent.depth(), 0);
    }

    /// As in runc's CVE-2021-30465: a directory is replaced by a link between two accesses.
    #[test]
    fn a_link_in_the_place_of_a_closed_directory_is_not_followed_on_the_way_up() {
        let (directory, root) = nested(DEEP);
        let mut descent = descended(&root);
        let above = directory.path().join("root").join(below(3));
        std::fs::rename(above.join("d"), above.join("moved")).expect("move");
        symlink(directory.path(), above.join("d")).expect("link");
        for depth in (0..DEEP).rev() {
            descent.leave().expect("the same directories by another name");
            assert_eq!(descent.depth(), depth);
            assert!(sys::open_at(descent.directory(), OsStr::new("secret"), OFlags::PATH, 0).is_err(), "{depth}");
        }
    }

    #[test]
    fn a_moved_directory_cannot_be_left() {
        let (directory, root) = nested(DEEP);
        let mut descent = descended(&root);
        std::fs::rename(directory.path().join("root").join(below(5)), directory.path().join("moved")).expect("move");
        let failed = (0..DEEP).find_map(|_| descent.leave().err());
        // Its `..` is the directory with the secret.
        assert_eq!((failed, descent.depth()), (Some(Errno::STALE), 5));
        assert!(sys::open_at(descent.directory(), OsStr::new("secret"), OFlags::PATH, 0).is_err());
        assert_eq!(descent.leave(), Err(Errno::STALE), "the current directory is unchanged");
    }
}
