//! Reads and writes OCI image layouts: a directory of blobs and an index (OCI image specification, image-layout.md).
//!
//! Files are renamed into place when they are complete ([`Partial`]). An existing blob is only used if it has its
//! digest; a damaged one is written again.

mod error;
mod partial;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use partial::Partial;
use rustix::fs::OFlags;

use crate::fs::{failed_to, gated as fs};

use super::{Descriptor, Digest, HashingReader, Image, Index, Manifest, media_type};

pub use error::LayoutError;

/// The annotation with a manifest's name in a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

pub(super) const LAYOUT_FILE: &str = "oci-layout";
pub(super) const LAYOUT_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(super) const INDEX_FILE: &str = "index.json";

/// The largest manifest, nested index or configuration that is read (registries refuse larger ones).
const MAX_DOCUMENT: u64 = 4 << 20;

/// The largest index of a layout: a cache has a few hundred bytes for each of its entries.
const MAX_INDEX: u64 = 64 << 20;

/// Opens a regular file. Opening a pipe in an untrusted layout would block.
fn open(path: &Path) -> io::Result<File> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = fs::open_with(path, OpenOptions::new().read(true).custom_flags(nonblocking))?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

/// Reads a document that has no digest.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(MAX_INDEX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_INDEX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// The handling of images that the layout already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They stay; one with the same name is replaced.
    Keep,
    /// The index will only have the new images.
    Replace,
}

/// Writes images into a layout. They appear in the index only with [`LayoutWriter::finish`].
#[derive(Debug)]
pub struct LayoutWriter {
    directory: PathBuf,
    index: Index,
}

impl LayoutWriter {
    /// Opens the layout at `directory`, or makes one.
    ///
    /// # Errors
    /// The directory cannot be written, or is not a layout of a known version.
    pub fn open(directory: impl Into<PathBuf>, existing: Existing) -> Result<Self, LayoutError> {
        let directory = directory.into();
        let layout_file = directory.join(LAYOUT_FILE);
        let index = if fs::exists(&layout_file) {
            let reader = LayoutReader::open(&directory)?;
            match existing {
                Existing::Keep if fs::exists(directory.join(INDEX_FILE)) => reader.index()?,
                _ => Index::oci(Vec::new()),
            }
        } else {
            Index::oci(Vec::new())
        };
        let blobs = directory.join("blobs").join("sha256");
        fs::create_dir_all(&blobs).map_err(failed_to("create", &blobs))?;
        if !fs::exists(&layout_file) {
            write_atomic(&layout_file, LAYOUT_CONTENT)?;
        }
        Ok(Self { directory, index })
    }

    /// Returns the path that the blob of `digest` has or will have.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        blob_path(&self.directory, digest)
    }

    /// Copies a blob into the layout, unless it exists undamaged. Its size and digest are verified before it appears.
    ///
    /// # Errors
    /// The content does not match the descriptor, or cannot be read or written.
    pub fn add_blob(&mut self, descriptor: &Descriptor, content: impl Read) -> Result<(), LayoutError> {
        match verified_blob(&self.directory, descriptor) {
            Ok(_there) => return Ok(()),
            Err(LayoutError::File(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(damaged) => tracing::debug!("{damaged}: written again"),
        }
        let path = self.blob_path(&descriptor.digest);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed_to("create", parent))?;
        }
        let mut partial = Partial::create(&path)?;
        // One byte more than expected is enough to detect a larger blob.
        let limited = content.take(descriptor.size.saturating_add(1));
        let mut reader = HashingReader::verifying(limited, &descriptor.digest);
        io::copy(&mut reader, partial.file()).map_err(failed_to("write", partial.path()))?;
        let (_, found, size) = reader.finish();
        check_content(&self.directory, descriptor, &found, size)?;
        partial.place(&path)
    }

    /// Adds an image whose blobs exist, with `name` (usually a tag) if there is one.
    ///
    /// # Errors
    /// The manifest or configuration cannot be written.
    pub fn add_image(&mut self, image: &Image, name: Option<&str>) -> Result<(), LayoutError> {
        self.add_blob(&image.manifest.config, image.config_bytes.as_slice())?;
        let mut descriptor = image.descriptor();
        self.add_blob(&descriptor, image.manifest_bytes.as_slice())?;
        if let Some(name) = name {
            descriptor.annotations.insert(REF_NAME.to_owned(), name.to_owned());
        }
        self.index.manifests.retain(|other| match name {
            Some(name) => other.annotations.get(REF_NAME).map(String::as_str) != Some(name),
            None => other.digest != descriptor.digest,
        });
        self.index.manifests.push(descriptor);
        Ok(())
    }

    /// Writes the index with the added images.
    ///
    /// # Errors
    /// The index cannot be written.
    pub fn finish(self) -> Result<(), LayoutError> {
        write_index(&self.directory, &self.index)
    }
}

