//! Layers on their way to a repository while they are being written.
//!
//! This saves time where it works, and must cost none where it does not: nothing is tried twice, a registry that once did not
//! take such a blob is offered no more of them, and the blob goes the way of all others when it is complete. Until then its
//! digest is not known, so what is sent may turn out to be there already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::diag::{interrupt, with_causes};
use crate::fs::{GrowingFile, GrowingFileReader, ReadAt as _};
use crate::image::{Descriptor, Reference};
use crate::registry::{Client, RegistryError, StreamState, StreamedBlob};

/// How often is shown how far a blob is.
const SHOW: Duration = Duration::from_millis(500);
/// How long a registry is given to answer a request that was cut short.
const TIME_TO_STOP: Duration = Duration::from_secs(2);

/// The blobs that are followed, by their files.
#[derive(Debug, Default)]
pub(super) struct Streams {
    by_file: Mutex<BTreeMap<PathBuf, Stream>>,
    /// One of them did not arrive.
    failed: Arc<AtomicBool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// A blob that is followed. Its upload is stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Stream {
    /// What was uploaded, if anything was.
    outcome: oneshot::Receiver<Option<StreamedBlob>>,
    state: Arc<StreamState>,
}

impl Streams {
    /// Follows what is written to `file`, once that has more than `large` bytes.
    pub(super) fn start(
        &self,
        runtime: &Handle,
        client: &Client,
        repository: &Reference,
        file: &Path,
        growing: &Arc<GrowingFile>,
        large: u64,
    ) {
        let (mut told, outcome) = oneshot::channel();
        let state = Arc::<StreamState>::default();
        self.by_file.lock().insert(file.to_owned(), Stream { outcome, state: Arc::clone(&state) });
        let (client, repository, growing) = (client.clone(), repository.clone(), Arc::clone(growing));
        let failed = Arc::clone(&self.failed);
        let task = runtime.spawn(async move {
            let upload = async {
                if !grows_beyond(large, &growing).await || failed.load(Ordering::Relaxed) {
                    return None;
                }
                client.stream_blob(&repository, &growing, &state).await.unwrap_or_else(|error| {
                    failed.store(true, Ordering::Relaxed);
                    tracing::debug!("will be uploaded when it is complete: {}", with_causes(&error));
                    None
                })
            };
            let mut upload = std::pin::pin!(upload);
            tokio::select! {
                uploaded = &mut upload => drop(told.send(uploaded)),
                () = told.closed() => {
                    state.stop();
                    if tokio::time::timeout(TIME_TO_STOP, upload).await.is_err() {
                        tracing::debug!("a registry did not answer in time to an upload that was stopped");
                    }
                }
            }
        });
        self.tasks.lock().push(task);
    }

    /// The blob that is followed while it comes to `file`.
    pub(super) fn take(&self, file: &Path) -> Option<Stream> {
        self.by_file.lock().remove(file)
    }

    /// Stops what nobody has taken, and waits until that and what was taken and is not wanted any more has come to its end.
    pub(super) async fn give_up(&self) {
        self.by_file.lock().clear();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            ended(task).await;
        }
    }
}

impl Stream {
    /// Waits for the upload of the blob, which is complete and is that of `descriptor`. False if it has to be uploaded.
    ///
    /// # Errors
    /// It is not known what the repository has: the registry cannot be reached, or the build was asked to stop.
    pub(super) async fn finish(
        self,
        client: &Client,
        repository: &Reference,
        descriptor: &Descriptor,
        label: &str,
    ) -> Result<bool, RegistryError> {
        let Self { mut outcome, state } = self;
        let transfer = client.progress().transfer(label, Some(descriptor.size));
        let uploaded = loop {
            match tokio::time::timeout(SHOW, &mut outcome).await {
                Ok(uploaded) => break uploaded.ok().flatten(),
                // Whatever is asked next says so.
                Err(_elapsed) if interrupt::requested().is_some() => return Ok(false),
                Err(_elapsed) => transfer.reach(state.sent()),
            }
        };
        let Some(uploaded) = uploaded else { return Ok(false) };
        transfer.reach(descriptor.size);
        match uploaded.close(descriptor).await {
            Ok(()) => {
                transfer.done();
                Ok(true)
            }
            Err(error) => {
                tracing::debug!("will be uploaded again: {}", with_causes(&error));
                // Unless only the answer was lost.
                client.blob_exists(repository, descriptor).await
            }
        }
    }
}

/// Waits until more than `size` bytes can be read; false if there never will be.
async fn grows_beyond(size: u64, growing: &Arc<GrowingFile>) -> bool {
    let content = GrowingFileReader::new(Arc::clone(growing));
    let read = tokio::task::spawn_blocking(move || content.read_at(&mut [0], size)).await;
    matches!(read, Ok(Ok(1)))
}

/// Waits for the end of a task that may have been aborted.
pub(super) async fn ended(task: JoinHandle<()>) {
    if let Err(error) = task.await
        && error.is_panic()
    {
        tracing::warn!("an upload failed unexpectedly: {error}");
    }
}
