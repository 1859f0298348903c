//! Stores a cache in a directory: one OCI image layout, whose index names entries by their keys.
//!
//! Builds share it as they share a registry. Blobs are named by their digests and appear when they are complete. The
//! index is read without a lock, because it is replaced by renaming, and written under a lock. On a file system without
//! locks, one of two entries that are written at the same time may be lost, which is only a miss.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::fs::{failed_to, gated as fs};
use crate::image::layout::{Existing, LayoutError, LayoutReader, LayoutWriter, REF_NAME};
use crate::image::{BlobSource, Descriptor, Image};

use super::entry::{CacheEntry, Miss};
use super::error::LayerCacheError;
use super::key::Key;

/// The file that is locked while the index is written. A layout has no file of this name.
const LOCK: &str = ".crabwright.lock";

/// The index of a layout at one point in time.
#[derive(Debug)]
pub(super) struct Listing {
    reader: LayoutReader,
    entries: BTreeMap<String, Descriptor>,
}

impl Listing {
    /// Reads the index; `None` if the directory does not exist.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, LayoutError> {
        if !fs::exists(directory.join("index.json")) {
            return Ok(None);
        }
        let reader = LayoutReader::open(directory)?;
        let named = reader.index()?.manifests.into_iter();
        let named = named.filter_map(|descriptor| Some((descriptor.annotations.get(REF_NAME)?.clone(), descriptor)));
        Ok(Some(Self { entries: named.collect(), reader }))
    }

    /// Returns the document under a name, verified against its digest.
    pub(super) fn manifest(&self, name: &str) -> Option<Result<Vec<u8>, LayoutError>> {
        Some(self.reader.read_document(self.entries.get(name)?))
    }

    /// Returns the entry of a key; `read` parses its manifest.
    pub(super) fn entry(
        &self,
        key: &Key,
        read: impl FnOnce(&[u8]) -> Result<CacheEntry, Miss>,
    ) -> Result<CacheEntry, Miss> {
        let manifest = self.manifest(key.as_str()).ok_or(Miss::Absent)?;
        let entry = read(&manifest.map_err(|error| Miss::Foreign(error.to_string()))?)?;
        let found = fs::metadata(self.reader.blob_path(&entry.layer.digest));
        match found {
            Ok(metadata) if metadata.is_file() && metadata.len() == entry.layer.size => Ok(entry),
            _ => Err(Miss::NoLayer(entry.layer.digest)),
        }
    }
}

/// Returns the verified file of a layer.
pub(super) fn layer(directory: &Path, descriptor: &Descriptor) -> Result<PathBuf, LayoutError> {
    LayoutReader::open(directory)?.verified_blob(descriptor)
}

/// Returns the path of a layer's file.
pub(super) fn layer_path(directory: &Path, descriptor: &Descriptor) -> PathBuf {
    directory.join("blobs").join(descriptor.digest.algorithm()).join(descriptor.digest.hex())
}

/// Adds an image, whose layers are files, under each of the names.
pub(super) fn add(directory: &Path, image: &Image, names: &[String]) -> Result<(), LayerCacheError> {
    fs::create_dir_all(directory).map_err(failed_to("create", directory))?;
    // The writer reads the index when it is opened. So blobs are written first, and the index under the lock.
    let mut blobs = locked(directory, || Ok(LayoutWriter::open(directory, Existing::Keep)?))?;
    for blob in &image.blobs {
        // A layer that was found here is verified by its readers.
        if let BlobSource::File(path) = &blob.source
            && *path != blobs.blob_path(&blob.descriptor.digest)
        {
            let file = fs::open(path).map_err(failed_to("open", path))?;
            blobs.add_blob(&blob.descriptor, file)?;
        }
    }
    locked(directory, || {
        let mut writer = LayoutWriter::open(directory, Existing::Keep)?;
        for name in names {
            writer.add_image(image, Some(name))?;
        }
        Ok(writer.finish()?)
    })
}

/// Runs `work` while no other build holds the lock.
pub(super) fn locked<T>(
    directory: &Path,
    work: impl FnOnce() -> Result<T, LayerCacheError>,
) -> Result<T, LayerCacheError> {
    let path = directory.join(LOCK);
    let file = fs::open_with(&path, OpenOptions::new().create(true).append(true)).map_err(failed_to("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
        Ok(()) => {}
        Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => {
            tracing::debug!(
                "the file system of {} has no locks: entries may be lost if builds write at the same time",
                path.display()
            );
        }
        Err(errno) => return Err(failed_to("lock", &path)(errno).into()),
    }
    work()
}