/// Replaces a layout's index.
///
/// # Errors
/// The index cannot be written; then the existing one is unchanged.
pub fn write_index(directory: &Path, index: &Index) -> Result<(), LayoutError> {
    let path = directory.join(INDEX_FILE);
    let bytes = index.to_bytes().map_err(|source| LayoutError::Json { path: path.clone(), source })?;
    write_atomic(&path, &bytes)
}

/// Removes files that killed writers left. Files that cannot be removed are harmless.
pub fn remove_leftovers(directory: &Path) {
    partial::remove_leftovers(directory);
    partial::remove_leftovers(&directory.join("blobs").join("sha256"));
}

/// Reads images from a layout.
#[derive(Debug, Clone)]
pub struct LayoutReader {
    directory: PathBuf,
}

impl LayoutReader {
    /// Opens the layout at `directory`.
    ///
    /// # Errors
    /// The directory is not a layout of version 1.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        #[derive(serde::Deserialize)]
        struct Version {
            #[serde(rename = "imageLayoutVersion")]
            version: String,
        }
        let directory = directory.into();
        let path = directory.join(LAYOUT_FILE);
        let bytes = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LayoutError::NotALayout { path: directory });
            }
            other => other.map_err(failed_to("read", &path))?,
        };
        let version: Version = serde_json::from_slice(&bytes).map_err(|source| LayoutError::Json { path, source })?;
        if !version.version.starts_with("1.") {
            return Err(LayoutError::NotALayout { path: directory });
        }
        Ok(Self { directory })
    }

    /// Returns the layout's index.
    ///
    /// # Errors
    /// The index cannot be read or parsed.
    pub fn index(&self) -> Result<Index, LayoutError> {
        let path = self.directory.join(INDEX_FILE);
        let bytes = read(&path).map_err(failed_to("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| LayoutError::Json { path, source })
    }

    /// Returns the descriptor of the manifest called `name`.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn find(&self, name: &str) -> Result<Option<Descriptor>, LayoutError> {
        let named = |descriptor: &Descriptor| descriptor.annotations.get(REF_NAME).map(String::as_str) == Some(name);
        Ok(self.index()?.manifests.into_iter().find(named))
    }

    /// Returns the path of the blob of `digest`.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        blob_path(&self.directory, digest)
    }

    /// Returns the file of a blob after verifying its content.
    ///
    /// # Errors
    /// The blob is missing, or does not match its descriptor.
    pub fn verified_blob(&self, descriptor: &Descriptor) -> Result<PathBuf, LayoutError> {
        verified_blob(&self.directory, descriptor)
    }

    /// Returns a manifest or configuration after verifying it.
    ///
    /// # Errors
    /// The document is missing, is too large, or does not match its descriptor.
    pub fn read_document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let path = self.blob_path(&descriptor.digest);
        if descriptor.size > MAX_DOCUMENT {
            return Err(LayoutError::TooLarge {
                path: self.directory.clone(),
                digest: descriptor.digest.clone(),
                size: descriptor.size,
            });
        }
        let file = open(&path).map_err(failed_to("open", &path))?;
        let mut reader = HashingReader::verifying(file.take(descriptor.size.saturating_add(1)), &descriptor.digest);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(failed_to("read", &path))?;
        let (_, found, size) = reader.finish();
        check_content(&self.directory, descriptor, &found, size)?;
        Ok(bytes)
    }

    /// Returns a manifest after verifying and parsing it.
    ///
    /// # Errors
    /// As for [`LayoutReader::read_document`], or the document is not a manifest.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, LayoutError> {
        let bytes = self.read_document(descriptor)?;
        let path = self.blob_path(&descriptor.digest);
        serde_json::from_slice(&bytes).map_err(|source| LayoutError::Json { path, source })
    }

    /// Returns the descriptors of all image manifests in the layout's index, without nested indexes.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn manifests(&self) -> Result<Vec<Descriptor>, LayoutError> {
        let index = self.index()?;
        Ok(index.manifests.into_iter().filter(|d| media_type::is_manifest(&d.media_type)).collect())
    }
}

fn verified_blob(directory: &Path, descriptor: &Descriptor) -> Result<PathBuf, LayoutError> {
    let path = blob_path(directory, &descriptor.digest);
    let file = open(&path).map_err(failed_to("open", &path))?;
    let found = file.metadata().map_err(failed_to("look at", &path))?.len();
    if found != descriptor.size {
        let (path, digest) = (directory.to_owned(), descriptor.digest.clone());
        return Err(LayoutError::Size { path, digest, expected: descriptor.size, found });
    }
    let mut reader = HashingReader::verifying(file.take(descriptor.size.saturating_add(1)), &descriptor.digest);
    io::copy(&mut reader, &mut io::sink()).map_err(failed_to("read", &path))?;
    let (_, found, size) = reader.finish();
    check_content(directory, descriptor, &found, size)?;
    Ok(path)
}

fn check_content(directory: &Path, descriptor: &Descriptor, found: &Digest, size: u64) -> Result<(), LayoutError> {
    if size != descriptor.size {
        return Err(LayoutError::Size {
            path: directory.to_owned(),
            digest: descriptor.digest.clone(),
            expected: descriptor.size,
            found: size,
        });
    }
    if *found != descriptor.digest {
        return Err(LayoutError::Digest {
            path: directory.to_owned(),
            expected: descriptor.digest.clone(),
            found: found.clone(),
        });
    }
    Ok(())
}

