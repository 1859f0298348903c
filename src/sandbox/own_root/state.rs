//! The directory in which a swap keeps its journal, its stash and the entries hidden by mounts.
//!
//! It is in the swapped directory itself. So it is on the same mount, as renames need; every start of this program in
//! the container finds it, whatever its work directory; and it can be created wherever a swap is possible. It exists
//! only during a swap.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use rustix::io::Errno;

use super::calls;
use super::directory::Directory;
use super::journal;
use super::metadata::DirectoryMetadata;
use crate::fs::FileKind;
use crate::sandbox::{SandboxError, mountinfo};

/// Its name.
pub(super) const STATE: &str = ".crabwright";
/// The directory of the container's entries.
pub(super) const STASH: &str = "stash";
/// The directory of entries that mounts hide, and of the content that mounts show.
pub(super) const MOUNTS: &str = "mounts";
/// The directory of entries that were in the place of a moved one, until they are removed.
const AWAY: &str = "away";

/// The open directories of a swap's state.
#[derive(Debug)]
pub(super) struct StateDirectories {
    pub(super) directory: Directory,
    pub(super) stash: Directory,
    pub(super) away: Directory,
}

impl StateDirectories {
    /// Creates all directories now: later the disk may be full.
    pub(super) fn make(base: &Directory) -> Result<Self, SandboxError> {
        // Commands of any user must be able to pass through it to the target of a link.
        let directory = base.make(OsStr::new(STATE), 0o711)?;
        let stash = directory.make(OsStr::new(STASH), 0o700)?;
        let away = directory.make(OsStr::new(AWAY), 0o700)?;
        Ok(Self { directory, stash, away })
    }

    /// Removes what is not needed after everything is restored: entries that were in the place of moved ones, and the
    /// content of mounts.
    pub(super) fn clear(&self) -> Result<(), SandboxError> {
        for (directory, names) in [(&self.away, self.away.names()?), (&self.directory, vec![OsString::from(MOUNTS)])] {
            for name in names {
                if directory.status(&name)?.is_some() {
                    self.require_no_mount()?;
                    calls::remove_tree(directory, &name).map_err(directory.error("remove", &name))?;
                }
            }
        }
        Ok(())
    }

    /// Refuses to remove the files of a mount.
    fn require_no_mount(&self) -> Result<(), SandboxError> {
        let mounts = mountinfo::read()?;
        match mounts.into_iter().find(|mount| mount.mount_point.starts_with(self.directory.path())) {
            None => Ok(()),
            Some(mount) => Err(SandboxError::errno("remove", mount.mount_point)(Errno::BUSY)),
        }
    }
}

/// Opens the state directory, if it exists.
pub(super) fn find(base: &Directory) -> Result<Option<Directory>, SandboxError> {
    base.below(OsStr::new(STATE))
}

/// Removes a state directory that contains only empty directories, and sets the attributes of `base` if they are known.
///
/// # Errors
/// It contains files, but the journal that would explain them does not exist.
pub(super) fn remove(base: &Directory, attributes: Option<&DirectoryMetadata>) -> Result<(), SandboxError> {
    let Some(directory) = find(base)? else { return Ok(()) };
    journal::remove_incomplete(&directory)?;
    remove_empty(base, OsStr::new(STATE))?;
    attributes.map_or(Ok(()), |attributes| attributes.apply_to(base))
}

fn remove_empty(above: &Directory, name: &OsStr) -> Result<(), SandboxError> {
    let found = above.status(name)?;
    let directory =
        if found.is_some_and(|found| found.kind == FileKind::Directory) { above.below(name)? } else { None };
    let Some(directory) = directory else {
        return Err(SandboxError::Journal { path: above.path().join(name), reason: "its journal is gone".to_owned() });
    };
    for name in directory.names()? {
        remove_empty(&directory, &name)?;
    }
    calls::remove_directory(above, name).map_err(above.error("remove", name))
}

/// Reports whether a swap of `base` is in progress, or was when its program died.
pub(super) fn is_there(base: &Path) -> bool {
    let state = base.join(STATE);
    match calls::status_at(rustix::fs::CWD, state.as_os_str()) {
        Ok(_) => true,
        Err(Errno::NOENT | Errno::NOTDIR) => false,
        // Do not ignore it: opening it will report the error.
        Err(_) => true,
    }
}
