//! Down into the directories of a tree and up again, with few of them open.
//!
//! A foreign archive decides how deep a tree is, and one descriptor for each level could take all that the process may have. Of the
//! directories on the way only the deepest are held open. A closed one is opened again as `..` of the directory below it, which
//! no link can lead elsewhere, and it must be the directory that was closed: where one was moved meanwhile, the way back ends
//! with an error. No path is involved, so a tree may be deeper than a path may be long.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::{Errno, Result};

use super::{Status, sys};

/// Directories held open. Ordinary trees are hardly deeper, so that none of theirs is opened twice; and several threads may
/// walk at once.
const MAX_OPEN: usize = 16;

/// The directories from where a walk began to where it is.
#[derive(Debug)]
pub struct Descent<'t> {
    /// Where it began.
    top: BorrowedFd<'t>,
    /// How directories are opened.
    flags: OFlags,
    /// Device and inode of the directories below it that were closed.
    closed: Vec<(u64, u64)>,
    /// The directories below those. Empty only at the top.
    open: VecDeque<OwnedFd>,
}

impl<'t> Descent<'t> {
    /// Begins at a directory. `flags`: how the directories below it are opened.
    pub fn new(top: BorrowedFd<'t>, flags: OFlags) -> Self {
        Self { top, flags, closed: Vec::new(), open: VecDeque::new() }
    }

    /// How many directories lie between the top and here, this one included.
    pub fn depth(&self) -> usize {
        self.closed.len() + self.open.len()
    }

    /// The directory that the walk is in.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.open.back().map_or(self.top, AsFd::as_fd)
    }

    /// Opens the directory called `name` in this one and goes into it.
    ///
    /// # Errors
    /// The kernel's answer; `ENOTDIR` or `ELOOP` when it is no directory but a link.
    pub fn enter(&mut self, name: &OsStr) -> Result<()> {
        let directory = sys::open_at(self.directory(), name, self.flags | OFlags::DIRECTORY, 0)?;
        self.push(directory)
    }

    /// Goes into a directory that was opened in this one.
    ///
    /// # Errors
    /// The kernel does not say which directory it is that has to be closed for it.
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

    /// Goes back into the directory above; stays at the top.
    ///
    /// # Errors
    /// The kernel's answer, or `ESTALE` when the directory above is not the one it was on the way down.
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

    /// Directories called `d` in each other, `depth` of them, with a file called `secret` beside the uppermost.
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
    fn the_way_up_is_the_way_down() {
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
        assert_eq!(Status::of(descent.directory()), Status::of(&root), "there is nothing above the top");
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

    /// The class of runc's CVE-2021-30465: a directory is exchanged for a link between two looks at it.
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
    fn a_directory_that_was_moved_out_leads_nowhere() {
        let (directory, root) = nested(DEEP);
        let mut descent = descended(&root);
        std::fs::rename(directory.path().join("root").join(below(5)), directory.path().join("moved")).expect("move");
        let failed = (0..DEEP).find_map(|_| descent.leave().err());
        // Its `..` is the directory that holds the secret.
        assert_eq!((failed, descent.depth()), (Some(Errno::STALE), 5));
        assert!(sys::open_at(descent.directory(), OsStr::new("secret"), OFlags::PATH, 0).is_err());
        assert_eq!(descent.leave(), Err(Errno::STALE), "it stays where it was");
    }
}