fn blob_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs").join(digest.algorithm()).join(digest.hex())
}

fn write_atomic(path: &Path, content: &[u8]) -> Result<(), LayoutError> {
    let mut partial = Partial::create(path)?;
    partial.file().write_all(content).map_err(failed_to("write", partial.path()))?;
    partial.place(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Blob, BlobSource, ImageConfig, RootFs};

    fn image(layer: &[u8]) -> Image {
        let config = ImageConfig {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            rootfs: RootFs { diff_ids: vec![Digest::sha256_of(layer)], ..RootFs::default() },
            ..ImageConfig::default()
        };
        let blob = Blob {
            descriptor: Descriptor::of(media_type::OCI_LAYER, layer),
            source: BlobSource::Bytes(layer.to_vec()),
        };
        Image::assemble(config, vec![blob]).unwrap()
    }

    fn add(directory: &Path, layer: &[u8], name: Option<&str>, existing: Existing) -> Image {
        let image = image(layer);
        let mut writer = LayoutWriter::open(directory, existing).unwrap();
        writer.add_blob(&image.blobs[0].descriptor, layer).unwrap();
        writer.add_image(&image, name).unwrap();
        writer.finish().unwrap();
        image
    }

    /// Opening a pipe without a writer would block.
    #[test]
    fn a_layout_has_regular_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layout");
        add(&path, b"one", Some("v1"), Existing::Keep);
        for name in [LAYOUT_FILE, INDEX_FILE] {
            let (kept, file) = (directory.path().join("kept"), path.join(name));
            fs::rename(&file, &kept).unwrap();
            rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
            let error = LayoutReader::open(&path).and_then(|reader| reader.index()).unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert_eq!(cause, "it is not a regular file", "{name}");
            fs::rename(&kept, &file).unwrap();
        }
    }

    #[test]
    fn images_are_added_replaced_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layout");
        add(&path, b"one", Some("v1"), Existing::Keep);
        let second = add(&path, b"two", Some("v2"), Existing::Keep);
        let third = add(&path, b"three", Some("v1"), Existing::Keep);
        let reader = LayoutReader::open(&path).unwrap();
        assert_eq!(reader.manifests().unwrap().len(), 2);
        let found = reader.find("v1").unwrap().unwrap();
        assert_eq!(found.digest, third.digest());
        assert_eq!(found.platform.as_ref().unwrap().to_string(), "linux/amd64");
        assert_eq!(reader.manifest(&found).unwrap(), third.manifest);
        assert_eq!(reader.find("v2").unwrap().unwrap().digest, second.digest());
        add(&path, b"four", None, Existing::Replace);
        assert_eq!(reader.manifests().unwrap().len(), 1);
    }

    #[test]
    fn wrong_content_never_appears() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = LayoutWriter::open(directory.path(), Existing::Keep).unwrap();
        let descriptor = Descriptor::of(media_type::OCI_LAYER, b"right");
        assert!(matches!(writer.add_blob(&descriptor, &b"wrong"[..]), Err(LayoutError::Digest { .. })));
        assert!(matches!(writer.add_blob(&descriptor, &b"rig"[..]), Err(LayoutError::Size { found: 3, .. })));
        assert!(matches!(writer.add_blob(&descriptor, &b"right and more"[..]), Err(LayoutError::Size { .. })));
        let blobs = directory.path().join("blobs/sha256");
        assert_eq!(fs::read_dir(blobs).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_blob_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let image = add(directory.path(), b"right", None, Existing::Keep);
        let path = blob_path(directory.path(), &image.blobs[0].descriptor.digest);
        for damaged in [&b"wrong"[..], b"righ", b"right and more", b""] {
            fs::write(&path, damaged).unwrap();
            add(directory.path(), b"right", None, Existing::Keep);
            assert_eq!(fs::read(&path).unwrap(), b"right", "{damaged:?}");
        }
        // Documents are written again as well.
        let manifest = blob_path(directory.path(), &image.digest());
        fs::write(&manifest, vec![b' '; image.manifest_bytes.len()]).unwrap();
        add(directory.path(), b"right", None, Existing::Keep);
        assert_eq!(fs::read(&manifest).unwrap(), image.manifest_bytes);
    }

    /// An undamaged blob is not written again.
    #[test]
    fn a_blob_that_is_there_stays() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        let image = add(directory.path(), b"right", None, Existing::Keep);
        let inode = || fs::metadata(blob_path(directory.path(), &image.blobs[0].descriptor.digest)).unwrap().ino();
        let before = inode();
        add(directory.path(), b"right", None, Existing::Keep);
        assert_eq!(inode(), before);
    }

    #[test]
    fn other_directories_are_not_layouts() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(LayoutReader::open(directory.path()), Err(LayoutError::NotALayout { .. })));
    }
}
