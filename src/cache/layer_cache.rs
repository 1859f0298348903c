//! Reads and writes cache entries in a repository or a directory.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use crate::diag::progress::Progress;
use crate::diag::with_hint;
use crate::image::layout::remove_leftovers;
use crate::image::{BlobSource, Descriptor, Image, Reference};
use crate::push::{self, ExistingTags, Uploads};
use crate::registry::{Client, RegistryError};

use super::authentication::{Authenticator, UntrustedManifest};
use super::entry::{CacheEntry, Miss};
use super::error::LayerCacheError;
use super::key::Key;
use super::layout::{self, Listing};
use super::store::BlobStore;

/// The number of entries that are looked up at a time.
const CONCURRENT: usize = 16;
/// The number of attempts of a lookup or a write. Both are optional: a miss costs one execution of the step, and
/// waiting for a broken cache costs as much for every key.
pub const MAX_ATTEMPTS: u32 = 2;

/// The place of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheLocation {
    /// A repository; each key is a tag.
    Repository(Reference),
    /// An OCI image layout on this machine.
    Directory(PathBuf),
}

impl CacheLocation {
    /// Returns the repository, if it is one.
    pub fn repository(&self) -> Option<&Reference> {
        match self {
            Self::Repository(repository) => Some(repository),
            Self::Directory(_) => None,
        }
    }
}

impl std::fmt::Display for CacheLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Repository(repository) => write!(f, "{}", repository.without_tag()),
            Self::Directory(path) => write!(f, "oci:{}", path.display()),
        }
    }
}

impl CacheLocation {
    /// Removes leftovers of builds that were killed while they wrote to the cache.
    pub fn remove_leftovers(&self) {
        if let Self::Directory(directory) = self {
            remove_leftovers(directory);
        }
    }
}

/// The current time and the lifetime of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The lifetime of entries.
    pub lifetime: Duration,
    /// The current time, in seconds since 1970.
    pub now: i64,
}

/// A cache of layers; cheap to clone.
#[derive(Debug, Clone)]
pub struct LayerCache {
    client: Client,
    location: CacheLocation,
    clock: Clock,
    authenticator: Option<Authenticator>,
}

impl LayerCache {
    /// Returns the cache at `location`.
    pub fn new(client: Client, location: CacheLocation, clock: Clock) -> Self {
        Self { client, location, clock, authenticator: None }
    }

    /// Requires and writes authentication codes, if there is a secret.
    #[must_use]
    pub fn authenticated(self, authenticator: Option<Authenticator>) -> Self {
        Self { authenticator, ..self }
    }

    /// Returns the location.
    pub fn location(&self) -> &CacheLocation {
        &self.location
    }

    /// Looks up all keys in parallel. The results have the order of the keys.
    pub async fn find(&self, keys: &[Key]) -> Vec<Result<CacheEntry, Miss>> {
        match &self.location {
            CacheLocation::Repository(repository) => {
                let work: Vec<_> = keys.iter().map(|key| self.find_in(repository, key)).collect();
                stream::iter(work).buffered(CONCURRENT).collect().await
            }
            CacheLocation::Directory(directory) => match Listing::read(directory) {
                Ok(Some(listing)) => {
                    keys.iter().map(|key| listing.entry(key, |manifest| self.entry(key, manifest))).collect()
                }
                Ok(None) => keys.iter().map(|_| Err(Miss::Absent)).collect(),
                Err(error) => keys.iter().map(|_| Err(Miss::Unreadable(with_hint(&error)))).collect(),
            },
        }
    }

    async fn find_in(&self, repository: &Reference, key: &Key) -> Result<CacheEntry, Miss> {
        let unreadable = |error: RegistryError| Miss::Unreadable(with_hint(&error));
        let client = self.client.with_max_attempts(MAX_ATTEMPTS);
        let manifest = client.read_manifest(&repository.with_tag(key.as_str())).await.map_err(unreadable)?;
        let entry = self.entry(key, &manifest.ok_or(Miss::Absent)?)?;
        match client.has_blob(repository, &entry.layer).await.map_err(unreadable)? {
            true => Ok(entry),
            false => Err(Miss::NoLayer(entry.layer.digest)),
        }
    }

    fn entry(&self, key: &Key, manifest: &[u8]) -> Result<CacheEntry, Miss> {
        self.check(manifest).map_err(Miss::Unauthentic)?;
        CacheEntry::read(key, manifest, self.clock.lifetime, self.clock.now)
    }

    fn check(&self, manifest: &[u8]) -> Result<(), UntrustedManifest> {
        self.authenticator.as_ref().map_or(Ok(()), |authenticator| authenticator.check(manifest))
    }

    /// Returns the manifest under a name that is not a key; `None` if there is none.
    ///
    /// # Errors
    /// The cache cannot be read, or the manifest was written without the secret.
    pub async fn manifest(&self, name: &str) -> Result<Option<Vec<u8>>, LayerCacheError> {
        let manifest = match &self.location {
            CacheLocation::Repository(repository) => {
                self.client.with_max_attempts(MAX_ATTEMPTS).read_manifest(&repository.with_tag(name)).await?
            }
            CacheLocation::Directory(directory) => match Listing::read(directory)? {
                Some(listing) => listing.manifest(name).transpose()?,
                None => None,
            },
        };
        match manifest.as_deref().map_or(Ok(()), |manifest| self.check(manifest)) {
            Ok(()) => Ok(manifest),
            Err(source) => Err(LayerCacheError::Unauthentic { name: name.to_owned(), source }),
        }
    }

    /// Returns the source from which an output reads the blob of an entry's layer.
    pub fn source(&self, layer: &Descriptor) -> BlobSource {
        match &self.location {
            CacheLocation::Repository(repository) => BlobSource::Registry(repository.clone()),
            CacheLocation::Directory(directory) => BlobSource::File(layout::layer_path(directory, layer)),
        }
    }

    /// Returns the blob of an entry's layer as a local file, verified.
    ///
    /// # Errors
    /// The blob is not available, or does not match its digest.
    pub async fn file(&self, layer: &Descriptor, store: &BlobStore) -> Result<PathBuf, LayerCacheError> {
        match &self.location {
            CacheLocation::Repository(repository) => Ok(store.ensure(&self.client, repository, layer).await?),
            CacheLocation::Directory(directory) => Ok(layout::layer(directory, layer)?),
        }
    }

    /// Writes an image under `names`, with the authentication code if the cache has a secret: first all blobs, then the
    /// names. `existing` says whether names that the registry does not change are left as they are.
    ///
    /// # Errors
    /// The image cannot be written.
    pub async fn put(
        &self,
        image: Image,
        names: Vec<String>,
        existing: ExistingTags,
        store: &BlobStore,
    ) -> Result<(), LayerCacheError> {
        let image = match &self.authenticator {
            Some(authenticator) => authenticator.sign(image)?,
            None => image,
        };
        match &self.location {
            CacheLocation::Repository(repository) => {
                let client = self.client.with_max_attempts(MAX_ATTEMPTS);
                let tags: Vec<Reference> = names.into_iter().map(|name| repository.with_tag(name)).collect();
                let uploads = Uploads::new(&client, &tags, &Progress::hidden(), store.clone())?;
                push::push(&uploads, &image, existing).await?;
                Ok(())
            }
            CacheLocation::Directory(directory) => {
                let directory = directory.clone();
                let written = tokio::task::spawn_blocking(move || layout::add(&directory, &image, &names));
                written.await.map_err(|_ended| LayerCacheError::Thread)?
            }
        }
    }
}
