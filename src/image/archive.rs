//! Writes images as tars: the format of `docker save`, which `docker load`, `podman load` and skopeo's
//! `docker-archive:` read, and the OCI image layout in a tar, skopeo's `oci-archive:`.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use serde::Serialize;

use super::layout::{INDEX_FILE, LAYOUT_CONTENT, LAYOUT_FILE, REF_NAME};
use super::{Blob, Descriptor, Digest, Image, Index, Reference};

use crate::diag::Hint;

/// The annotation from which containerd and Docker read an image's full name in a layout.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive could not be written.
    #[error("failed to write {entry} to the archive")]
    Write {
        /// The member of the archive.
        entry: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A layer could not be opened.
    #[error("failed to open layer {digest}")]
    Open {
        /// The layer.
        digest: Digest,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A layer's content is shorter or longer than its descriptor says.
    #[error("layer {digest}: expected {expected} bytes, found {found}")]
    Size {
        /// The layer.
        digest: Digest,
        /// The descriptor's size.
        expected: u64,
        /// The size of the content; at most one more than expected.
        found: u64,
    },
    /// `manifest.json` or `index.json` could not be made.
    #[error("failed to write {entry} as JSON")]
    Json {
        /// The member of the archive.
        entry: &'static str,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

impl Hint for ArchiveError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Write { source, .. } | Self::Open { source, .. } => source.hint(),
            Self::Size { .. } | Self::Json { .. } => None,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ArchiveManifest {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes `image` to `out` with the names `tags`; `open_blob` returns a layer's compressed bytes.
///
/// A layer that occurs twice is stored once. Entries have no time and no owner, so that equal images have equal
/// archives.
///
/// # Errors
/// A layer cannot be read or does not have the size of its descriptor, or `out` cannot be written.
pub fn write_docker_archive<W: Write, R: Read>(
    out: W,
    image: &Image,
    tags: &[Reference],
    mut open_blob: impl FnMut(&Blob) -> io::Result<R>,
) -> Result<W, ArchiveError> {
    let mut archive = tar::Builder::new(out);
    let config_name = format!("{}.json", image.manifest.config.digest.hex());
    append(&mut archive, &config_name, image.config_bytes.len() as u64, image.config_bytes.as_slice())?;
    let mut written = BTreeSet::new();
    let mut layers = Vec::new();
    for blob in &image.blobs {
        let name = layer_name(&blob.descriptor);
        if written.insert(name.clone()) {
            let content = open_blob(blob)
                .map_err(|source| ArchiveError::Open { digest: blob.descriptor.digest.clone(), source })?;
            append_layer(&mut archive, &name, &blob.descriptor, content)?;
        }
        layers.push(name);
    }
    let repo_tags = tags.iter().map(|tag| tag.with_tag(tag.tag_or_latest()).familiar()).collect();
    let manifest = serde_json::to_vec(&[ArchiveManifest { config: config_name, repo_tags, layers }])
        .map_err(|source| ArchiveError::Json { entry: "manifest.json", source })?;
    append(&mut archive, "manifest.json", manifest.len() as u64, manifest.as_slice())?;
    ended(archive)
}

/// Writes an OCI image layout with only `image` to `out`: one entry in its index for each of `names`, or one without a
/// name.
///
/// # Errors
/// As for [`write_docker_archive`].
pub fn write_oci_archive<W: Write, R: Read>(
    out: W,
    image: &Image,
    names: &[Reference],
    mut open_blob: impl FnMut(&Blob) -> io::Result<R>,
) -> Result<W, ArchiveError> {
    let mut archive = tar::Builder::new(out);
    append(&mut archive, LAYOUT_FILE, LAYOUT_CONTENT.len() as u64, LAYOUT_CONTENT)?;
    let mut written = BTreeSet::new();
    for blob in image.blobs.iter().filter(|blob| !blob.descriptor.is_foreign()) {
        let digest = &blob.descriptor.digest;
        if written.insert(digest.clone()) {
            let content = open_blob(blob).map_err(|source| ArchiveError::Open { digest: digest.clone(), source })?;
            append_layer(&mut archive, &blob_name(digest), &blob.descriptor, content)?;
        }
    }
    let (config, manifest) = (image.config_bytes.as_slice(), image.manifest_bytes.as_slice());
    append(&mut archive, &blob_name(&image.manifest.config.digest), config.len() as u64, config)?;
    append(&mut archive, &blob_name(&image.digest()), manifest.len() as u64, manifest)?;
    let entry = |name: Option<&Reference>| {
        let mut descriptor = image.descriptor();
        if let Some(name) = name {
            let tag = name.tag_or_latest();
            descriptor.annotations.insert(IMAGE_NAME.to_owned(), name.with_tag(tag).to_string());
            descriptor.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
        }
        descriptor
    };
    let entries =
        if names.is_empty() { vec![entry(None)] } else { names.iter().map(|name| entry(Some(name))).collect() };
    let index = Index::oci(entries).to_bytes().map_err(|source| ArchiveError::Json { entry: INDEX_FILE, source })?;
    append(&mut archive, INDEX_FILE, index.len() as u64, index.as_slice())?;
    ended(archive)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn ended<W: Write>(archive: tar::Builder<W>) -> Result<W, ArchiveError> {
    archive.into_inner().map_err(|source| ArchiveError::Write { entry: "the end".to_owned(), source })
}

/// Readers detect the compression from the first bytes; the extension is for people.
fn layer_name(descriptor: &Descriptor) -> String {
    let extension = match descriptor.media_type.rsplit(['+', '.']).next() {
        Some("gzip") => "tar.gz",
        Some("zstd") => "tar.zst",
        _ => "tar",
    };
    format!("{}.{extension}", descriptor.digest.hex())
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    size: u64,
    content: impl Read,
) -> Result<(), ArchiveError> {
    archive
        .append_data(&mut header(size), name, content)
        .map_err(|source| ArchiveError::Write { entry: name.to_owned(), source })
}

fn append_layer<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    descriptor: &Descriptor,
    content: impl Read,
) -> Result<(), ArchiveError> {
    // The tar crate pads by the number of bytes read, not by the size in the header, so a wrong size must be detected
    // here.
    let mut counted = Counted { inner: content.take(descriptor.size.saturating_add(1)), bytes: 0 };
    append(archive, name, descriptor.size, &mut counted)?;
    if counted.bytes == descriptor.size {
        return Ok(());
    }
    Err(ArchiveError::Size { digest: descriptor.digest.clone(), expected: descriptor.size, found: counted.bytes })
}

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{BlobSource, ImageConfig, RootFs, media_type};

    fn image() -> Image {
        let layer = |content: &[u8]| Blob {
            descriptor: Descriptor::of(media_type::OCI_LAYER_GZIP, content),
            source: BlobSource::Bytes(content.to_vec()),
        };
        let diff_ids = vec![Digest::sha256_of(b"1"), Digest::sha256_of(b"2"), Digest::sha256_of(b"1")];
        let config = ImageConfig { rootfs: RootFs { diff_ids, ..RootFs::default() }, ..ImageConfig::default() };
        Image::assemble(config, vec![layer(b"one"), layer(b"two"), layer(b"one")]).unwrap()
    }

    fn bytes_of(blob: &Blob) -> io::Result<io::Cursor<Vec<u8>>> {
        match &blob.source {
            BlobSource::Bytes(bytes) => Ok(io::Cursor::new(bytes.clone())),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    #[test]
    fn an_archive_lists_what_it_holds() {
        let image = image();
        let tags = [Reference::parse("a").unwrap(), Reference::parse("localhost:5000/b:c").unwrap()];
        let bytes = write_docker_archive(Vec::new(), &image, &tags, bytes_of).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut names = Vec::new();
        let mut manifest = String::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            if name == "manifest.json" {
                entry.read_to_string(&mut manifest).unwrap();
            }
            names.push(name);
        }
        let one = format!("{}.tar.gz", Digest::sha256_of(b"one").hex());
        let two = format!("{}.tar.gz", Digest::sha256_of(b"two").hex());
        let config = format!("{}.json", Digest::sha256_of(&image.config_bytes).hex());
        assert_eq!(names, [config.clone(), one.clone(), two.clone(), "manifest.json".to_owned()]);
        assert_eq!(
            manifest,
            format!(
                "[{{\"Config\":\"{config}\",\"RepoTags\":[\"a:latest\",\"localhost:5000/b:c\"],\
                 \"Layers\":[\"{one}\",\"{two}\",\"{one}\"]}}]"
            )
        );
        assert_eq!(bytes, write_docker_archive(Vec::new(), &image, &tags, bytes_of).unwrap());
    }

    #[test]
    fn a_layout_in_an_archive_is_a_layout() {
        let image = image();
        let names = [Reference::parse("a").unwrap(), Reference::parse("localhost:5000/b:c").unwrap()];
        let bytes = write_oci_archive(Vec::new(), &image, &names, bytes_of).unwrap();
        let directory = tempfile::tempdir().unwrap();
        tar::Archive::new(bytes.as_slice()).unpack(directory.path()).unwrap();
        let reader = crate::image::layout::LayoutReader::open(directory.path()).unwrap();
        let found = reader.find("c").unwrap().unwrap();
        assert_eq!(found.digest, image.digest());
        assert_eq!(found.annotations[IMAGE_NAME], "localhost:5000/b:c");
        assert_eq!(reader.manifest(&found).unwrap(), image.manifest);
        for blob in image.blobs.iter().chain([&image.config_blob()]) {
            reader.verified_blob(&blob.descriptor).unwrap();
        }
        assert_eq!(reader.index().unwrap().manifests.len(), 2);
    }

    #[test]
    fn a_layer_of_another_size_is_an_error() {
        let image = image();
        let short = |_: &Blob| Ok(io::Cursor::new(b"o".to_vec()));
        let error = write_docker_archive(Vec::new(), &image, &[], short).unwrap_err();
        assert!(matches!(error, ArchiveError::Size { expected: 3, found: 1, .. }), "{error}");
    }
}
