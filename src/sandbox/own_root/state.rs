//! Where a swap keeps what it needs: the journal, the stash, what waits under mounts.
//!
//! That is one directory in the swapped one itself. So it is on the same mount, which renames need; it is found by every
//! start of this program in the container, whatever its work directory; and it can be made wherever a swap is possible at all.
//! It is there only while something is swapped.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use rustix::io::Errno;

use super::calls;
use super::directory::Directory;
use super::journal;
use super::metadata::DirectoryMetadata;
use crate::fs::FileKind;
use crate::sandbox::{SandboxError, mountinfo};

/// The directory's name.
pub(super) const STATE: &str = ".crabwright";
/// The container's entries wait here.
pub(super) const STASH: &str = "stash";
/// What the mounts of a command hide waits here, and what they show is made here.
pub(super) const MOUNTS: &str = "mounts";
/// What was in the place of something that a command had moved, until it is removed.
const AWAY: &str = "away";

/// The open directories.
#[derive(Debug)]
pub(super) struct State {
    pub(super) directory: Directory,
    pub(super) stash: Directory,
    pub(super) away: Directory,
}

impl State {
    /// Makes it, all of it: later there may be no space.
    pub(super) fn make(base: &Directory) -> Result<Self, SandboxError> {
        // Commands of any user may have to pass, to where a link in place of a mount leads.
        let directory = base.make(OsStr::new(STATE), 0o711)?;
        let stash = directory.make(OsStr::new(STASH), 0o700)?;
        let away = directory.make(OsStr::new(AWAY), 0o700)?;
        Ok(Self { directory, stash, away })
    }

    /// Removes what nobody needs any more when all is back: what was in the place of things that a command had moved, and what
    /// was made for its mounts.
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

    /// Not what belongs to somebody else.
    fn require_no_mount(&self) -> Result<(), SandboxError> {
        let mounts = mountinfo::read()?;
        match mounts.into_iter().find(|mount| mount.mount_point.starts_with(self.directory.path())) {
            None => Ok(()),
            Some(mount) => Err(SandboxError::errno("remove", mount.mount_point)(Errno::BUSY)),
        }
    }
}

/// The state directory, if it is there.
pub(super) fn find(base: &Directory) -> Result<Option<Directory>, SandboxError> {
    base.below(OsStr::new(STATE))
}

/// Removes a state directory in which nothing is but empty directories, and gives `base` its attributes if they are known.
///
/// # Errors
/// Something is in it: the journal is gone that told what to do with it.
pub(super) fn remove(base: &Directory, attributes: Option<&DirectoryMetadata>) -> Result<(), SandboxError> {
    let Some(directory) = find(base)? else { return Ok(()) };
    journal::remove_incomplete(&directory)?;
    remove_empty(base, OsStr::new(STATE))?;
    attributes.map_or(Ok(()), |attributes| attributes.give(base))
}

fn remove_empty(above: &Directory, name: &OsStr) -> Result<(), SandboxError> {
    let found = above.status(name)?;
    let directory =
        if found.is_some_and(|found| found.kind == FileKind::Directory) { above.below(name)? } else { None };
    let Some(directory) = directory else {
        return Err(SandboxError::Journal {
            path: above.path().join(name),
            reason: "the journal of it is gone".to_owned(),
        });
    };
    for name in directory.names()? {
        remove_empty(&directory, &name)?;
    }
    calls::remove_directory(above, name).map_err(above.error("remove", name))
}

/// Whether something is swapped below `base`, or was when the program that did it died.
pub(super) fn is_there(base: &Path) -> bool {
    let state = base.join(STATE);
    match calls::status_at(rustix::fs::CWD, state.as_os_str()) {
        Ok(_) => true,
        Err(Errno::NOENT | Errno::NOTDIR) => false,
        // Not to be passed over: what is there will say what is wrong with it.
        Err(_) => true,
    }
}
