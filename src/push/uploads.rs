//! Uploads blobs to the repositories of an image, in part while the image is still being built: a layer is uploaded
//! while later steps run, a large one while it is being written. The push uploads the rest.
//!
//! A task uploads one blob to all repositories, in their order, so that a registry can mount it from a repository that
//! already has it. A blob whose early upload failed is uploaded again by the push, which reports its errors. Nothing
//! here writes a tag.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::error::PushError;
use super::repositories::{check_tags, repositories};
use super::streams::{Stream, Streams, ended};
use crate::diag::progress::{Bytes, Progress};
use crate::diag::with_causes;
use crate::fs::GrowingFile;
use crate::image::{Blob, BlobSource, Digest, Reference};
use crate::registry::{Client, LocalBlobs, MountOutcome, RegistryError};

/// The way in which a repository got a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadMethod {
    Uploaded,
    Existing,
    Mounted,
}

/// For each repository, the size in bytes and the way in which it got the blob.
type UploadMethods = Vec<(u64, UploadMethod)>;

/// The uploads of one image; cheap to clone.
pub struct Uploads<S>(Arc<UploadState<S>>);

impl<S> Clone for Uploads<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct UploadState<S> {
    client: Client,
    progress: Progress,
    store: S,
    destinations: Vec<Reference>,
    repositories: Vec<Reference>,
    /// A lock for each requested blob: the first task uploads it, the others wait.
    blobs: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<Option<UploadMethods>>>>>,
    /// Uploaded blobs, for the message of an interrupted push.
    uploaded: Mutex<Vec<(Reference, Digest)>>,
    begun: Mutex<Vec<JoinHandle<()>>>,
    streams: Streams,
}

