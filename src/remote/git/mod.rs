//! A commit of a git repository as a directory.
//!
//! The work is libgit2's as far as packs and the object store go, and ssh; over HTTP it speaks through the program's own clients
//! (`transport`). No hook, filter, alias or credential program of anybody
//! ever runs. Files are written here (`files`), not by the library's checkout, so that every name is checked and every
//! file made in an open directory; what attributes and settings would change in them stays as it was committed.
//!
//! The library can only be interrupted where it reports progress, or asks for more over HTTP. It runs on a thread of its own, which is
//! left behind when an ssh server falls silent: it ends with the next byte that comes, or with the process.

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

/// How long a server may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);
/// How long a worker that is no longer wanted is waited for.
const PARTING: Duration = Duration::from_secs(2);
/// How often the worker's state is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Checks a commit out below `directory`, which is empty or does not exist.
///
/// # Errors
/// The repository cannot be fetched, has no such commit or directory, or holds names that no file system should get.
pub async fn checkout(request: &GitRequest, directory: &Path) -> Result<Checkout, GitError> {
    let operation = format!("fetch {}", request.location);
    http::run(&request.retry, &operation, || attempt(request.clone(), directory.to_owned(), work)).await
}

/// The hash of the commit that a location names now, in small letters; `directory`, which is empty or does not exist, is needed
/// for a moment. The server is asked for its references and for no object, unless all that is given is the start of a hash;
/// it is not asked at all for a whole one.
///
/// # Errors
/// The repository cannot be reached, has no such reference, or the commit is another one than the location's checksum says.
pub async fn resolve(request: &GitRequest, directory: &Path) -> Result<String, GitError> {
    let operation = format!("ask {} for its references", request.location);
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

/// Does some work on a thread of its own, in a directory that is empty.
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
    // The library reads settings, authorities and known hosts, and resolves names, whenever it wants to.
    let pass = gate::passed().await.map_err(|source| fs::Error::new("fetch into", &directory, source))?;
    let watch = Watch::new(pass, Handle::current(), request.progress.transfer(format!("fetch {url}"), None));
    let (sender, mut receiver) = tokio::sync::oneshot::channel();
    let worker = watch.clone();
    let started = std::thread::Builder::new().name("git".to_owned()).spawn(move || {
        // The receiver is gone where nobody waits any more.
        drop(sender.send(work(&request, &directory, &worker)));
    });
    let thread = started.map_err(|source| GitError::Thread { url: url.clone(), source })?;
    // Whoever stops waiting, for a signal or for an error, ends the worker with this.
    let _worker = Worker { watch: watch.clone(), thread };
    loop {
        match tokio::time::timeout(POLL, &mut receiver).await {
            Ok(Ok(result)) => return result,
            Ok(Err(_closed)) => {
                let source = std::io::Error::other("it ended without a result");
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

/// The thread that does the work; it is told to stop when this is dropped, and has a moment to do so, in which it lets go of the
/// directory it writes to.
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
