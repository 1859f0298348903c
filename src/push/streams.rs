//! Uploads layers while they are being written.
//!
//! This must cost no time if it does not work: nothing is retried, a registry that once refused such an upload gets no
//! more of them, and the blob is uploaded like any other when it is complete. Its digest is not known until then, so
//! the repository may turn out to have it already.

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

/// The interval of progress updates.
const SHOW: Duration = Duration::from_millis(500);
/// The time that a registry has to answer the cancellation of an upload.
const TIME_TO_STOP: Duration = Duration::from_secs(2);

/// The streamed blobs by their files.
#[derive(Debug, Default)]
pub(super) struct Streams {
    by_file: Mutex<BTreeMap<PathBuf, Stream>>,
    /// A stream failed.
    failed: Arc<AtomicBool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// A blob that is being streamed. Dropping it stops the upload.
#[derive(Debug)]
pub(super) struct Stream {
    /// The uploaded blob; `None` if nothing was uploaded.
    outcome: oneshot::Receiver<Option<StreamedBlob>>,
    state: Arc<StreamState>,
}

impl Streams {
    /// Starts to upload what is written to `file` when that has more than `large` bytes.
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
                    tracing::debug!("layer: uploaded when it is complete: {}", with_causes(&error));
                    None
                })
            };
            let mut upload = std::pin::pin!(upload);
            tokio::select! {
                uploaded = &mut upload => drop(told.send(uploaded)),
                () = told.closed() => {
                    state.stop();
                    if tokio::time::timeout(TIME_TO_STOP, upload).await.is_err() {
                        tracing::debug!("a registry did not confirm in time that an upload was cancelled");
                    }
                }
            }
        });
        self.tasks.lock().push(task);
    }

    /// Takes the stream of the blob that is written to `file`.
    pub(super) fn take(&self, file: &Path) -> Option<Stream> {
        self.by_file.lock().remove(file)
    }

    /// Stops the streams that were not taken, and waits until all uploads have ended.
    pub(super) async fn cancel(&self) {
        self.by_file.lock().clear();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            ended(task).await;
        }
    }
}

impl Stream {
    /// Waits for the upload of the complete blob `descriptor`. Returns `false` if it has to be uploaded.
    ///
    /// # Errors
    /// It is unknown whether the repository has the blob, because the registry cannot be reached, or the build was
    /// asked to stop.
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
                // The next request reports the signal.
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
                tracing::debug!("layer: uploaded again: {}", with_causes(&error));
                // Only the answer may have been lost.
                client.blob_exists(repository, descriptor).await
            }
        }
    }
}

/// Waits until more than `size` bytes can be read. Returns `false` if the file ends before.
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