impl<S: LocalBlobs + Send + 'static> Uploads<S> {
    /// Prepares uploads to the repositories of `destinations`. Blobs that are not local are fetched through `store`.
    ///
    /// # Errors
    /// A destination is not a tag.
    pub fn new(client: &Client, destinations: &[Reference], progress: &Progress, store: S) -> Result<Self, PushError> {
        check_tags(destinations)?;
        Ok(Self(Arc::new(UploadState {
            client: client.clone(),
            progress: progress.clone(),
            store,
            destinations: destinations.to_vec(),
            repositories: repositories(destinations),
            blobs: Mutex::default(),
            uploaded: Mutex::default(),
            begun: Mutex::default(),
            streams: Streams::default(),
        })))
    }

    /// Reports whether all repositories are in the registry of `reference`.
    pub fn are_all_in(&self, reference: &Reference) -> bool {
        self.0.repositories.iter().all(|repository| repository.registry == reference.registry)
    }

    /// Starts to upload a blob to all repositories, and returns at once.
    pub fn begin(&self, runtime: &Handle, blob: &Blob) {
        if self.0.repositories.is_empty() || blob.descriptor.is_foreign() {
            return;
        }
        let (uploads, blob) = (self.clone(), blob.clone());
        let task = runtime.spawn(async move {
            if let Err(error) = uploads.upload(&blob).await {
                tracing::debug!("uploaded again when the image is complete: {}", with_causes(&error));
            }
        });
        self.0.begun.lock().push(task);
    }

    /// Starts to upload the blob that is being written to `file` to the first repository, once it has more than `large`
    /// bytes, and returns at once. The other repositories get it when it is complete. The upload is used when the blob
    /// of that file is [begun](Self::begin) or pushed, which must not happen before the file has ended.
    pub fn follow(&self, runtime: &Handle, file: &Path, growing: &Arc<GrowingFile>, large: u64) {
        if let Some(repository) = self.0.repositories.first() {
            self.0.streams.start(runtime, &self.0.client, repository, file, growing, large);
        }
    }

    /// Discards the results, so that all blobs are checked and uploaded again.
    pub(super) fn reset(&self) {
        self.0.blobs.lock().clear();
    }

    /// Cancels uploads that are not needed any more, also in the registries.
    pub async fn cancel(&self) {
        let begun = std::mem::take(&mut *self.0.begun.lock());
        for task in &begun {
            task.abort();
        }
        for task in begun {
            ended(task).await;
        }
        // After the tasks that wait for a stream, which would start a regular upload when it ends.
        self.0.streams.cancel().await;
        self.0.client.abandon_uploads().await;
    }

    /// Returns the error of a push that `signal` interrupted.
    pub fn interrupted(&self, signal: i32, written: &[Reference]) -> PushError {
        PushError::Interrupted { signal, written: written.to_vec(), uploaded: self.0.uploaded.lock().clone() }
    }

    pub(super) fn destinations(&self) -> &[Reference] {
        &self.0.destinations
    }

    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.0.progress
    }

    /// Uploads a blob to all repositories, unless that has been done. Returns how each repository got it.
    pub(super) async fn upload(&self, blob: &Blob) -> Result<UploadMethods, PushError> {
        let slot = Arc::clone(self.0.blobs.lock().entry(blob.descriptor.digest.clone()).or_default());
        let mut slot = slot.lock().await;
        if let Some(brought) = &*slot {
            return Ok(brought.clone());
        }
        let mut stream = match &blob.source {
            BlobSource::File(path) => self.0.streams.take(path),
            BlobSource::Bytes(_) | BlobSource::Registry(_) => None,
        };
        let mut brought = UploadMethods::new();
        for (number, repository) in self.0.repositories.iter().enumerate() {
            let filled = &self.0.repositories[..number];
            let placed = self.upload_to(blob, repository, filled, stream.take()).await.map_err(|error| match error
                .interrupted()
            {
                Some(signal) => self.interrupted(signal, &[]),
                None => PushError::Blob { repository: Box::new(repository.clone()), source: Box::new(error) },
            })?;
            if placed == UploadMethod::Uploaded {
                self.0.uploaded.lock().push((repository.clone(), blob.descriptor.digest.clone()));
            }
            brought.push((blob.descriptor.size, placed));
        }
        if brought.iter().all(|(_, placed)| *placed != UploadMethod::Uploaded) {
            self.0.store.not_needed(&blob.descriptor.digest);
        }
        *slot = Some(brought.clone());
        Ok(brought)
    }

    /// Uploads a blob to `repository`, with its `stream` if there is one for this repository. The repositories in
    /// `filled` have the blob.
    async fn upload_to(
        &self,
        blob: &Blob,
        repository: &Reference,
        filled: &[Reference],
        stream: Option<Stream>,
    ) -> Result<UploadMethod, RegistryError> {
        let UploadState { client, progress, store, .. } = &*self.0;
        let descriptor = &blob.descriptor;
        let digest = &descriptor.digest;
        let start = digest.hex().get(..12).unwrap_or(digest.hex());
        let label = format!("push {}:{start} to {repository}", digest.algorithm());
        let size = Bytes(descriptor.size);
        if client.blob_exists(repository, descriptor).await? {
            progress.transfer(label, None).skipped(&format!("{size} exists"));
            return Ok(UploadMethod::Existing);
        }
        if let Some(stream) = stream
            && stream.finish(client, repository, descriptor, &label).await?
        {
            return Ok(UploadMethod::Uploaded);
        }
        let mut session = None;
        for source in mount_sources(blob, repository, filled) {
            match client.mount_blob(repository, descriptor, source).await? {
                MountOutcome::Mounted => {
                    let from = source.without_tag();
                    progress.transfer(label, None).skipped(&format!("{size} mounted from {from}"));
                    return Ok(UploadMethod::Mounted);
                }
                MountOutcome::Session(open) => session = Some(open),
                MountOutcome::Refused => {}
            }
        }
        let fetched;
        let source = match &blob.source {
            BlobSource::Registry(reference) => {
                fetched = BlobSource::File(store.ensure(client, reference, descriptor).await?);
                &fetched
            }
            local => local,
        };
        client.upload_blob(repository, descriptor, source, session, &label).await?;
        Ok(UploadMethod::Uploaded)
    }
}

/// Returns repositories of the same registry that have the blob: its source, then one that was filled before.
fn mount_sources<'b>(
    blob: &'b Blob,
    repository: &'b Reference,
    filled: &'b [Reference],
) -> impl Iterator<Item = &'b Reference> {
    let origin = match &blob.source {
        BlobSource::Registry(reference) => Some(reference),
        _ => None,
    };
    let neighbour = filled.iter().find(|filled| filled.registry == repository.registry);
    origin
        .into_iter()
        .chain(neighbour)
        .filter(|source| source.registry == repository.registry && source.repository != repository.repository)
}
