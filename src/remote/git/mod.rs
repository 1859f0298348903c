//! Checks out a commit of a git repository into a directory.
//!
//! libgit2 handles packs, the object store and ssh. Over HTTP it uses this program's own clients (`transport`). No
//! hook, filter, alias or credential program ever runs. Files are written here (`files`), not by the library's
//! checkout, so that every name is checked and every file is created in an open directory. Attributes and settings do
//! not change the committed content.
//!
//! The library can only be interrupted when it reports progress or requests more over HTTP. It runs on its own thread,
//! which is abandoned if an ssh server is silent for too long: it ends with the next byte that arrives, or with the
//! process.

mod error;
mod fetch;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod repository;
mod request;
mod submodules;
mod transport;
mod watch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

pub use error::GitError;
pub use request::{Checkout, CheckoutLimits, GitRequest};
pub use transport::TransportError;

use crate::fs::{self, Timestamp, gate};
use crate::http;
use crate::location::FileTimes;
use watch::Watch;

/// The time limit for a silent server.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);
/// How long to wait for a worker that should stop.
const PARTING: Duration = Duration::from_secs(2);
/// How often the worker's state is checked.
const POLL: Duration = Duration::from_millis(50);

/// Checks out a commit below `directory`, which is empty or does not exist.
///
/// # Errors
/// The repository cannot be fetched, does not have the commit or directory, or contains names that must not be created
/// in a file system.
pub async fn checkout(request: &GitRequest, directory: &Path) -> Result<Checkout, GitError> {
    let operation = format!("fetch {}", request.location);
    http::run(&request.retry, &operation, || attempt(request.clone(), directory.to_owned(), work)).await
}

/// Returns the hash of the commit that a location names now, in lower case. `directory`, which is empty or does not
/// exist, is used temporarily. Only the server's references are requested, and no objects, unless the location has an
/// abbreviated hash. For a complete hash nothing is requested.
///
/// # Errors
/// The repository cannot be reached, does not have the reference, or the commit does not match the location's checksum.
pub async fn resolve(request: &GitRequest, directory: &Path) -> Result<String, GitError> {
    let operation = format!("list the references of {}", request.location);
    let commit =
        http::run(&request.retry, &operation, || attempt(request.clone(), directory.to_owned(), work_out)).await;
    if fs::gated::exists(directory) {
        fs::remove_dir_all(directory)?;
    }
    commit
}

fn work_out(request: &GitRequest, directory: &Path, watch: &Watch) -> Result<String, GitError> {
    let access = fetch::Access::new(request, watch)?;
    fetch::resolve(&access, &request.location, &directory.join("repository"))
}

/// Runs `work` on its own thread, with an empty directory.
async fn attempt<T: Send + 'static>(
    request: GitRequest,
    directory: PathBuf,
    work: fn(&GitRequest, &Path, &Watch) -> Result<T, GitError>,
) -> Result<T, GitError> {
    let url = request.location.to_string();
    if fs::gated::exists(&directory) {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    // The library reads settings, certificate authorities and known hosts, and resolves names, at any time.
    let pass = gate::passed().await.map_err(|source| fs::Error::new("fetch into", &directory, source))?;
    let watch = Watch::new(pass, Handle::current(), request.progress.transfer(format!("fetch {url}"), None));
    let (sender, mut receiver) = tokio::sync::oneshot::channel();
    let worker = watch.clone();
    let started = std::thread::Builder::new().name("git".to_owned()).spawn(move || {
        // The receiver is gone if the task no longer waits.
        drop(sender.send(work(&request, &directory, &worker)));
    });
    let thread = started.map_err(|source| GitError::Thread { url: url.clone(), source })?;
    // Dropping this stops the worker, if the task ends early because of a signal or an error.
    let _worker = Worker { watch: watch.clone(), thread };
    loop {
        match tokio::time::timeout(POLL, &mut receiver).await {
            Ok(Ok(result)) => return result,
            Ok(Err(_closed)) => {
                let source = std::io::Error::other("the thread ended without a result");
                return Err(GitError::Thread { url, source });
            }
            Err(_elapsed) if watch.silence() > SILENCE_LIMIT => {
                return Err(GitError::Stalled { url, idle: SILENCE_LIMIT });
            }
            Err(_elapsed) => {}
        }
    }
}

fn work(request: &GitRequest, directory: &Path, watch: &Watch) -> Result<Checkout, GitError> {
    let location = &request.location;
    let files = directory.join("files");
    fs::create_dir_all(&files)?;
    let keep = location.keep_git_dir == Some(true);
    let place = if keep { files.join(".git") } else { directory.join("repository") };
    let access = fetch::Access::new(request, watch)?;
    let fetched = fetch::fetch(&access, location, None, &place)?;
    let mut submodules = submodules::Submodules::new(&access, directory);
    files::write(&fetched, &files, location, &mut submodules)?;
    let commit_time = fetched.commit_time()?;
    let times = match location.times {
        FileTimes::Checkout => None,
        FileTimes::Commit => Some(Timestamp::from_seconds(commit_time)),
    };
    if keep {
        repository::tidy(&fetched, location)?;
    } else {
        fs::remove_dir_all(&place)?;
    }
    if let Some(time) = times {
        files::set_times(&files, time)?;
    }
    let commit = fetched.commit.to_string();
    let directory = files::subdirectory(&files, &location.subdir, &commit)?;
    Ok(Checkout { directory, commit, commit_time })
}

/// The thread that does the work. Dropping this asks it to stop, and waits briefly until it has closed its directory.
struct Worker {
    watch: Watch,
    thread: std::thread::JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.watch.give_up();
        let asked = Instant::now();
        while !self.thread.is_finished() && asked.elapsed() < PARTING {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
