//! Removes directory trees in the background.
//!
//! The trees of finished stages are no longer needed, and removing one with a large base takes as long as several
//! steps.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use super::Error;
use super::remove::Removal;

/// The removals in progress. Dropping it waits for them.
#[derive(Debug, Default)]
pub struct Removals {
    threads: Mutex<Vec<JoinHandle<Result<(), Error>>>>,
}

impl Removals {
    /// Returns an owner of the directory at `path`; dropping the owner removes the directory.
    pub fn own(&self, path: impl Into<PathBuf>) -> OwnedDirectory<'_> {
        OwnedDirectory { path: path.into(), removals: self }
    }

    /// Starts to remove a directory tree, as [`super::remove_dir_all`] does. Later errors are logged.
    ///
    /// # Errors
    /// The parent directory cannot be opened, or, if no thread can be started, a file cannot be removed.
    fn start(&self, path: &Path) -> Result<(), Error> {
        let removal = Removal::new(path)?;
        match thread::Builder::new().name("remove".to_owned()).spawn(move || removal.run()) {
            Ok(thread) => self.threads.lock().push(thread),
            Err(error) => {
                tracing::debug!("failed to start a thread: {error}");
                Removal::new(path)?.run()?;
            }
        }
        Ok(())
    }
}

/// A directory with one owner. Dropping it starts the removal, whose errors are logged.
#[derive(Debug)]
pub struct OwnedDirectory<'a> {
    path: PathBuf,
    removals: &'a Removals,
}

impl OwnedDirectory<'_> {
    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnedDirectory<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.removals.start(&self.path) {
            tracing::warn!("could not remove a directory: {error}");
        }
    }
}

impl Drop for Removals {
    fn drop(&mut self) {
        for thread in self.threads.get_mut().drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("could not remove a directory: {error}"),
                Err(_) => tracing::error!("a removing thread panicked"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn started_removals_are_completed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let removals = Removals::default();
        for name in ["a", "b"] {
            let tree = directory.path().join(name);
            std::fs::create_dir_all(tree.join("c/d")).expect("directories");
            removals.start(&tree).expect("started");
        }
        assert!(removals.start(&directory.path().join("none/a")).is_err());
        drop(removals);
        assert_eq!(std::fs::read_dir(directory.path()).expect("list").count(), 0);
    }

    #[test]
    fn a_directory_ends_with_its_owner() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let removals = Removals::default();
        let path = directory.path().join("a");
        std::fs::create_dir_all(path.join("b")).expect("directories");
        let owned = removals.own(&path);
        assert!(owned.path().join("b").exists());
        drop(owned);
        drop(removals);
        assert!(!path.exists());
    }
}
