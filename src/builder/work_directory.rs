//! Makes a directory for this build below the work directory, and removes those of builds that were killed.
//!
//! Builds may share a work directory: two in one container, or pods with a common volume. Process ids do not
//! distinguish them (in a container every build is process 1). So a build owns a directory that it created, as long as
//! it holds the lock of a file in it. The lock ends with its process, however that ends.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::fs::{Error, gate, gated};

/// The prefix of the directories' names; a number follows.
const PREFIX: &str = "build-";
/// The file in it that is locked.
const LOCK: &str = "lock";
/// Identifies the running kernel. A free lock is only evidence about processes of the same kernel: some network file
/// systems, and sandboxes with their own kernel, do not show locks of other kernels.
const KERNEL: &str = "/proc/sys/kernel/random/boot_id";

/// A directory that no other build uses.
#[derive(Debug)]
pub(super) struct WorkDirectory {
    path: PathBuf,
    /// Locked while it is open.
    _lock: File,
}

impl WorkDirectory {
    /// Makes a directory below `parent`, which is made as well, and removes those of builds that have certainly ended.
    ///
    /// # Errors
    /// `parent` cannot be made or written to. A failure to remove other directories is only logged.
    pub(super) fn create(parent: &Path) -> Result<Self, Error> {
        let parent = &canonical_directory(parent)?;
        let kernel = gated::read(KERNEL).unwrap_or_else(|error| {
            tracing::debug!("directories of killed builds are not removed: failed to read {KERNEL}: {error}");
            Vec::new()
        });
        remove_leftovers(parent, &kernel);
        let path = create_unused(parent)?;
        let name = path.join(LOCK);
        let mut lock = gated::create_new(&name).map_err(|error| Error::new("create", &name, error))?;
        match rustix::fs::flock(&lock, FlockOperation::LockExclusive) {
            // Written after locking: a file that is unlocked and empty belongs to a build that is just starting.
            Ok(()) => lock.write_all(&kernel).map_err(|error| Error::new("write", &name, error))?,
            Err(errno) if has_no_locks(errno) => tracing::debug!("failed to lock {}: {errno}", name.display()),
            Err(errno) => return Err(Error::new("lock", &name, errno)),
        }
        Ok(Self { path, _lock: lock })
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its parent, which builds share.
    pub(super) fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Removes it with everything in it.
    pub(super) fn remove(self) -> Result<(), Error> {
        crate::fs::remove_dir_all(&self.path)
    }
}

/// Makes a directory if it is missing, and returns its canonical path: a sandbox keeps the directory in place, but not
/// links to it.
fn canonical_directory(directory: &Path) -> Result<PathBuf, Error> {
    crate::fs::create_dir_all(directory)?;
    let path = gated::canonicalize(directory).map_err(|error| Error::new("find", directory, error))?;
    gate::stays(&path);
    Ok(path)
}

/// Makes the directory with the lowest free number.
fn create_unused(parent: &Path) -> Result<PathBuf, Error> {
    let mut number = 1_u64;
    loop {
        let path = parent.join(format!("{PREFIX}{number}"));
        match gated::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::new("create", &path, error)),
        }
    }
}

fn remove_leftovers(parent: &Path, kernel: &[u8]) {
    let entries = match gated::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) => {
            return tracing::debug!("failed to look for directories of killed builds in {}: {error}", parent.display());
        }
    };
    for entry in entries.flatten() {
        let is_build = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(is_number);
        if !is_build || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        // Locked until everything is removed, so that two builds do not remove the same directory.
        let Some(_lock) = lock_of_ended_build(&path, kernel) else { continue };
        match crate::fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!("{}: removed, because its build was killed", path.display()),
            Err(error) => tracing::warn!("could not remove the directory of a killed build: {error}"),
        }
    }
}

fn is_number(text: &str) -> bool {
    text.parse::<u64>().is_ok()
}

/// Returns the lock of a directory whose build has certainly ended: it ran under this kernel, and its lock is free.
fn lock_of_ended_build(directory: &Path, kernel: &[u8]) -> Option<File> {
    let mut lock = gated::open_with(directory.join(LOCK), OpenOptions::new().read(true).write(true)).ok()?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    let mut written = Vec::new();
    lock.read_to_end(&mut written).ok()?;
    (!kernel.is_empty() && written == kernel).then_some(lock)
}

/// Reports whether the file system has no locks at all.
fn has_no_locks(errno: Errno) -> bool {
    matches!(errno, Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK | Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(parent).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn concurrent_builds_have_different_directories() {
        let parent = tempfile::tempdir().unwrap();
        let builds: Vec<WorkDirectory> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| WorkDirectory::create(parent.path()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
        });
        assert_eq!(names(parent.path()).len(), builds.len());
        for build in builds {
            assert!(build.path().join(LOCK).exists());
            build.remove().unwrap();
        }
        assert!(names(parent.path()).is_empty());
    }

    #[test]
    fn directories_of_killed_builds_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let dead = WorkDirectory::create(parent.path()).unwrap();
        std::fs::create_dir(dead.path().join("root-1")).unwrap();
        drop(dead);
        let alive = WorkDirectory::create(parent.path()).unwrap();
        assert_eq!(names(parent.path()), ["build-1"]);
        assert!(!alive.path().join("root-1").exists());
    }

    #[test]
    fn directories_of_builds_that_may_run_are_kept() {
        let parent = tempfile::tempdir().unwrap();
        let leftover = |name: &str, lock: Option<&[u8]>| {
            std::fs::create_dir(parent.path().join(name)).unwrap();
            if let Some(content) = lock {
                std::fs::write(parent.path().join(name).join(LOCK), content).unwrap();
            }
        };
        let kernel = std::fs::read(KERNEL).unwrap();
        leftover("build-1", None);
        leftover("build-2", Some(b""));
        leftover("build-3", Some(b"of another machine\n"));
        leftover("build-x", Some(&kernel));
        leftover("other", Some(&kernel));
        let alive = WorkDirectory::create(parent.path()).unwrap();
        assert_eq!(alive.path(), parent.path().join("build-4"));
        let build = WorkDirectory::create(parent.path()).unwrap();
        assert_eq!(names(parent.path()), ["build-1", "build-2", "build-3", "build-4", "build-5", "build-x", "other"]);
        build.remove().unwrap();
    }
}
