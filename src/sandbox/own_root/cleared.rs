//! A mount point of the pod, such as `/dev/shm`, where a command wants an empty directory in memory.
//!
//! Nothing can be renamed over a mount point. But a tmpfs is what the command asks for: what is in it waits in a hidden
//! directory of its own, and what the command left there is removed. Whatever else in the pod uses that mount is without its
//! files for that time, and loses those that it makes meanwhile.
//!
//! An undo must know from names alone what to keep: [`MOVING`] has entries on their way, in or out, and nothing beside it may
//! be removed; beside [`ASIDE`] everything is the command's.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, StatVfsMountFlags};
use rustix::io::{Errno, Result};
use serde::{Deserialize, Serialize};

use super::metadata::DirectoryMetadata;
use crate::fs::{remove_at, sys};
use crate::sandbox::SandboxError;
use crate::sandbox::mountinfo::Mount;

const ASIDE: &str = ".crabwright-aside";
const MOVING: &str = ".crabwright-moving";
/// As BuildKit's.
const MODE: u32 = 0o1777;

/// What is to be put back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Cleared {
    directory: DirectoryMetadata,
    was_empty: bool,
}

/// Why the mount at `target` cannot be cleared for a command.
pub(super) fn obstacle(mounts: &[Mount], target: &Path) -> Option<&'static str> {
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
    /// What is there now; nothing is changed yet.
    pub(super) fn look(target: &Path) -> std::result::Result<Self, SandboxError> {
        let directory = DirectoryMetadata::read(target)?;
        let names = open(target).and_then(sys::names).map_err(SandboxError::errno("list", target))?;
        Ok(Self { directory, was_empty: names.is_empty() })
    }

    /// Puts what is there aside.
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

    /// Removes what the command left and puts the rest back, however far [`Self::clear`] or an earlier call had come.
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
        restore().map_err(SandboxError::errno("put back what was in", target))?;
        self.directory.apply(target)
    }
}

fn remove_all(directory: &OwnedFd, but: Option<&str>) -> Result<()> {
    for name in sys::names(directory)?.iter().filter(|name| but.is_none_or(|but| **name != *but)) {
        match remove_at(directory, name) {
            // Other processes of the pod may remove theirs.
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
    fn what_was_there_comes_back_and_what_the_command_made_goes() {
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

    /// A crash can come between any two renames; what is restored then is what was there.
    #[test]
    fn nothing_is_lost_however_far_it_had_come() {
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
