//! Files on their way to their names.
//!
//! Whatever keeps one from getting there, an error or the end of the build, removes it. A process that is killed cannot; but its
//! locks end with it, and so a later one can tell what is left behind from what somebody writes at this moment.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::error::LayoutError;
use crate::fs::{failed_to, gated as fs};

/// What the names of such files have behind the name that they are to get.
const MARK: &str = ".partial.";
/// How long a file was not written to that has no writer any more, on a file system without locks.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// A file that has not got its name yet. It is removed unless it is placed.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    /// Locked, as long as it is open.
    file: File,
    is_placed: bool,
}

impl Partial {
    /// An empty file beside `path`.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn create(path: &Path) -> Result<Self, LayoutError> {
        loop {
            let path = unique(path);
            let file = fs::create_new(&path).map_err(failed_to("create", &path))?;
            let partial = Self { path, file, is_placed: false };
            try_lock(&partial.file).map_err(failed_to("lock", &partial.path))?;
            // Somebody may have taken it for abandoned before it was locked.
            let metadata = partial.file.metadata().map_err(failed_to("look at", &partial.path))?;
            if metadata.nlink() > 0 {
                return Ok(partial);
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub(super) fn place(mut self, path: &Path) -> Result<(), LayoutError> {
        fs::rename(&self.path, path).map_err(failed_to("rename", &self.path))?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_placed
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes the files of a directory that never got their names and have no writer any more.
pub(super) fn remove_leftovers(directory: &Path) {
    // Where there is no directory, nothing was left.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().contains(MARK) {
            continue;
        }
        let path = entry.path();
        match remove_abandoned(&path) {
            Ok(true) => tracing::info!("removed {}, which a build left that was killed", path.display()),
            Ok(false) => {}
            Err(error) => tracing::debug!("cannot remove {}: {error}", path.display()),
        }
    }
}

/// Whether a file had no writer, and is gone.
fn remove_abandoned(path: &Path) -> io::Result<bool> {
    let file = fs::open_with(path, OpenOptions::new().append(true))?;
    let is_abandoned = match try_lock(&file)? {
        Lock::Taken => true,
        Lock::Held => false,
        Lock::Unknown => is_old(&file.metadata()?),
    };
    if is_abandoned {
        fs::remove_file(path)?;
    }
    Ok(is_abandoned)
}

fn is_old(metadata: &Metadata) -> bool {
    let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
    age.is_some_and(|age| age > ABANDONED)
}

/// What became of an attempt to lock a file.
enum Lock {
    Taken,
    Held,
    /// The file system has no locks.
    Unknown,
}

fn try_lock(file: &File) -> io::Result<Lock> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock::Taken),
        Err(Errno::WOULDBLOCK) => Ok(Lock::Held),
        Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(Lock::Unknown),
        Err(errno) => Err(errno.into()),
    }
}

/// A name that no other writer uses at this time: pods that share the directory may have the same process numbers.
fn unique(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{MARK}{}.{count}.{moment}", std::process::id()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_gets_its_name_or_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        let mut partial = Partial::create(&path).unwrap();
        partial.file().write_all(b"whole").unwrap();
        assert!(!path.exists());
        partial.place(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        drop(Partial::create(&path).unwrap());
        // A directory is in the way.
        fs::create_dir(directory.path().join("taken")).unwrap();
        assert!(Partial::create(&path).unwrap().place(&directory.path().join("taken")).is_err());
        let mut left = names(directory.path());
        left.sort();
        assert_eq!(left, ["blob", "taken"]);
    }

    #[test]
    fn only_what_nobody_writes_any_more_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["blob", "oci-layout.partial.7.0.1", "blob.partial.7.1.1"] {
            fs::write(path(name), "part").unwrap();
        }
        let written = Partial::create(&path("other")).unwrap();
        remove_leftovers(directory.path());
        let mut left = names(directory.path());
        left.sort();
        assert_eq!(left, ["blob".to_owned(), written.path().file_name().unwrap().to_str().unwrap().to_owned()]);
        remove_leftovers(&path("no such directory"));
    }
}
