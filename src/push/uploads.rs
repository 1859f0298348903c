//! Blobs on their way to the repositories of an image, some of them while the image is still being built: a layer is uploaded
//! while the commands of later steps run, a large one even while it is being written, and the push itself is left with what
//! came last.
//!
//! Each blob is looked after once for all repositories, in their order, so that a registry can take it over from the
//! repository that has it already. A blob that was begun early and could not be brought is tried again by the push, which
//! reports what is wrong with it. Nothing here writes a tag.

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

/// How a blob came into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    Uploaded,
    Existing,
    Mounted,
}

/// Sizes in bytes, and how they came, one for each repository.
type Brought = Vec<(u64, Placed)>;

/// The uploads of one image; cheap to clone.
pub struct Uploads<S>(Arc<Inner<S>>);

impl<S> Clone for Uploads<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<S> {
    client: Client,
    progress: Progress,
    store: S,
    destinations: Vec<Reference>,
    repositories: Vec<Reference>,
    /// One lock for each blob that someone asked for: the first one brings it, the others wait.
    blobs: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<Option<Brought>>>>>,
    /// What went over the wire, for the message of a push that was interrupted.
    uploaded: Mutex<Vec<(Reference, Digest)>>,
    begun: Mutex<Vec<JoinHandle<()>>>,
    streams: Streams,
}

impl<S: LocalBlobs + Send + 'static> Uploads<S> {
    /// Uploads to the repositories of `destinations`, of blobs that are fetched through `store` where they have to be.
    ///
    /// # Errors
    /// A destination is not a tag.
    pub fn new(client: &Client, destinations: &[Reference], progress: &Progress, store: S) -> Result<Self, PushError> {
        check_tags(destinations)?;
        Ok(Self(Arc::new(Inner {
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

    /// Whether all repositories are of the registry that `reference` is of.
    pub fn are_all_in(&self, reference: &Reference) -> bool {
        self.0.repositories.iter().all(|repository| repository.registry == reference.registry)
    }

    /// Begins to bring a blob to all repositories, and returns at once.
    pub fn begin(&self, runtime: &Handle, blob: &Blob) {
        if self.0.repositories.is_empty() || blob.descriptor.is_foreign() {
            return;
        }
        let (uploads, blob) = (self.clone(), blob.clone());
        let task = runtime.spawn(async move {
            if let Err(error) = uploads.bring(&blob).await {
                tracing::debug!("will be tried again when the image is complete: {}", with_causes(&error));
            }
        });
        self.0.begun.lock().push(task);
    }

    /// Begins to bring the blob that is being written to `file` to the first repository, once it has more than `large` bytes, and
    /// returns at once. The other repositories wait until it is complete, as they would anyway. What has been sent counts when
    /// the blob of that file is [begun](Self::begin) or pushed, which must not be before the growing has ended.
    pub fn follow(&self, runtime: &Handle, file: &Path, growing: &Arc<GrowingFile>, large: u64) {
        if let Some(repository) = self.0.repositories.first() {
            self.0.streams.start(runtime, &self.0.client, repository, file, growing, large);
        }
    }

    /// Forgets what was brought, so that it is asked for and brought once more.
    pub(super) fn forget(&self) {
        self.0.blobs.lock().clear();
    }

    /// Ends what was begun and nobody waits for any more, and tells the registries so.
    pub async fn give_up(&self) {
        let begun = std::mem::take(&mut *self.0.begun.lock());
        for task in &begun {
            task.abort();
        }
        for task in begun {
            ended(task).await;
        }
        // After those that wait for a stream, which would go another way when it ends.
        self.0.streams.give_up().await;
        self.0.client.abandon_uploads().await;
    }

    /// What a push that `signal` ended says of itself.
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

    /// Brings a blob to all repositories, unless that has been done, and says how it came there.
    pub(super) async fn bring(&self, blob: &Blob) -> Result<Brought, PushError> {
        let slot = Arc::clone(self.0.blobs.lock().entry(blob.descriptor.digest.clone()).or_default());
        let mut slot = slot.lock().await;
        if let Some(brought) = &*slot {
            return Ok(brought.clone());
        }
        let mut stream = match &blob.source {
            BlobSource::File(path) => self.0.streams.take(path),
            BlobSource::Bytes(_) | BlobSource::Registry(_) => None,
        };
        let mut brought = Brought::new();
        for (number, repository) in self.0.repositories.iter().enumerate() {
            let filled = &self.0.repositories[..number];
            let placed = self.place(blob, repository, filled, stream.take()).await.map_err(|error| {
                match error.interrupted() {
                    Some(signal) => self.interrupted(signal, &[]),
                    None => PushError::Blob { repository: Box::new(repository.clone()), source: Box::new(error) },
                }
            })?;
            if placed == Placed::Uploaded {
                self.0.uploaded.lock().push((repository.clone(), blob.descriptor.digest.clone()));
            }
            brought.push((blob.descriptor.size, placed));
        }
        if brought.iter().all(|(_, placed)| *placed != Placed::Uploaded) {
            self.0.store.not_needed(&blob.descriptor.digest);
        }
        *slot = Some(brought.clone());
        Ok(brought)
    }

    /// Brings a blob to `repository`, where the `stream` of it leads, if there is one; those of `filled` have it.
    async fn place(
        &self,
        blob: &Blob,
        repository: &Reference,
        filled: &[Reference],
        stream: Option<Stream>,
    ) -> Result<Placed, RegistryError> {
        let Inner { client, progress, store, .. } = &*self.0;
        let descriptor = &blob.descriptor;
        let digest = &descriptor.digest;
        let start = digest.hex().get(..12).unwrap_or(digest.hex());
        let label = format!("push {}:{start} to {repository}", digest.algorithm());
        let size = Bytes(descriptor.size);
        if client.blob_exists(repository, descriptor).await? {
            progress.transfer(label, None).skipped(&format!("{size} exists"));
            return Ok(Placed::Existing);
        }
        if let Some(stream) = stream
            && stream.finish(client, repository, descriptor, &label).await?
        {
            return Ok(Placed::Uploaded);
        }
        let mut session = None;
        for source in mount_sources(blob, repository, filled) {
            match client.mount_blob(repository, descriptor, source).await? {
                MountOutcome::Mounted => {
                    let from = source.without_tag();
                    progress.transfer(label, None).skipped(&format!("{size} mounted from {from}"));
                    return Ok(Placed::Mounted);
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
        Ok(Placed::Uploaded)
    }
}

/// Repositories of the same registry that have the blob: the one it came from, then one that was filled before.
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
