//! Fetches remote sources of `ADD` and of contexts, each once.
//!
//! Downloads of files start when the plan is known, while earlier steps run. Repositories are fetched when their step
//! needs them, and only while no `RUN` of own-root has replaced the root directory: the Git library reads settings and
//! known hosts there.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};

use crate::cache::SourceVersion;
use crate::diag::progress::Progress;
use crate::diag::redact::Secret;
use crate::executor::{FetchError, FetchedFiles, RemoteSources, Resolution};
use crate::http::{Pace, RetryPolicy};
use crate::image::Digest;
use crate::location::{BucketLocation, GitLocation, HttpLocation};
use crate::plan::{Action, Plan, RemoteSource};
use crate::remote::{
    Checkout, CheckoutLimits, DownloadError, Downloaded, Downloader, GitError, GitRequest, Incoming, Lookup, SshAccess,
    Validator, Variables, checkout, http_authorization, resolve,
};
use crate::ssh::AGENT_VARIABLE;

/// The number of files that are fetched at a time.
const PARALLEL_FETCHES: usize = 4;

/// Remote files with a synchronous interface.
pub(super) struct Remotes {
    runtime: Handle,
    fetcher: Arc<Fetcher>,
}

/// The state that tasks share.
struct Fetcher {
    downloader: Downloader,
    secrets: Lookup,
    ssh: SshAccess,
    progress: Progress,
    /// The parent of the sources' directories.
    directory: PathBuf,
    slots: Mutex<Vec<Arc<FileSlot>>>,
    checkouts: Mutex<Vec<(GitLocation, Checkout)>>,
    /// The number of repositories whose references have been read.
    resolved: AtomicUsize,
    permits: Semaphore,
}

/// A file that its first user fetches.
struct FileSlot {
    location: HttpLocation,
    checksum: Option<Digest>,
    directory: PathBuf,
    file: OnceCell<Downloaded>,
}

impl Remotes {
    /// Fetches below `directory`, with the build's secrets and SSH keys.
    pub(super) fn new(
        runtime: Handle,
        directory: PathBuf,
        secrets: Lookup,
        keys: Vec<Secret<String>>,
        progress: &Progress,
    ) -> Result<Self, DownloadError> {
        let fetcher = Fetcher {
            downloader: Downloader::new(RetryPolicy::default(), progress.clone())?,
            secrets,
            ssh: SshAccess { keys, agent: std::env::var_os(AGENT_VARIABLE).is_some_and(|socket| !socket.is_empty()) },
            progress: progress.clone(),
            directory,
            slots: Mutex::default(),
            checkouts: Mutex::default(),
            resolved: AtomicUsize::new(0),
            permits: Semaphore::new(PARALLEL_FETCHES),
        };
        Ok(Self { runtime, fetcher: Arc::new(fetcher) })
    }

    /// Starts to fetch every file that an executed step adds. A failed fetch is repeated, and reported, when the step
    /// needs the file.
    pub(super) fn prefetch(&self, plan: &Plan, resolution: &Resolution) {
        for id in resolution.executed() {
            let Action::Copy(copy) = &plan.step(id).action else { continue };
            for source in copy.remotes.values() {
                let RemoteSource::File { location, checksum, .. } = source else { continue };
                let (fetcher, location, checksum) = (Arc::clone(&self.fetcher), location.clone(), checksum.clone());
                self.runtime.spawn(async move {
                    if let Err(error) = fetcher.file(&location, checksum.as_ref()).await {
                        tracing::debug!("prefetch: {error}");
                    }
                });
            }
        }
    }

    /// Returns the current versions of sources, requested in parallel and as cheaply as possible: from checksums, the
    /// server's version identifiers, or else the content.
    pub(super) fn versions(&self, sources: &[RemoteSource]) -> Vec<Result<SourceVersion, FetchError>> {
        let asked: Vec<_> = sources
            .iter()
            .map(|source| {
                let (fetcher, source) = (Arc::clone(&self.fetcher), source.clone());
                self.runtime.spawn(async move { fetcher.version(&source).await })
            })
            .collect();
        asked
            .into_iter()
            .map(|answer| self.runtime.block_on(answer).unwrap_or_else(|ended| Err(io::Error::from(ended).into())))
            .collect()
    }

    /// Reports whether the fetched content of a source has the version that [`Self::versions`] returned, as far as the
    /// server says.
    pub(super) fn is_unchanged(&self, source: &RemoteSource, version: &SourceVersion) -> bool {
        match source {
            RemoteSource::File { location, checksum, .. } => {
                let slot = self.fetcher.slot(location, checksum.as_ref());
                slot.file.get().is_none_or(|file| match version {
                    SourceVersion::Content(digest) => *digest == file.digest,
                    version => version_of(file.validator.clone()).as_ref() == Some(version),
                })
            }
            RemoteSource::Repository(location) => {
                let checkouts = self.fetcher.checkouts.lock();
                let fetched = checkouts.iter().find(|(known, _)| known == location);
                fetched.is_none_or(|(_, checkout)| *version == SourceVersion::Commit(checkout.commit.clone()))
            }
        }
    }

