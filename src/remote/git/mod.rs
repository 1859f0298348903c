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
mod submodules;
mod transport;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;

pub use error::GitError;
pub use transport::TransportError;

use super::credentials::{Lookup, SshAccess};
use crate::diag::progress::{Progress, Transfer};
use crate::fs::gate::{self, Pass};
use crate::fs::{self, Timestamp};
use crate::http::{self, HttpClients, Pace, RetryPolicy};
use crate::location::{FileTimes, GitLocation};

/// How long a server may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);
/// How long a worker that is no longer wanted is waited for.
const PARTING: Duration = Duration::from_secs(2);
/// How often the worker's state is looked at.
const POLL: Duration = Duration::from_millis(50);

/// How much a checkout may be, submodules included. A repository of some kilobytes can name one directory a thousand times, and
/// so on within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckoutLimits {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Bytes of one file.
    pub file: u64,
}

impl CheckoutLimits {
    /// For what the build itself has chosen to fetch. The library reads no packed object piece by piece, so that a file is in
    /// memory as a whole; servers refuse larger ones long before.
    pub const DEFAULT: Self = Self { entries: u64::MAX, bytes: u64::MAX, file: 512 << 20 };
}

/// What a checkout needs besides the location.
#[derive(Clone)]
pub struct GitRequest {
    /// What to check out.
    pub location: GitLocation,
    /// Where the build's secrets are.
    pub secrets: Lookup,
    /// How to log in to ssh servers.
    pub ssh: SshAccess,
    /// What servers are spoken to over HTTP with.
    pub clients: HttpClients,
    /// How slowly they may answer.
    pub pace: Pace,
    /// How much it may be.
    pub limits: CheckoutLimits,
    /// How often a fetch is tried again.
    pub retry: RetryPolicy,
    /// Where the transfer reports.
    pub progress: Progress,
}

/// A commit's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The directory asked for: files have mode 0644 or 0755.
    pub directory: PathBuf,
    /// The commit's hash.
    pub commit: String,
    /// The commit's time, in seconds since 1970.
    pub commit_time: i64,
}

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

/// What the worker and who waits for it know of each other.
#[derive(Clone)]
pub(super) struct Watch {
    shared: Arc<Shared>,
}

struct Shared {
    /// Who watches a fetch keeps the library's files the container's.
    _pass: Pass,
    started: Instant,
    /// Milliseconds after the start at which something last came.
    last: AtomicU64,
    given_up: AtomicBool,
    parting: Notify,
    runtime: Handle,
    too_large: OnceLock<usize>,
    received: AtomicU64,
    transfer: Transfer,
}

impl Watch {
    fn new(pass: Pass, runtime: Handle, transfer: Transfer) -> Self {
        let shared = Shared {
            _pass: pass,
            started: Instant::now(),
            last: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            parting: Notify::new(),
            runtime,
            too_large: OnceLock::new(),
            received: AtomicU64::new(0),
            transfer,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Something moved. `false`: nobody waits for it any more.
    fn touch(&self) -> bool {
        let now = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.last.store(now, Ordering::Relaxed);
        !self.shared.given_up.load(Ordering::Relaxed)
    }

    /// Waits for something on the network, for the worker's own thread; `None` where nobody waits for the worker any more.
    fn wait<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.shared.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.given_up() => None,
                done = work => Some(done),
            }
        })
    }

    async fn given_up(&self) {
        while !self.shared.given_up.load(Ordering::Relaxed) {
            self.shared.parting.notified().await;
        }
    }

    /// So many bytes of one fetch have come. `false`: stop.
    fn received(&self, bytes: usize, limit: usize) -> bool {
        let total = bytes as u64;
        let before = self.shared.received.swap(total, Ordering::Relaxed);
        self.shared.transfer.add(total.saturating_sub(before));
        if bytes > limit {
            // The first limit that was passed is the one that is told.
            self.shared.too_large.get_or_init(|| limit);
            return false;
        }
        self.touch()
    }

    fn too_large(&self) -> Option<usize> {
        self.shared.too_large.get().copied()
    }

    fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.shared.last.load(Ordering::Relaxed));
        self.shared.started.elapsed().saturating_sub(last)
    }
}

/// The thread that does the work; it is told to stop when this is dropped, and has a moment to do so, in which it lets go of the
/// directory it writes to.
struct Worker {
    watch: Watch,
    thread: std::thread::JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.watch.shared.given_up.store(true, Ordering::Relaxed);
        self.watch.shared.parting.notify_one();
        let told = Instant::now();
        while !self.thread.is_finished() && told.elapsed() < PARTING {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
