//! Where entries are kept: a repository, or a directory.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use crate::diag::progress::Progress;
use crate::diag::with_hint;
use crate::image::layout::remove_leftovers;
use crate::image::{BlobSource, Descriptor, Image, Reference};
use crate::push::{self, ExistingTags, Uploads};
use crate::registry::{Client, RegistryError};

use super::authentication::{Authenticator, Unauthentic};
use super::entry::{Entry, Miss};
use super::error::LayerCacheError;
use super::key::Key;
use super::layout::{self, Listing};
use super::store::BlobStore;

/// How many entries are looked up at once.
const CONCURRENT: usize = 16;
/// How often a look-up or a write is tried: a miss costs a step, and waiting for every key as much; what cannot be written a build
/// can do without.
pub const PATIENCE: u32 = 2;

/// Where entries are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheLocation {
    /// A repository: each key is a tag.
    Repository(Reference),
    /// An OCI image layout on this machine.
    Directory(PathBuf),
}

impl CacheLocation {
    /// The repository, where it is one.
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
    /// Removes what builds left that were killed while they wrote here.
    pub fn remove_leftovers(&self) {
        if let Self::Directory(directory) = self {
            remove_leftovers(directory);
        }
    }
}

/// Which entries are too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// How long entries live.
    pub lifetime: Duration,
    /// Now, in seconds since 1970.
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
    /// The cache at `location`.
    pub fn new(client: Client, location: CacheLocation, clock: Clock) -> Self {
        Self { client, location, clock, authenticator: None }
    }

    /// The same, where nothing is believed that was written without this secret, if there is one.
    #[must_use]
    pub fn authenticated(self, authenticator: Option<Authenticator>) -> Self {
        Self { authenticator, ..self }
    }

    /// Where it is.
    pub fn location(&self) -> &CacheLocation {
        &self.location
    }

    /// What there is under each of the keys, in their order, all asked for side by side.
    pub async fn find(&self, keys: &[Key]) -> Vec<Result<Entry, Miss>> {
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

    async fn find_in(&self, repository: &Reference, key: &Key) -> Result<Entry, Miss> {
        let unreadable = |error: RegistryError| Miss::Unreadable(with_hint(&error));
        let client = self.client.with_max_attempts(PATIENCE);
        let manifest = client.read_manifest(&repository.with_tag(key.as_str())).await.map_err(unreadable)?;
        let entry = self.entry(key, &manifest.ok_or(Miss::Absent)?)?;
        match client.has_blob(repository, &entry.layer).await.map_err(unreadable)? {
            true => Ok(entry),
            false => Err(Miss::NoLayer(entry.layer.digest)),
        }
    }

    fn entry(&self, key: &Key, manifest: &[u8]) -> Result<Entry, Miss> {
        self.check(manifest).map_err(Miss::Unauthentic)?;
        Entry::read(key, manifest, self.clock.lifetime, self.clock.now)
    }

    fn check(&self, manifest: &[u8]) -> Result<(), Unauthentic> {
        self.authenticator.as_ref().map_or(Ok(()), |authenticator| authenticator.check(manifest))
    }

    /// The manifest under a name that is no key; `None` if there is none.
    ///
    /// # Errors
    /// The cache cannot be read, or those who wrote the manifest do not have the secret.
    pub async fn manifest(&self, name: &str) -> Result<Option<Vec<u8>>, LayerCacheError> {
        let manifest = match &self.location {
            CacheLocation::Repository(repository) => {
                self.client.with_max_attempts(PATIENCE).read_manifest(&repository.with_tag(name)).await?
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

    /// Where an output finds the blob of an entry's layer.
    pub fn source(&self, layer: &Descriptor) -> BlobSource {
        match &self.location {
            CacheLocation::Repository(repository) => BlobSource::Registry(repository.clone()),
            CacheLocation::Directory(directory) => BlobSource::File(layout::layer_path(directory, layer)),
        }
    }

    /// The blob of an entry's layer as a local file, verified.
    ///
    /// # Errors
    /// It cannot be had, or is not what its digest says.
    pub async fn file(&self, layer: &Descriptor, store: &BlobStore) -> Result<PathBuf, LayerCacheError> {
        match &self.location {
            CacheLocation::Repository(repository) => Ok(store.ensure(&self.client, repository, layer).await?),
            CacheLocation::Directory(directory) => Ok(layout::layer(directory, layer)?),
        }
    }

    /// Writes an image under names, with the authentication code if the cache has a secret: all blobs first, the names last. Names
    /// that a registry keeps from being changed stay as they are where `existing` says so.
    ///
    /// # Errors
    /// It cannot be written.
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
                let client = self.client.with_max_attempts(PATIENCE);
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
