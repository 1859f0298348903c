//! Stores blobs as files named by their digest; each is fetched at most once.
//!
//! The layers of a base image that several stages start from, and that are pushed in the end, are downloaded once. A
//! file appears under its name only when it is complete and its digest has been verified.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::{Mutex, MutexGuard};

use crate::diag::with_causes;
use crate::fs::{self, GrowingFile, failed_to, gate, gated};
use crate::image::layout::LayoutReader;
use crate::image::{Descriptor, Digest, Reference};
use crate::registry::{Client, LocalBlobs, RegistryError};

use super::retention::Retention;

/// The number of blobs that are requested at a time. The client limits the number of transfers.
const CONCURRENT: usize = 8;

/// A directory of blobs; cheap to clone, and safe to use from several tasks and threads.
#[derive(Debug, Clone)]
pub struct BlobStore {
    inner: Arc<StoreState>,
}

#[derive(Debug)]
struct StoreState {
    directory: PathBuf,
    /// A lock for each requested blob: the first task fetches it, the others wait.
    download_locks: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Blobs that may be read while they are downloaded.
    growing_files: Mutex<BTreeMap<Digest, Arc<GrowingFile>>>,
    /// How long blobs are kept. Blobs without an entry are kept until the build ends.
    retention: Mutex<BTreeMap<Digest, Retention>>,
    /// Blobs in layouts on this machine.
    layout_blobs: Mutex<BTreeMap<Digest, LayoutBlob>>,
}

/// A blob in a layout.
#[derive(Debug, Clone)]
struct LayoutBlob {
    layout: PathBuf,
    /// Its file, once the content has been verified against its digest.
    verified: Option<PathBuf>,
}

