//! Blobs as files named by their digest, each fetched at most once.
//!
//! A base image that several stages start from, and whose layers are pushed in the end, comes over the wire one time. A
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

/// How many blobs are asked for at once; the client bounds how many of them move.
const CONCURRENT: usize = 8;

/// A directory of blobs; cheap to clone, and safe to use from several tasks and threads.
#[derive(Debug, Clone)]
pub struct BlobStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    /// One lock for each blob that someone asked for: the first one fetches, the others wait.
    flights: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Blobs that somebody may read while they come.
    growing_files: Mutex<BTreeMap<Digest, Arc<GrowingFile>>>,
    /// How long blobs are kept; those that are not named here until the build ends.
    retention: Mutex<BTreeMap<Digest, Retention>>,
    /// Blobs that lie elsewhere.
    lent: Mutex<BTreeMap<Digest, Lent>>,
}

/// A blob of somebody else's layout.
#[derive(Debug, Clone)]
struct Lent {
    layout: PathBuf,
    /// Its file, once its content has been held against its digest.
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
            inner: Arc::new(Inner {
                directory,
                flights: Mutex::default(),
                growing_files: Mutex::default(),
                retention: Mutex::default(),
                lent: Mutex::default(),
            }),
        })
    }

    /// The store's directory.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Where the blob of `digest` is or will be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.inner.directory.join(digest.algorithm()).join(digest.hex())
    }

    /// The blob's file, if the blob has been fetched.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn get(&self, descriptor: &Descriptor) -> Result<Option<PathBuf>, RegistryError> {
        if let Some(path) = self.lent().get(&descriptor.digest).and_then(|lent| lent.verified.clone()) {
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

    /// Takes a blob that is in a file already, so that nobody fetches it.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn adopt(&self, descriptor: &Descriptor, file: &Path) -> Result<(), fs::Error> {
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

    /// The blob's file; fetched from the repository of `reference` unless it is there. Of several who ask at the same time,
    /// one fetches.
    ///
    /// # Errors
    /// The blob cannot be fetched, is not what its descriptor says, or cannot be written.
    pub async fn ensure(
        &self,
        client: &Client,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<PathBuf, RegistryError> {
        loop {
            // Whoever reads a blob while it comes asks for it after having said so.
            let is_awaited = self.growing_files().contains_key(&descriptor.digest);
            if !is_awaited && let Some(path) = self.get(descriptor)? {
                return Ok(path);
            }
            let growing = self.growing_file(&descriptor.digest);
            self.fetch_growing(client, reference, descriptor, &growing).await?;
            // Its blocks were freed before it was needed once more.
            self.retention().insert(descriptor.digest.clone(), Retention::Keep);
        }
    }

    /// Sees to it that `growing`, which is of this blob, ends. The file need not be there then.
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
        let flight = self.flight(&descriptor.digest);
        let _landing = flight.lock().await;
        if growing.is_over() {
            return Ok(());
        }
        let ending = Ending { store: self, digest: &descriptor.digest, growing: Arc::clone(growing) };
        let landed = self.land(client, reference, descriptor, &ending.growing).await;
        ending.tell(&landed);
        landed.map(drop)
    }

    async fn land(
        &self,
        client: &Client,
        reference: &Reference,
        descriptor: &Descriptor,
        growing: &GrowingFile,
    ) -> Result<PathBuf, RegistryError> {
        let here = match self.get(descriptor)? {
            Some(path) => Some(path),
            None => self.borrow(descriptor).await,
        };
        if let Some(path) = here {
            let _pass = gate::passed_for(&path).await.map_err(failed_to("open", &path))?;
            growing.begin(gated::open(&path).map_err(failed_to("open", &path))?);
            growing.advance_to(descriptor.size);
            return Ok(path);
        }
        let path = self.path(&descriptor.digest);
        client.fetch_growing_blob(reference, descriptor, &path, growing).await?;
        Ok(path)
    }

    /// What can be read of the blob before it is complete; whoever asks sees to it that somebody fetches it
    /// ([`BlobStore::ensure`]).
    pub fn growing_file(&self, digest: &Digest) -> Arc<GrowingFile> {
        let growing = Arc::clone(self.growing_files().entry(digest.clone()).or_default());
        if self.retention().get(digest) == Some(&Retention::Ephemeral) {
            growing.reclaim_behind_reader();
        }
        growing
    }

    /// Says how long blobs are kept, before they are fetched.
    pub fn set_retention(&self, retention: &BTreeMap<Digest, Retention>) {
        self.retention().extend(retention.iter().map(|(digest, kept)| (digest.clone(), *kept)));
    }

    /// The files of several blobs, in their order; fetched side by side.
    ///
    /// # Errors
    /// The first error of any of them; the other downloads are given up.
    pub async fn ensure_all(
        &self,
        client: &Client,
        reference: &Reference,
        descriptors: &[Descriptor],
    ) -> Result<Vec<PathBuf>, RegistryError> {
        let work = descriptors.iter().map(|descriptor| self.ensure(client, reference, descriptor)).collect::<Vec<_>>();
        stream::iter(work).buffered(CONCURRENT).try_collect().await
    }

    /// Reads these blobs from a layout instead of fetching them, each once its content has been verified. One that is not what its
    /// digest says is fetched.
    pub fn lend<'a>(&self, layout: &Path, blobs: impl IntoIterator<Item = &'a Descriptor>) {
        let mut lent = self.lent();
        for blob in blobs {
            lent.entry(blob.digest.clone()).or_insert_with(|| Lent { layout: layout.to_owned(), verified: None });
        }
    }

    async fn borrow(&self, descriptor: &Descriptor) -> Option<PathBuf> {
        let layout = self.lent().get(&descriptor.digest)?.layout.clone();
        let (place, wanted) = (layout.clone(), descriptor.clone());
        let verify = move || LayoutReader::open(place).and_then(|reader| reader.verified_blob(&wanted));
        let problem = match tokio::task::spawn_blocking(verify).await {
            Ok(Ok(path)) => {
                let verified = Some(path.clone());
                self.lent().insert(descriptor.digest.clone(), Lent { layout, verified });
                return Some(path);
            }
            Ok(Err(error)) => with_causes(&error),
            Err(error) => error.to_string(),
        };
        tracing::warn!("{} is fetched again: {problem}", descriptor.digest);
        self.lent().remove(&descriptor.digest);
        None
    }

    fn growing_files(&self) -> MutexGuard<'_, BTreeMap<Digest, Arc<GrowingFile>>> {
        self.inner.growing_files.lock()
    }

    fn retention(&self) -> MutexGuard<'_, BTreeMap<Digest, Retention>> {
        self.inner.retention.lock()
    }

    fn lent(&self) -> MutexGuard<'_, BTreeMap<Digest, Lent>> {
        self.inner.lent.lock()
    }

    fn flight(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.inner.flights.lock().entry(digest.clone()).or_default())
    }
}

/// Tells those who read a blob while it comes how that ended, whatever way it ends. Who asks later begins anew.
struct Ending<'a> {
    store: &'a BlobStore,
    digest: &'a Digest,
    growing: Arc<GrowingFile>,
}

impl Ending<'_> {
    fn tell(&self, landed: &Result<PathBuf, RegistryError>) {
        self.growing.end(landed.as_ref().map(drop).map_err(|error| with_causes(error)));
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.store.growing_files().remove(self.digest);
        self.growing.end(Err("the download was given up".to_owned()));
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
