//! The environment of every command that uses registries: runtime, client, blob store, directories, progress and clock.

use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;

use crate::cache::BlobStore;
use crate::diag::interrupt;
use crate::diag::progress::Progress;
use crate::registry::{Client, ClientConfig};

use super::error::BuildError;
use super::work_directory::WorkDirectory;

/// The stack size of the network's threads: that of the main thread, which does the same work for pushes.
const STACK_SIZE: usize = 8 << 20;

/// One run of a command.
pub(super) struct Session {
    pub(super) runtime: Runtime,
    pub(super) client: Client,
    /// Blobs, each fetched once.
    pub(super) store: BlobStore,
    pub(super) progress: Progress,
    /// The start time, in seconds since 1970.
    pub(super) now: i64,
    work: WorkDirectory,
    others: Vec<WorkDirectory>,
}

impl Session {
    /// Starts the network runtime, and makes a directory below `work_dir`.
    pub(super) fn open(work_dir: &Path, registries: &ClientConfig, progress: &Progress) -> Result<Self, BuildError> {
        let (runtime, client) = connect(registries, progress)?;
        let work = WorkDirectory::create(work_dir).map_err(BuildError::WorkDirectory)?;
        let store = match BlobStore::open(work.path().join("blobs")) {
            Ok(store) => store,
            Err(error) => {
                remove(work);
                return Err(error.into());
            }
        };
        Ok(Self { runtime, client, store, progress: progress.clone(), now: now(), work, others: Vec::new() })
    }

    /// Returns the directory of this run.
    pub(super) fn directory(&self) -> &Path {
        self.work.path()
    }

    /// Returns its parent, which outlives the run.
    pub(super) fn work_dir(&self) -> &Path {
        self.work.parent()
    }

    /// Makes a further directory of this run below `parent`. Returns the canonical path of `parent`, and the directory.
    pub(super) fn add_directory(&mut self, parent: &Path) -> Result<(PathBuf, PathBuf), BuildError> {
        let created = WorkDirectory::create(parent).map_err(BuildError::WorkDirectory)?;
        let paths = (created.parent().to_owned(), created.path().to_owned());
        self.others.push(created);
        Ok(paths)
    }

    /// Ends the network's tasks, which may still write, and removes the directories. Returns one that could not be
    /// removed.
    pub(super) fn close(self) -> Option<PathBuf> {
        let Self { runtime, work, others, .. } = self;
        drop(runtime);
        let mut remaining = None;
        for directory in std::iter::once(work).chain(others) {
            remaining = remove(directory).or(remaining);
        }
        remaining
    }
}

fn remove(directory: WorkDirectory) -> Option<PathBuf> {
    let path = directory.path().to_owned();
    let error = directory.remove().err()?;
    tracing::warn!("could not clean up: {error}");
    Some(path)
}

/// Converts the error of a run that a signal ended: adds what remains in registries and on disk. `remaining_directory`
/// is a directory that could not be removed.
pub(super) fn interrupted(error: BuildError, work_dir: &Path, remaining_directory: Option<&Path>) -> BuildError {
    let Some(signal) = interrupt::requested() else { return error };
    tracing::debug!("error after the signal: {error}");
    let pushed = match &error {
        BuildError::Push(error) => error.left_behind(),
        _ => None,
    };
    let pushed = pushed.unwrap_or_else(|| "no tag was written".to_owned());
    let left = match remaining_directory {
        Some(path) => format!("{pushed}; the build's files are still in {}", path.display()),
        None => format!("{pushed}; nothing of this build is left in {}", work_dir.display()),
    };
    BuildError::Interrupted { signal, left }
}

/// Returns a runtime for the network, and the client of all registries.
pub(super) fn connect(config: &ClientConfig, progress: &Progress) -> Result<(Runtime, Client), BuildError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK_SIZE)
        .enable_all()
        .build()
        .map_err(BuildError::Runtime)?;
    let client = Client::new(ClientConfig { progress: progress.clone(), ..config.clone() })?;
    Ok((runtime, client))
}

/// Returns the current time in seconds since 1970.
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|elapsed| i64::try_from(elapsed.as_secs()).ok()).unwrap_or(0)
}