impl BlobStore {
    /// Opens the store at `directory`, or makes one.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, fs::Error> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        Ok(Self {
            inner: Arc::new(StoreState {
                directory,
                download_locks: Mutex::default(),
                growing_files: Mutex::default(),
                retention: Mutex::default(),
                layout_blobs: Mutex::default(),
            }),
        })
    }

    /// Returns the store's directory.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Returns the path that the blob of `digest` has or will have.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.inner.directory.join(digest.algorithm()).join(digest.hex())
    }

    /// Returns the blob's file, if the blob has been fetched.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn get(&self, descriptor: &Descriptor) -> Result<Option<PathBuf>, RegistryError> {
        if let Some(path) = self.layout_blobs().get(&descriptor.digest).and_then(|blob| blob.verified.clone()) {
            return Ok(Some(path));
        }
        let path = self.path(&descriptor.digest);
        match gated::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() == descriptor.size => Ok(Some(path)),
            Ok(_another) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed_to("look at", &path)(error).into()),
        }
    }

    /// Adds a blob from a file, so that it is not fetched.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn insert(&self, descriptor: &Descriptor, file: &Path) -> Result<(), fs::Error> {
        let path = self.path(&descriptor.digest);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match gated::hard_link(file, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(fs::Error::new("link into the blob store", file, error))
            }
            _ => Ok(()),
        }
    }

    /// Returns the blob's file, which is fetched from the repository of `reference` if it is missing. Concurrent calls
    /// fetch it once.
    ///
    /// # Errors
    /// The blob cannot be fetched or written, or does not match its descriptor.
    pub async fn ensure(
        &self,
        client: &Client,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<PathBuf, RegistryError> {
        loop {
            // A reader of a growing file gets the file before it calls this.
            let is_awaited = self.growing_files().contains_key(&descriptor.digest);
            if !is_awaited && let Some(path) = self.get(descriptor)? {
                return Ok(path);
            }
            let growing = self.growing_file(&descriptor.digest);
            self.fetch_growing(client, reference, descriptor, &growing).await?;
            // The blob was needed again after its disk blocks had been freed.
            self.retention().insert(descriptor.digest.clone(), Retention::Keep);
        }
    }

    /// Downloads the blob into `growing` to its end. The file may no longer exist afterwards.
    ///
    /// # Errors
    /// As for [`BlobStore::ensure`].
    pub async fn fetch_growing(
        &self,
        client: &Client,
        reference: &Reference,
        descriptor: &Descriptor,
        growing: &Arc<GrowingFile>,
    ) -> Result<(), RegistryError> {
        let download_lock = self.download_lock(&descriptor.digest);
        let _guard = download_lock.lock().await;
        if growing.is_over() {
            return Ok(());
        }
        let guard = DownloadGuard { store: self, digest: &descriptor.digest, growing: Arc::clone(growing) };
        let fetched = self.fetch(client, reference, descriptor, &guard.growing).await;
        guard.end(&fetched);
        fetched.map(drop)
    }

    async fn fetch(
        &self,
        client: &Client,
        reference: &Reference,
        descriptor: &Descriptor,
        growing: &GrowingFile,
    ) -> Result<PathBuf, RegistryError> {
        let local_path = match self.get(descriptor)? {
            Some(path) => Some(path),
            None => self.verified_layout_blob(descriptor).await,
        };
        if let Some(path) = local_path {
            let _pass = gate::passed_for(&path).await.map_err(failed_to("open", &path))?;
            growing.begin(gated::open(&path).map_err(failed_to("open", &path))?);
            growing.advance_to(descriptor.size);
            return Ok(path);
        }
        let path = self.path(&descriptor.digest);
        client.fetch_growing_blob(reference, descriptor, &path, growing).await?;
        Ok(path)
    }

    /// Returns a file that can be read while the blob is downloaded. The caller ensures that it is fetched
    /// ([`BlobStore::ensure`]).
    pub fn growing_file(&self, digest: &Digest) -> Arc<GrowingFile> {
        let growing = Arc::clone(self.growing_files().entry(digest.clone()).or_default());
        if self.retention().get(digest) == Some(&Retention::Ephemeral) {
            growing.reclaim_behind_reader();
        }
        growing
    }

    /// Sets how long blobs are kept, before they are fetched.
    pub fn set_retention(&self, retention: &BTreeMap<Digest, Retention>) {
        self.retention().extend(retention.iter().map(|(digest, kept)| (digest.clone(), *kept)));
    }

    /// Returns the files of several blobs, in their order. They are fetched in parallel.
    ///
    /// # Errors
    /// The first error; the other downloads are cancelled.
    pub async fn ensure_all(
        &self,
        client: &Client,
        reference: &Reference,
        descriptors: &[Descriptor],
    ) -> Result<Vec<PathBuf>, RegistryError> {
        let work = descriptors.iter().map(|descriptor| self.ensure(client, reference, descriptor)).collect::<Vec<_>>();
        stream::iter(work).buffered(CONCURRENT).try_collect().await
    }

    /// Reads these blobs from a layout instead of fetching them. Each is verified first; one that does not match its
    /// digest is fetched.
    pub fn add_layout<'a>(&self, layout: &Path, blobs: impl IntoIterator<Item = &'a Descriptor>) {
        let mut layout_blobs = self.layout_blobs();
        for blob in blobs {
            layout_blobs
                .entry(blob.digest.clone())
                .or_insert_with(|| LayoutBlob { layout: layout.to_owned(), verified: None });
        }
    }

    async fn verified_layout_blob(&self, descriptor: &Descriptor) -> Option<PathBuf> {
        let layout = self.layout_blobs().get(&descriptor.digest)?.layout.clone();
        let (directory, requested) = (layout.clone(), descriptor.clone());
        let verify = move || LayoutReader::open(directory).and_then(|reader| reader.verified_blob(&requested));
        let problem = match tokio::task::spawn_blocking(verify).await {
            Ok(Ok(path)) => {
                let verified = Some(path.clone());
                self.layout_blobs().insert(descriptor.digest.clone(), LayoutBlob { layout, verified });
                return Some(path);
            }
            Ok(Err(error)) => with_causes(&error),
            Err(error) => error.to_string(),
        };
        tracing::warn!("layer {}: fetched again: {problem}", descriptor.digest);
        self.layout_blobs().remove(&descriptor.digest);
        None
    }

    fn growing_files(&self) -> MutexGuard<'_, BTreeMap<Digest, Arc<GrowingFile>>> {
        self.inner.growing_files.lock()
    }

    fn retention(&self) -> MutexGuard<'_, BTreeMap<Digest, Retention>> {
        self.inner.retention.lock()
    }

    fn layout_blobs(&self) -> MutexGuard<'_, BTreeMap<Digest, LayoutBlob>> {
        self.inner.layout_blobs.lock()
    }

    fn download_lock(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.inner.download_locks.lock().entry(digest.clone()).or_default())
    }
}

/// Ends the growing file when the download ends, also if it is cancelled. Later readers start again.
struct DownloadGuard<'a> {
    store: &'a BlobStore,
    digest: &'a Digest,
    growing: Arc<GrowingFile>,
}

impl DownloadGuard<'_> {
    fn end(&self, fetched: &Result<PathBuf, RegistryError>) {
        self.growing.end(fetched.as_ref().map(drop).map_err(|error| with_causes(error)));
    }
}

impl Drop for DownloadGuard<'_> {
    fn drop(&mut self) {
        self.store.growing_files().remove(self.digest);
        self.growing.end(Err("the download was cancelled".to_owned()));
    }
}

impl LocalBlobs for BlobStore {
    async fn ensure(
        &self,
        client: &Client,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<PathBuf, RegistryError> {
        Self::ensure(self, client, reference, descriptor).await
    }

    fn not_needed(&self, digest: &Digest) {
        let is_ephemeral = match self.retention().get_mut(digest) {
            None | Some(Retention::Keep) => false,
            Some(kept) => {
                *kept = Retention::Ephemeral;
                true
            }
        };
        if is_ephemeral && let Some(growing) = self.growing_files().get(digest) {
            growing.reclaim_behind_reader();
        }
    }
}
