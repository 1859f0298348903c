//! Stores base images in a directory that many builds read: `warmer` fills it, `--cache-dir` names it, as in kaniko.
//!
//! Its entry `sha256:HEX` is the OCI layout of one image. HEX is the digest of the image's manifest for one platform;
//! documents and layers are stored as the registry sent them. A layout is renamed into place when it is complete and
//! replaced as a whole, so builds need no lock and may mount the volume read-only. Warmers lock each image
//! (`.warmer-locks/HEX.lock`).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt, stream};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::diag::Hint;
use crate::fs::{failed_to, gated as fs};
use crate::image::layout::{Existing, LayoutError, LayoutReader, LayoutWriter};
use crate::image::{BaseImage, Descriptor, Digest, Image, Manifest};
use crate::registry::{Client, RegistryError};

/// The number of an image's blobs that are fetched at a time.
const CONCURRENT: usize = 4;
const LOCKS: &str = ".warmer-locks";

/// Why an image cannot be stored in the directory.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    /// The layout cannot be written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The image cannot be fetched.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The registry no longer has the manifest to which the reference resolved.
    #[error("the registry has no manifest {digest} any more")]
    Gone {
        /// The manifest.
        digest: Digest,
    },
}

impl Hint for WarmError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Layout(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Gone { .. } => None,
        }
    }
}

/// The result of warming an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmed {
    /// The image was complete and recent enough.
    Unchanged,
    /// The image was fetched.
    Fetched,
}

/// A directory of base images.
#[derive(Debug, Clone)]
pub struct WarmImages {
    directory: PathBuf,
    lifetime: Duration,
}

impl WarmImages {
    /// Returns the images in `directory`, which need not exist, that are not older than `lifetime`.
    pub fn new(directory: impl Into<PathBuf>, lifetime: Duration) -> Self {
        Self { directory: directory.into(), lifetime }
    }

    /// Returns the layout of an image, if it exists and is recent enough.
    pub fn layout(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.path(digest);
        self.is_recent(&path).then_some(path)
    }

    /// Ensures that the directory has an image. With `again`, fetches it even if it exists.
    ///
    /// # Errors
    /// The image cannot be fetched or written.
    pub async fn warm(&self, client: &Client, image: &BaseImage, again: bool) -> Result<Warmed, WarmError> {
        let locks = self.directory.join(LOCKS);
        fs::create_dir_all(&locks).map_err(failed_to("create", &locks))?;
        let lock = locks.join(format!("{}.lock", image.digest.hex()));
        let _lock = match tokio::task::spawn_blocking(move || lock_file(&lock)).await {
            Ok(taken) => taken?,
            Err(error) => return Err(failed_to("lock", &locks)(io::Error::other(error)).into()),
        };
        if !again && self.is_complete(image) {
            return Ok(Warmed::Unchanged);
        }
        let fetched = tempfile_in(&self.directory, &image.digest)?;
        match self.fetch(client, image, &fetched).await {
            Ok(()) => self.install(&fetched, &image.digest).map(|()| Warmed::Fetched),
            Err(error) => {
                remove(&fetched);
                Err(error)
            }
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.to_string())
    }

    fn is_recent(&self, path: &Path) -> bool {
        let written = fs::metadata(path).and_then(|found| found.modified());
        written.is_ok_and(|written| SystemTime::now().duration_since(written).unwrap_or_default() <= self.lifetime)
    }

    /// Reports whether all files of an image exist. Readers verify their content.
    fn is_complete(&self, image: &BaseImage) -> bool {
        let Some(reader) = self.layout(&image.digest).and_then(|path| LayoutReader::open(path).ok()) else {
            return false;
        };
        let has = |blob: &Descriptor| {
            fs::metadata(reader.blob_path(&blob.digest)).is_ok_and(|found| found.is_file() && found.len() == blob.size)
        };
        reader.manifests().is_ok_and(|all| all.iter().any(|one| one.digest == image.digest && has(one)))
            && reader.read_document(&image.manifest.config).is_ok()
            && image.layers.iter().all(|layer| has(&layer.descriptor))
    }

    async fn fetch(&self, client: &Client, image: &BaseImage, directory: &Path) -> Result<(), WarmError> {
        let mut writer = LayoutWriter::open(directory, Existing::Replace)?;
        let exact = image.reference.with_digest(image.digest.clone());
        let manifest_bytes = client.read_manifest(&exact).await?;
        let manifest_bytes = manifest_bytes.ok_or_else(|| WarmError::Gone { digest: image.digest.clone() })?;
        let Manifest { config, .. } = &image.manifest;
        let blobs = image.layers.iter().map(|layer| &layer.descriptor).chain([config]);
        let fetches: Vec<_> = blobs
            .map(|blob| {
                let path = writer.blob_path(&blob.digest);
                async move { client.fetch_blob(&image.reference, blob, &path).await }
            })
            .collect();
        stream::iter(fetches).buffer_unordered(CONCURRENT).try_collect::<()>().await?;
        let config_path = writer.blob_path(&config.digest);
        let config_bytes = fs::read(&config_path).map_err(failed_to("read", &config_path))?;
        let (config, manifest) = (image.config.clone(), image.manifest.clone());
        writer.add_image(&Image { config, config_bytes, manifest, manifest_bytes, blobs: Vec::new() }, None)?;
        Ok(writer.finish()?)
    }

    /// Renames a layout into place. Between the two renames the image is missing; a build that looks for it then
    /// downloads it.
    fn install(&self, fetched: &Path, digest: &Digest) -> Result<(), WarmError> {
        let path = self.path(digest);
        let old = tempfile_in(&self.directory, digest)?;
        match fs::rename(&path, &old) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed_to("rename", &path)(error).into()),
        }
        fs::rename(fetched, &path).map_err(failed_to("rename", fetched))?;
        remove(&old);
        Ok(())
    }
}

/// Waits for the lock of an image. On a file system without locks, the last writer wins.
fn lock_file(path: &Path) -> Result<File, WarmError> {
    let file = fs::open_with(path, OpenOptions::new().create(true).append(true)).map_err(failed_to("open", path))?;
    match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
        Ok(()) | Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(file),
        Err(errno) => Err(failed_to("lock", path)(errno).into()),
    }
}

/// Makes a new empty directory next to the entry of `digest`.
fn tempfile_in(directory: &Path, digest: &Digest) -> Result<PathBuf, WarmError> {
    let mut number = 0_usize;
    loop {
        let path = directory.join(format!(".{}-{}-{number}", digest.hex(), std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(failed_to("create", &path)(error).into()),
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!("{}: could not be removed: {error}", path.display());
    }
}
