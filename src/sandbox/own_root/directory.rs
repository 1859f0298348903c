//! A directory that is held open: whatever a command does to the path it was opened by, this is still the same one.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode};
use rustix::io::Errno;

use super::calls;
use crate::fs::{FileKind, Status};
use crate::sandbox::SandboxError;

/// Where the kernel shows the paths of open files.
const DESCRIPTORS: &str = "/proc/self/fd";

/// An open directory, with the path that messages call it by.
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
    /// Opens the directory `path`, whose way is trusted; not a symbolic link to one.
    pub(super) fn open(path: &Path) -> Result<Self, SandboxError> {
        let descriptor =
            calls::open_directory(CWD, path.as_os_str()).map_err(SandboxError::errno("open the directory", path))?;
        Ok(Self { descriptor, path: path.to_owned() })
    }

    /// Where it was when it was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// For `map_err`: what was tried on `name` in here.
    pub(super) fn error(&self, verb: &'static str, name: &OsStr) -> impl FnOnce(Errno) -> SandboxError {
        SandboxError::errno(verb, self.path.join(name))
    }

    /// For `map_err`: what was tried on the directory itself.
    pub(super) fn own_error(&self, verb: &'static str) -> impl FnOnce(Errno) -> SandboxError {
        SandboxError::errno(verb, self.path.as_path())
    }

    /// Opens the directory `name` in here; `None` where there is nothing of that name, or something else.
    pub(super) fn below(&self, name: &OsStr) -> Result<Option<Self>, SandboxError> {
        match calls::open_directory(self, name) {
            Ok(descriptor) => Ok(Some(Self { descriptor, path: self.path.join(name) })),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.error("open the directory", name)(errno)),
        }
    }

    /// Opens the directory `path` below here; no component of it may be a symbolic link. `None` as for [`Self::below`].
    pub(super) fn walk(&self, path: &Path) -> Result<Option<Self>, SandboxError> {
        let mut here = self.again()?;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            match here.below(name)? {
                Some(below) => here = below,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    /// Opens it once more.
    pub(super) fn again(&self) -> Result<Self, SandboxError> {
        let descriptor = calls::open_directory(self, OsStr::new(".")).map_err(self.own_error("open the directory"))?;
        Ok(Self { descriptor, path: self.path.clone() })
    }

    /// Opens the directory `name` in here, which is made with this mode if there is none.
    pub(super) fn make(&self, name: &OsStr, mode: u32) -> Result<Self, SandboxError> {
        // On a full disk even a directory that is there already cannot be made.
        if let Some(found) = self.below(name)? {
            return Ok(found);
        }
        calls::make_directory(self, name, mode).map_err(self.error("create the directory", name))?;
        let descriptor = calls::open_directory(self, name).map_err(self.error("open the directory", name))?;
        let made = Self { descriptor, path: self.path.join(name) };
        // Whatever the umask is.
        calls::change_mode(&made, mode).map_err(made.own_error("set the mode of"))?;
        Ok(made)
    }

    /// The names in here, sorted.
    pub(super) fn names(&self) -> Result<Vec<OsString>, SandboxError> {
        calls::names(self).map_err(self.own_error("list"))
    }

    /// What `name` in here is, not followed if it is a symbolic link; `None` where there is nothing.
    pub(super) fn status(&self, name: &OsStr) -> Result<Option<Status>, SandboxError> {
        match calls::status_at(self, name) {
            Ok(status) => Ok(Some(status)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("look at", name)(errno)),
        }
    }

    /// Whether `name` in here is this open `other`.
    pub(super) fn has(&self, name: &OsStr, other: &impl AsFd) -> Result<bool, SandboxError> {
        let wanted = calls::status_of(other).map_err(self.error("look at", name))?;
        Ok(self.status(name)?.is_some_and(|found| is_same(&found, &wanted)))
    }

    /// Renames, which replaces what has the new name if the kernel lets it. Where `CAP_DAC_OVERRIDE` is dropped, a directory must be
    /// writable to come to lie in another one, because its `..` changes; its mode is given back.
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

/// The path that an open file has now; `None` if it has none any more, or `/proc` does not tell.
pub(super) fn present_path(file: &impl AsFd) -> Option<PathBuf> {
    let path = std::fs::read_link(Path::new(DESCRIPTORS).join(file.as_fd().as_raw_fd().to_string())).ok()?;
    let (now, wanted) = (Status::at(CWD, path.as_os_str()).ok()?, Status::of(file).ok()?);
    is_same(&now, &wanted).then_some(path)
}

/// Whether these are of one file.
pub(super) fn is_same(one: &Status, other: &Status) -> bool {
    (one.device, one.inode) == (other.device, other.inode)
}
