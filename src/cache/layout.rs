//! A cache in a directory: one OCI image layout, whose index names entries by their keys.
//!
//! Builds share it as they share a registry. Blobs are named by their digests and appear when they are whole; the index is
//! read without a lock, since it is only ever renamed into place, and written under one. Where the file system has no
//! locks, of two entries written in the same moment one may be lost, which is a miss and nothing worse.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::fs::{failed_to, gated as fs};
use crate::image::layout::{Existing, LayoutError, LayoutReader, LayoutWriter, REF_NAME};
use crate::image::{BlobSource, Descriptor, Image};

use super::entry::{Entry, Miss};
use super::error::LayerCacheError;
use super::key::Key;

/// What is locked while the index is written; the name is none that a layout has.
const LOCK: &str = ".crabwright.lock";

/// The index of a layout at one moment.
#[derive(Debug)]
pub(super) struct Listing {
    reader: LayoutReader,
    entries: BTreeMap<String, Descriptor>,
}

impl Listing {
    /// Reads the index; nothing is in a directory that is not there.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, LayoutError> {
        if !fs::exists(directory.join("index.json")) {
            return Ok(None);
        }
        let reader = LayoutReader::open(directory)?;
        let named = reader.index()?.manifests.into_iter();
        let named = named.filter_map(|descriptor| Some((descriptor.annotations.get(REF_NAME)?.clone(), descriptor)));
        Ok(Some(Self { entries: named.collect(), reader }))
    }

    /// The document under a name, held against its digest.
    pub(super) fn manifest(&self, name: &str) -> Option<Result<Vec<u8>, LayoutError>> {
        Some(self.reader.read_document(self.entries.get(name)?))
    }

    /// The entry of a key, as `read` takes it out of its manifest.
    pub(super) fn entry(&self, key: &Key, read: impl FnOnce(&[u8]) -> Result<Entry, Miss>) -> Result<Entry, Miss> {
        let manifest = self.manifest(key.as_str()).ok_or(Miss::Absent)?;
        let entry = read(&manifest.map_err(|error| Miss::Foreign(error.to_string()))?)?;
        let found = fs::metadata(self.reader.blob_path(&entry.layer.digest));
        match found {
            Ok(metadata) if metadata.is_file() && metadata.len() == entry.layer.size => Ok(entry),
            _ => Err(Miss::NoLayer(entry.layer.digest)),
        }
    }
}

/// The file of a layer, verified.
pub(super) fn layer(directory: &Path, descriptor: &Descriptor) -> Result<PathBuf, LayoutError> {
    LayoutReader::open(directory)?.verified_blob(descriptor)
}

/// Where the file of a layer is.
pub(super) fn layer_path(directory: &Path, descriptor: &Descriptor) -> PathBuf {
    directory.join("blobs").join(descriptor.digest.algorithm()).join(descriptor.digest.hex())
}

/// Adds an image, whose layers are files, under each of the names.
pub(super) fn add(directory: &Path, image: &Image, names: &[String]) -> Result<(), LayerCacheError> {
    fs::create_dir_all(directory).map_err(failed_to("create", directory))?;
    // The index is read by the writer when it is opened: blobs come before the lock, the index behind it.
    let mut blobs = locked(directory, || Ok(LayoutWriter::open(directory, Existing::Keep)?))?;
    for blob in &image.blobs {
        // A layer that was found here is held against its digest by those who read it.
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

/// Does something that no other build does meanwhile.
pub(super) fn locked<T>(
    directory: &Path,
    work: impl FnOnce() -> Result<T, LayerCacheError>,
) -> Result<T, LayerCacheError> {
    let path = directory.join(LOCK);
    let file = fs::open_with(&path, OpenOptions::new().create(true).append(true)).map_err(failed_to("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
        Ok(()) => {}
        Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => {
            tracing::debug!("the file system of {} has no locks", path.display());
        }
        Err(errno) => return Err(failed_to("lock", &path)(errno).into()),
    }
    work()
}
