//! Writes entries to the cache in the background.
//!
//! Layers that are pushed with the image are written after that: they are then mounted from its repository instead of
//! being uploaded twice. Entries with the same layer (commands that change nothing all make the same one) are written
//! one after the other: while a blob is being completed, a registry may have it for one request and not for the next. A
//! cache that cannot be written is reported once and does not fail the build.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::cache::{BlobStore, CacheEntry, CacheLocation, LayerCache};
use crate::diag::{interrupt, with_causes, with_hint};
use crate::image::{Blob, BlobSource, Digest, Image, Platform, Reference};
use crate::push::ExistingTags;

use super::environment::Environment;

/// The number of entries that are written at a time.
const PARALLEL_WRITES: usize = 4;

/// Writes entries to one cache.
pub(super) struct EntryWriter {
    runtime: Handle,
    cache: LayerCache,
    store: BlobStore,
    /// A destination in the cache's registry, from whose repository layers can be mounted.
    neighbour: Option<Reference>,
    permits: Arc<Semaphore>,
    /// A lock for each blob that is written.
    blobs: Arc<Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>>,
    /// Whether problems of the cache have been reported.
    warned: Arc<AtomicBool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Layers of the image, which are written after the push.
    waiting: Mutex<Vec<(CacheEntry, Blob, Platform)>>,
}

impl EntryWriter {
    /// Writes to `cache`, and warns about a failure unless `warned` is set.
    pub(super) fn new(env: &Environment<'_>, cache: LayerCache, warned: Arc<AtomicBool>) -> Self {
        let neighbour = match cache.location() {
            CacheLocation::Repository(repository) => {
                env.destinations.iter().find(|destination| destination.registry == repository.registry)
            }
            CacheLocation::Directory(_) => None,
        };
        Self {
            runtime: env.session.runtime.handle().clone(),
            cache,
            store: env.session.store.clone(),
            neighbour: neighbour.cloned(),
            permits: Arc::new(Semaphore::new(PARALLEL_WRITES)),
            blobs: Arc::default(),
            warned,
            tasks: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Writes an entry under its keys.
    pub(super) fn write(&self, entry: &CacheEntry, blob: Blob, platform: &Platform) {
        match entry.to_image(blob, platform) {
            Ok(image) => self.write_image(image, entry.keys.iter().map(ToString::to_string).collect()),
            Err(error) => tracing::warn!("a layer was not written to the cache: {}", with_causes(&error)),
        }
    }

    /// Writes an entry whose layer is pushed with the image. If it can be mounted from there, it waits for the push.
    pub(super) fn write_with_image(&self, entry: CacheEntry, blob: Blob, platform: Platform) {
        if self.neighbour.is_some() {
            self.waiting.lock().push((entry, blob, platform));
        } else {
            self.write(&entry, blob, &platform);
        }
    }

    /// Writes an image under names.
    pub(super) fn write_image(&self, image: Image, names: Vec<String>) {
        let (cache, store) = (self.cache.clone(), self.store.clone());
        let (permits, warned) = (Arc::clone(&self.permits), Arc::clone(&self.warned));
        let locks = self.locks(&image);
        let task = self.runtime.spawn(async move {
            let mut guards = Vec::new();
            for lock in locks {
                guards.push(lock.lock_owned().await);
            }
            let Ok(_permit) = permits.acquire().await else { return };
            if let Err(error) = cache.put(image, names, ExistingTags::KeepImmutable, &store).await {
                let (location, error) = (cache.location(), with_hint(&error));
                if warned.swap(true, Ordering::Relaxed) {
                    tracing::debug!("the cache {location} cannot be written: {error}");
                } else {
                    tracing::warn!("the cache {location} cannot be written: {error}");
                }
            }
        });
        self.tasks.lock().push(task);
    }

    /// Returns the locks of an image's blobs, in the same order for all images.
    fn locks(&self, image: &Image) -> Vec<Arc<tokio::sync::Mutex<()>>> {
        let layers = image.blobs.iter().map(|blob| &blob.descriptor.digest);
        let digests: BTreeSet<&Digest> = layers.chain([&image.manifest.config.digest]).collect();
        let mut blobs = self.blobs.lock();
        digests.into_iter().map(|digest| Arc::clone(blobs.entry(digest.clone()).or_default())).collect()
    }

    /// Starts to write the entries that waited for the push. `pushed` says whether it succeeded. After a signal,
    /// nothing more is written.
    pub(super) fn release(&self, pushed: bool) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let stopped = interrupt::requested().is_some();
        for (entry, mut blob, platform) in waiting.into_iter().filter(|_| !stopped) {
            if pushed
                && let Some(destination) = &self.neighbour
                && let BlobSource::File(file) = &blob.source
            {
                match self.store.insert(&blob.descriptor, file) {
                    Ok(()) => blob.source = BlobSource::Registry(destination.clone()),
                    Err(error) => tracing::debug!("{}", with_causes(&error)),
                }
            }
            self.write(&entry, blob, &platform);
        }
    }

    /// Waits until everything is written, or cancelled by a signal.
    pub(super) fn finish(&self) {
        let stopped = interrupt::requested().is_some();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if stopped {
                task.abort();
            }
            if let Err(error) = self.runtime.block_on(task)
                && !error.is_cancelled()
            {
                tracing::warn!("writing to the cache {} ended early: {error}", self.cache.location());
            }
        }
    }
}