    /// Fetches a file to a directory of its own.
    pub(super) fn file(&self, location: &HttpLocation, checksum: Option<&Digest>) -> Result<Downloaded, DownloadError> {
        self.runtime.block_on(self.fetcher.file(location, checksum))
    }

    /// Returns an archive with a URL, which is read while it is downloaded.
    pub(super) fn archive(&self, location: &HttpLocation) -> Incoming {
        let authorization = http_authorization(&self.fetcher.secrets, location);
        Incoming::file(&self.runtime, self.fetcher.downloader.clone(), location.clone(), authorization)
    }

    /// Returns an archive in a bucket, which is read while it is downloaded.
    pub(super) fn object(&self, location: &BucketLocation) -> Incoming {
        let variables: Variables = Arc::new(|name| std::env::var(name).ok());
        Incoming::object(&self.runtime, location.clone(), variables, self.fetcher.progress.clone())
    }

    /// Checks out a directory of a commit, within limits.
    pub(super) fn repository(&self, location: &GitLocation, limits: CheckoutLimits) -> Result<Checkout, GitError> {
        // Locked meanwhile: if two stages need the same repository, the second one finds it.
        let mut checkouts = self.fetcher.checkouts.lock();
        if let Some((_, checkout)) = checkouts.iter().find(|(known, _)| known == location) {
            return Ok(checkout.clone());
        }
        let directory = self.fetcher.directory.join(format!("git-{}", checkouts.len() + 1));
        let checkout = self.runtime.block_on(checkout(&self.fetcher.git_request(location, limits), &directory))?;
        checkouts.push((location.clone(), checkout.clone()));
        Ok(checkout)
    }
}

/// Returns the server's identifier of a version, if there is one.
fn version_of(validator: Validator) -> Option<SourceVersion> {
    match validator {
        Validator::Tag(tag) => Some(SourceVersion::Tag(tag)),
        Validator::Modified(time) => Some(SourceVersion::Modified(time)),
        Validator::None => None,
    }
}

impl Fetcher {
    async fn version(&self, source: &RemoteSource) -> Result<SourceVersion, FetchError> {
        let location = match source {
            RemoteSource::File { checksum: Some(checksum), .. } => return Ok(SourceVersion::Content(checksum.clone())),
            RemoteSource::File { location, checksum: None, .. } => location,
            RemoteSource::Repository(location) => {
                let number = self.resolved.fetch_add(1, Ordering::Relaxed);
                let directory = self.directory.join(format!("references-{number}"));
                return Ok(SourceVersion::Commit(
                    resolve(&self.git_request(location, CheckoutLimits::DEFAULT), &directory).await?,
                ));
            }
        };
        let authorization = http_authorization(&self.secrets, location);
        let validator = self.downloader.validator(location, authorization.as_ref()).await?;
        match version_of(validator) {
            Some(version) => Ok(version),
            None => Ok(SourceVersion::Content(self.file(location, None).await?.digest)),
        }
    }

    fn git_request(&self, location: &GitLocation, limits: CheckoutLimits) -> GitRequest {
        GitRequest {
            location: location.clone(),
            limits,
            secrets: Arc::clone(&self.secrets),
            ssh: self.ssh.clone(),
            clients: self.downloader.clients().clone(),
            pace: Pace::default(),
            retry: RetryPolicy::default(),
            progress: self.progress.clone(),
        }
    }

    async fn file(&self, location: &HttpLocation, checksum: Option<&Digest>) -> Result<Downloaded, DownloadError> {
        let slot = self.slot(location, checksum);
        let fetched = slot.file.get_or_try_init(|| async {
            // The semaphore is never closed.
            let _permit = self.permits.acquire().await.ok();
            let authorization = http_authorization(&self.secrets, location);
            let directory = &slot.directory;
            crate::fs::create_dir_all(directory)?;
            self.downloader.fetch(location, checksum, authorization.as_ref(), directory).await
        });
        fetched.await.cloned()
    }

    fn slot(&self, location: &HttpLocation, checksum: Option<&Digest>) -> Arc<FileSlot> {
        let mut slots = self.slots.lock();
        let known = slots.iter().find(|slot| slot.location == *location && slot.checksum.as_ref() == checksum);
        if let Some(slot) = known {
            return Arc::clone(slot);
        }
        let slot = Arc::new(FileSlot {
            location: location.clone(),
            checksum: checksum.cloned(),
            directory: self.directory.join(format!("file-{}", slots.len() + 1)),
            file: OnceCell::new(),
        });
        slots.push(Arc::clone(&slot));
        slot
    }
}

impl RemoteSources for Remotes {
    fn fetch(&self, source: &RemoteSource) -> Result<FetchedFiles, FetchError> {
        match source {
            RemoteSource::File { location, checksum, .. } => {
                let Downloaded { path, file_name, .. } = self.file(location, checksum.as_ref())?;
                let directory = path.parent().map_or_else(PathBuf::new, ToOwned::to_owned);
                Ok(FetchedFiles { directory, name: file_name })
            }
            RemoteSource::Repository(location) => {
                let Checkout { directory, .. } = self.repository(location, CheckoutLimits::DEFAULT)?;
                Ok(FetchedFiles { directory, name: String::new() })
            }
        }
    }
}
