//! Entries on their way into the cache, in the background.
//!
//! Layers that are pushed with the image anyway wait for that, and are then mounted from its repository instead of being
//! uploaded twice. Entries whose layer is the same (commands that change nothing all make one) are written one after the other: a
//! registry may have a blob for one request and not for the next while it is being completed. A cache that cannot be written is
//! told of once, and fails no build.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::cache::{Authenticator, BlobStore, Entry, LayerCache, LayerCacheError, Place};
use crate::diag::progress::Progress;
use crate::diag::{Hint, interrupt, with_causes, with_hint};
use crate::image::{Blob, BlobSource, Digest, Image, Platform, Reference};
use crate::push::{self, ExistingTags, PushError, Uploads};
use crate::registry::Client;

use super::Surroundings;
use crate::builder::request::CacheRequest;

/// How many entries are written at once.
const PARALLEL_WRITES: usize = 4;
/// How often a write is tried: a build does not wait long for what it can do without.
pub(in crate::builder) const PATIENCE: u32 = 2;

/// Writes entries into one cache.
pub(super) struct Writer {
    runtime: Handle,
    client: Client,
    store: BlobStore,
    place: Place,
    authenticator: Option<Authenticator>,
    /// A destination in the cache's registry, from whose repository layers can be mounted.
    neighbour: Option<Reference>,
    permits: Arc<Semaphore>,
    /// One lock for each blob that is written.
    blobs: Arc<Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>>,
    /// Whether the cache's troubles have been told of.
    warned: Arc<AtomicBool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Layers of the image, to be written when it has been pushed.
    waiting: Mutex<Vec<(Entry, Blob, Platform)>>,
}

impl Writer {
    /// Writes where `request` says, and says so if that does not work unless `warned` is set.
    pub(super) fn new(around: &Surroundings<'_>, request: &CacheRequest, warned: Arc<AtomicBool>) -> Self {
        let place = &request.place;
        let neighbour = match place {
            Place::Repository(repository) => {
                around.destinations.iter().find(|destination| destination.registry == repository.registry)
            }
            Place::Directory(_) => None,
        };
        Self {
            runtime: around.runtime.clone(),
            client: around.client.with_patience(PATIENCE),
            store: around.store.clone(),
            place: place.clone(),
            authenticator: request.authenticator.clone(),
            neighbour: neighbour.cloned(),
            permits: Arc::new(Semaphore::new(PARALLEL_WRITES)),
            blobs: Arc::default(),
            warned,
            tasks: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Writes an entry under its keys.
    pub(super) fn write(&self, entry: &Entry, blob: Blob, platform: &Platform) {
        match entry.to_image(blob, platform) {
            Ok(image) => self.write_image(image, entry.keys.iter().map(ToString::to_string).collect()),
            Err(error) => tracing::warn!("a layer is not kept in the cache: {}", with_causes(&error)),
        }
    }

    /// The same for an entry whose layer is pushed with the image: where it can be mounted from there, it waits for that.
    pub(super) fn write_with_image(&self, entry: Entry, blob: Blob, platform: Platform) {
        if self.neighbour.is_some() {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((entry, blob, platform));
        } else {
            self.write(&entry, blob, &platform);
        }
    }

    /// Writes an image under names.
    pub(super) fn write_image(&self, image: Image, names: Vec<String>) {
        let signed = match &self.authenticator {
            Some(authenticator) => authenticator.sign(image),
            None => Ok(image),
        };
        let image = match signed {
            Ok(image) => image,
            Err(error) => return tracing::warn!("a layer is not kept in the cache: {}", with_causes(&error)),
        };
        let (client, store, place) = (self.client.clone(), self.store.clone(), self.place.clone());
        let (permits, warned) = (Arc::clone(&self.permits), Arc::clone(&self.warned));
        let locks = self.locks(&image);
        let task = self.runtime.spawn(async move {
            let mut held = Vec::new();
            for lock in locks {
                held.push(lock.lock_owned().await);
            }
            let Ok(_permit) = permits.acquire().await else { return };
            let existing = ExistingTags::KeepImmutable;
            if let Err(error) = write_to(&client, &place, image, names, existing, &store).await {
                if warned.swap(true, Ordering::Relaxed) {
                    tracing::debug!("the cache {place} cannot be written: {error}");
                } else {
                    tracing::warn!("the cache {place} cannot be written: {error}");
                }
            }
        });
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// The locks of an image's blobs, in an order that is the same for all images.
    fn locks(&self, image: &Image) -> Vec<Arc<tokio::sync::Mutex<()>>> {
        let layers = image.blobs.iter().map(|blob| &blob.descriptor.digest);
        let digests: BTreeSet<&Digest> = layers.chain([&image.manifest.config.digest]).collect();
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        digests.into_iter().map(|digest| Arc::clone(blobs.entry(digest.clone()).or_default())).collect()
    }

    /// Starts to write what waited for the image. `pushed`: it is where it was to go. After a signal nothing more is written.
    pub(super) fn release(&self, pushed: bool) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let stopped = interrupt::requested().is_some();
        for (entry, mut blob, platform) in waiting.into_iter().filter(|_| !stopped) {
            if pushed
                && let Some(destination) = &self.neighbour
                && let BlobSource::File(file) = &blob.source
            {
                match self.store.adopt(&blob.descriptor, file) {
                    Ok(()) => blob.source = BlobSource::Registry(destination.clone()),
                    Err(error) => tracing::debug!("{}", with_causes(&error)),
                }
            }
            self.write(&entry, blob, &platform);
        }
    }

    /// Waits until everything is written, or given up for a signal.
    pub(super) fn finish(&self) {
        let stopped = interrupt::requested().is_some();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if stopped {
                task.abort();
            }
            if let Err(error) = self.runtime.block_on(task)
                && !error.is_cancelled()
            {
                tracing::warn!("writing into the cache {} ended early: {error}", self.place);
            }
        }
    }
}

/// Why something could not be written into a cache.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Push(#[from] PushError),
    #[error(transparent)]
    Cache(#[from] LayerCacheError),
}

impl Hint for WriteError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Push(error) => error.hint(),
            Self::Cache(error) => error.hint(),
        }
    }
}

/// Writes an image into a cache under names, all blobs first, the tags last. The error comes with its causes and its hint.
pub(in crate::builder) async fn write_to(
    client: &Client,
    place: &Place,
    image: Image,
    names: Vec<String>,
    existing: ExistingTags,
    store: &BlobStore,
) -> Result<(), String> {
    let written: Result<(), WriteError> = async {
        match place {
            Place::Repository(repository) => {
                let tags: Vec<Reference> = names.into_iter().map(|name| repository.with_tag(name)).collect();
                let uploads = Uploads::new(client, &tags, &Progress::hidden(), store.clone())?;
                push::push(&uploads, &image, existing).await?;
            }
            Place::Directory(directory) => LayerCache::add_to_directory(directory, image, names).await?,
        }
        Ok(())
    }
    .await;
    written.map_err(|error| with_hint(&error))
}
