//! Empties a mount point of the pod, such as `/dev/shm`, where a command needs an empty directory in memory.
//!
//! Nothing can be renamed over a mount point. But a tmpfs is what the command needs, so its files are moved to a hidden
//! directory in it, and the files that the command leaves are removed. Other users of that mount in the pod do not see
//! their files meanwhile, and lose those that they create.
//!
//! An undo must know from the names alone what to keep. While [`MOVING`] exists, entries are being moved in or out, and
//! nothing outside of it may be removed. While [`ASIDE`] exists, everything outside of it belongs to the command.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, StatVfsMountFlags};
use rustix::io::{Errno, Result};
use serde::{Deserialize, Serialize};

use super::metadata::DirectoryMetadata;
use crate::fs::{remove_at, sys};
use crate::sandbox::SandboxError;
use crate::sandbox::mountinfo::MountEntry;

const ASIDE: &str = ".crabwright-aside";
const MOVING: &str = ".crabwright-moving";
/// The mode that BuildKit uses.
const MODE: u32 = 0o1777;

/// The state of a mount point before it was cleared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Cleared {
    directory: DirectoryMetadata,
    was_empty: bool,
}

/// Returns the reason why the mount at `target` cannot be cleared for a command, if there is one.
pub(super) fn obstacle(mounts: &[MountEntry], target: &Path) -> Option<&'static str> {
    let mount = mounts.iter().rfind(|mount| mount.mount_point == target)?;
    if mount.file_system != "tmpfs" {
        return Some("the container has a mount there");
    }
    if mounts.iter().any(|other| other.mount_point != target && other.mount_point.starts_with(target)) {
        return Some("the container has mounts below it");
    }
    let is_read_only = rustix::fs::statvfs(target).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
    if is_read_only {
        return Some("the container has a read-only mount there");
    }
    (!target.is_dir()).then_some("the container has a file mounted there")
}

impl Cleared {
    /// Reads the current state. Changes nothing.
    pub(super) fn look(target: &Path) -> std::result::Result<Self, SandboxError> {
        let directory = DirectoryMetadata::read(target)?;
        let names = open(target).and_then(sys::names).map_err(SandboxError::errno("list", target))?;
        Ok(Self { directory, was_empty: names.is_empty() })
    }

    /// Moves the existing entries aside.
    pub(super) fn clear(&self, target: &Path) -> std::result::Result<(), SandboxError> {
        let clear = || -> Result<()> {
            let opened = open(target)?;
            if !self.was_empty {
                rustix::fs::mkdirat(&opened, MOVING, Mode::from_raw_mode(0o700))?;
                let moving = open_in(&opened, MOVING)?;
                for name in sys::names(&opened)?.iter().filter(|name| **name != *MOVING) {
                    rustix::fs::renameat(&opened, &**name, &moving, &**name)?;
                }
                rustix::fs::renameat(&opened, MOVING, &opened, ASIDE)?;
            }
            rustix::fs::fchmod(&opened, Mode::from_raw_mode(MODE))
        };
        clear().map_err(SandboxError::errno("clear", target))
    }

    /// Removes the command's entries and moves the others back, however far [`Self::clear`] or an earlier call got.
    pub(super) fn restore(&self, target: &Path) -> std::result::Result<(), SandboxError> {
        let restore = || -> Result<()> {
            let opened = open(target)?;
            if self.was_empty {
                return remove_all(&opened, None);
            }
            let has = |name: &str| rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
            if has(ASIDE) {
                remove_all(&opened, Some(ASIDE))?;
                rustix::fs::renameat(&opened, ASIDE, &opened, MOVING)?;
            }
            if has(MOVING) {
                let moving = open_in(&opened, MOVING)?;
                for name in sys::names(&moving)? {
                    rustix::fs::renameat(&moving, &*name, &opened, &*name)?;
                }
                rustix::fs::unlinkat(&opened, MOVING, AtFlags::REMOVEDIR)?;
            }
            Ok(())
        };
        restore().map_err(SandboxError::errno("restore the entries of", target))?;
        self.directory.apply(target)
    }
}

fn remove_all(directory: &OwnedFd, but: Option<&str>) -> Result<()> {
    for name in sys::names(directory)?.iter().filter(|name| but.is_none_or(|but| **name != *but)) {
        match remove_at(directory, name) {
            // Other processes of the pod may remove their entries.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn open_in(directory: &OwnedFd, name: &str) -> Result<OwnedFd> {
    sys::open_at(directory, OsStr::new(name), OFlags::RDONLY | OFlags::DIRECTORY, 0)
}

fn open(target: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(target, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn list(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn with_files(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| std::fs::create_dir_all(directory.path().join(name)).unwrap());
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o750)).unwrap();
        directory
    }

    #[test]
    fn existing_entries_come_back_and_those_of_the_command_are_removed() {
        for before in [&["a/b", "c"][..], &[]] {
            let directory = with_files(before);
            let path = directory.path();
            let was = list(path);
            let cleared = Cleared::look(path).unwrap();
            cleared.clear(path).unwrap();
            assert_eq!(list(path), if before.is_empty() { vec![] } else { vec![ASIDE] });
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, MODE);
            for made in ["made/deep", "a", MOVING] {
                std::fs::create_dir_all(path.join(made)).unwrap();
            }
            cleared.restore(path).unwrap();
            assert_eq!(list(path), was);
            assert!(before.is_empty() || path.join("a/b").exists());
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o750);
        }
    }

    /// A crash can happen between any two renames; the result is always the original state.
    #[test]
    fn nothing_is_lost_however_far_it_got() {
        for cut in [
            &["a", "c"][..],
            &["a", "c", MOVING],
            &["c", "moving/a"],
            &["moving/a", "moving/c"],
            &["aside/a", "aside/c"],
        ] {
            let complete = with_files(&["a", "c"]);
            let cleared = Cleared::look(complete.path()).unwrap();
            let names: Vec<String> = cut.iter().map(|name| name.replace("moving/", ".crabwright-moving/")).collect();
            let names: Vec<String> = names.iter().map(|name| name.replace("aside/", ".crabwright-aside/")).collect();
            let directory = with_files(&names.iter().map(String::as_str).collect::<Vec<_>>());
            for _ in 0..2 {
                cleared.restore(directory.path()).unwrap();
                assert_eq!(list(directory.path()), ["a", "c"], "{cut:?}");
            }
        }
    }
}
