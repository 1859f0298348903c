//! A directory of this build's own below the work directory, and the ones that dead builds left there.
//!
//! Builds may share a work directory: two in one container, or pods with a common volume. A process number tells them
//! apart badly (in a container every build is process 1), so a directory is taken by creating it, and held by a lock on
//! a file in it that ends with the process that has it, however that ends.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::fs::{Error, gate, gated};

/// What the directories are called, before a number.
const PREFIX: &str = "build-";
/// The file in it that is locked.
const LOCK: &str = "lock";
/// Names the running kernel. Locks are only evidence about processes of this one: some network file systems, and
/// sandboxes that bring a kernel of their own, do not show the locks of others.
const KERNEL: &str = "/proc/sys/kernel/random/boot_id";

/// A directory that no other build uses.
#[derive(Debug)]
pub(super) struct WorkDirectory {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl WorkDirectory {
    /// Makes one below `parent`, which is made too, and removes those whose build is dead for certain.
    ///
    /// # Errors
    /// `parent` cannot be made or written to. That a dead build's directory cannot be removed is only logged.
    pub(super) fn create(parent: &Path) -> Result<Self, Error> {
        let parent = &place(parent)?;
        let kernel = gated::read(KERNEL).unwrap_or_else(|error| {
            tracing::debug!("what dead builds left stays where it is: cannot read {KERNEL}: {error}");
            Vec::new()
        });
        remove_leftovers(parent, &kernel);
        let path = unused(parent)?;
        let name = path.join(LOCK);
        let mut lock = gated::create_new(&name).map_err(|error| Error::new("create", &name, error))?;
        match rustix::fs::flock(&lock, FlockOperation::LockExclusive) {
            // Written only now: whoever finds the lock free and this empty has come in between the two.
            Ok(()) => lock.write_all(&kernel).map_err(|error| Error::new("write", &name, error))?,
            Err(errno) if has_no_locks(errno) => tracing::debug!("cannot lock {}: {errno}", name.display()),
            Err(errno) => return Err(Error::new("lock", &name, errno)),
        }
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory it is in, which is any build's.
    pub(super) fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Removes it with all that is in it.
    pub(super) fn remove(self) -> Result<(), Error> {
        crate::fs::remove_dir_all(&self.path)
    }
}

/// Makes a directory, if there is none, and gives its absolute path without symbolic links: a sandbox keeps the directory in place, and
/// not the links that lead there.
fn place(directory: &Path) -> Result<PathBuf, Error> {
    crate::fs::create_dir_all(directory)?;
    let path = gated::canonicalize(directory).map_err(|error| Error::new("find", directory, error))?;
    gate::stays(&path);
    Ok(path)
}

/// The directory with the lowest number that nobody has. Of two builds that want the same one, one gets it.
fn unused(parent: &Path) -> Result<PathBuf, Error> {
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
        Err(error) => return tracing::debug!("cannot look for what dead builds left in {}: {error}", parent.display()),
    };
    for entry in entries.flatten() {
        let is_build = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(is_number);
        if !is_build || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        // Held until all is gone, so that no two builds remove the same directory.
        let Some(_lock) = lock_of_the_dead(&path, kernel) else { continue };
        match crate::fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!("removed {}, which a build left that was killed", path.display()),
            Err(error) => tracing::warn!("what a killed build left stays there: {error}"),
        }
    }
}

fn is_number(text: &str) -> bool {
    text.parse::<u64>().is_ok()
}

/// The lock of a directory, if its build has ended: it ran under this kernel, and its lock is free.
fn lock_of_the_dead(directory: &Path, kernel: &[u8]) -> Option<File> {
    let mut lock = gated::open_with(directory.join(LOCK), OpenOptions::new().read(true).write(true)).ok()?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    let mut written = Vec::new();
    lock.read_to_end(&mut written).ok()?;
    (!kernel.is_empty() && written == kernel).then_some(lock)
}

/// Whether the file system has no locks at all.
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
    fn builds_at_the_same_time_have_a_directory_each() {
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
    fn what_a_dead_build_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let dead = WorkDirectory::create(parent.path()).unwrap();
        std::fs::create_dir(dead.path().join("root-1")).unwrap();
        drop(dead);
        let alive = WorkDirectory::create(parent.path()).unwrap();
        assert_eq!(names(parent.path()), ["build-1"]);
        assert!(!alive.path().join("root-1").exists());
    }

    #[test]
    fn what_may_belong_to_a_living_build_stays() {
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
