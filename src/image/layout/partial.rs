//! Temporary files that are renamed into place.
//!
//! If a file is not renamed, because of an error or the end of the build, it is removed. A process that is killed
//! cannot do that, but its locks end with it, so later processes can distinguish abandoned files from those being
//! written.

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

/// The part of a temporary file's name after the final name.
const MARK: &str = ".partial.";
/// On a file system without locks, a file that was not written to for this long is abandoned.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// A file without its final name. Dropping it removes it, unless it is placed.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    /// Locked while it is open.
    file: File,
    is_placed: bool,
}

impl Partial {
    /// Makes an empty file next to `path`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn create(path: &Path) -> Result<Self, LayoutError> {
        loop {
            let path = unique(path);
            let file = fs::create_new(&path).map_err(failed_to("create", &path))?;
            let partial = Self { path, file, is_placed: false };
            try_lock(&partial.file).map_err(failed_to("lock", &partial.path))?;
            // A different process may have removed it as abandoned before it was locked.
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

    /// Renames the file to its final name.
    ///
    /// # Errors
    /// The file cannot be renamed.
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
            tracing::debug!("failed to remove {}: {error}", self.path.display());
        }
    }
}

/// Removes the temporary files of a directory that have no writer.
pub(super) fn remove_leftovers(directory: &Path) {
    // There are no leftovers if there is no directory.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().contains(MARK) {
            continue;
        }
        let path = entry.path();
        match remove_abandoned(&path) {
            Ok(true) => tracing::info!("{}: removed, because its writer was killed", path.display()),
            Ok(false) => {}
            Err(error) => tracing::debug!("failed to remove {}: {error}", path.display()),
        }
    }
}

/// Removes a file if it has no writer, and reports whether it did.
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

/// The result of an attempt to lock a file.
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

/// Returns a name that no other writer uses: pods that share the directory may have the same process ids.
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
    fn a_file_is_renamed_or_removed() {
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
    fn only_abandoned_files_are_removed() {
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
