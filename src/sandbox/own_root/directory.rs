//! Holds a directory open, so that it stays the same one whatever a command does to its path.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode};
use rustix::io::Errno;

use super::calls;
use crate::fs::{FileKind, Status};
use crate::sandbox::SandboxError;

/// The directory in which the kernel shows the paths of open files.
const DESCRIPTORS: &str = "/proc/self/fd";

/// An open directory, with its path for messages.
#[derive(Debug)]
pub(super) struct Directory {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Directory {
    /// Opens the directory `path`, whose parents are trusted. Fails for a symbolic link to a directory.
    pub(super) fn open(path: &Path) -> Result<Self, SandboxError> {
        let descriptor =
            calls::open_directory(CWD, path.as_os_str()).map_err(SandboxError::errno("open the directory", path))?;
        Ok(Self { descriptor, path: path.to_owned() })
    }

    /// Returns the path at which it was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a function for `map_err` that adds what failed on the directory itself.
    pub(super) fn error(&self, verb: &'static str, name: &OsStr) -> impl FnOnce(Errno) -> SandboxError {
        SandboxError::errno(verb, self.path.join(name))
    }

    /// Returns a function for `map_err` that adds what failed on `name` in this directory.
    pub(super) fn own_error(&self, verb: &'static str) -> impl FnOnce(Errno) -> SandboxError {
        SandboxError::errno(verb, self.path.as_path())
    }

    /// Opens the directory `name` in this one; `None` if nothing has that name, or it is not a directory.
    pub(super) fn below(&self, name: &OsStr) -> Result<Option<Self>, SandboxError> {
        match calls::open_directory(self, name) {
            Ok(descriptor) => Ok(Some(Self { descriptor, path: self.path.join(name) })),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.error("open the directory", name)(errno)),
        }
    }

    /// Opens the directory `path` below this one; no component of it may be a symbolic link. `None` as for
    /// [`Self::below`].
    pub(super) fn walk(&self, path: &Path) -> Result<Option<Self>, SandboxError> {
        let mut current = self.reopen()?;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            match current.below(name)? {
                Some(below) => current = below,
                None => return Ok(None),
            }
        }
        Ok(Some(current))
    }

    /// Opens the same directory a second time.
    pub(super) fn reopen(&self) -> Result<Self, SandboxError> {
        let descriptor = calls::open_directory(self, OsStr::new(".")).map_err(self.own_error("open the directory"))?;
        Ok(Self { descriptor, path: self.path.clone() })
    }

    /// Opens the directory `name` in this one, and creates it with this mode if it does not exist.
    pub(super) fn make(&self, name: &OsStr, mode: u32) -> Result<Self, SandboxError> {
        // On a full disk mkdir fails even for an existing directory.
        if let Some(found) = self.below(name)? {
            return Ok(found);
        }
        calls::make_directory(self, name, mode).map_err(self.error("create the directory", name))?;
        let descriptor = calls::open_directory(self, name).map_err(self.error("open the directory", name))?;
        let made = Self { descriptor, path: self.path.join(name) };
        // Independent of the umask.
        calls::change_mode(&made, mode).map_err(made.own_error("set the mode of"))?;
        Ok(made)
    }

    /// Returns the names of the entries, sorted.
    pub(super) fn names(&self) -> Result<Vec<OsString>, SandboxError> {
        calls::names(self).map_err(self.own_error("list"))
    }

    /// Returns the status of `name` in this directory, without following a symbolic link; `None` if nothing has that
    /// name.
    pub(super) fn status(&self, name: &OsStr) -> Result<Option<Status>, SandboxError> {
        match calls::status_at(self, name) {
            Ok(status) => Ok(Some(status)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("look at", name)(errno)),
        }
    }

    /// Reports whether `name` in this directory is the open file `other`.
    pub(super) fn has(&self, name: &OsStr, other: &impl AsFd) -> Result<bool, SandboxError> {
        let wanted = calls::status_of(other).map_err(self.error("look at", name))?;
        Ok(self.status(name)?.is_some_and(|found| is_same(&found, &wanted)))
    }

    /// Renames an entry, replacing an existing one if the kernel allows it. Without `CAP_DAC_OVERRIDE`, a directory
    /// must be writable to move to a different parent, because its `..` changes. It is made writable for that time.
    pub(super) fn rename(&self, old: &OsStr, to: &Self, new: &OsStr) -> rustix::io::Result<()> {
        match calls::rename(self, old, to, new) {
            Err(Errno::ACCESS) => {}
            answer => return answer,
        }
        let found = calls::status_at(self, old)?;
        if found.kind != FileKind::Directory || Mode::from_raw_mode(found.mode).contains(Mode::WUSR) {
            return Err(Errno::ACCESS);
        }
        let opened = calls::open_directory(self, old)?;
        calls::change_mode(&opened, found.mode | Mode::WUSR.as_raw_mode())?;
        let renamed = calls::rename(self, old, to, new);
        calls::change_mode(&opened, found.mode)?;
        renamed
    }
}

/// Returns the current path of an open file; `None` if it has been removed, or `/proc` does not show it.
pub(super) fn present_path(file: &impl AsFd) -> Option<PathBuf> {
    let path = std::fs::read_link(Path::new(DESCRIPTORS).join(file.as_fd().as_raw_fd().to_string())).ok()?;
    let (now, wanted) = (Status::at(CWD, path.as_os_str()).ok()?, Status::of(file).ok()?);
    is_same(&now, &wanted).then_some(path)
}

/// Reports whether both are of the same file.
pub(super) fn is_same(one: &Status, other: &Status) -> bool {
    (one.device, one.inode) == (other.device, other.inode)
}
