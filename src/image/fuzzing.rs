//! Fuzz targets: archives of `docker save`, OCI layouts, image references.

use std::io::Read as _;

use super::docker_archive_reader::read_docker_archive;
use super::layout::LayoutReader;
use super::{Digest, Platform, Reference};
use crate::fuzzing::{Scratch, parts};

/// Reads arbitrary bytes as an archive of `docker save` with its layers: none has more bytes than the archive.
pub(crate) fn saved_image(input: &[u8]) {
    let scratch = Scratch::new();
    let path = scratch.file("image.tar", input);
    if let Ok(image) = read_docker_archive(&path) {
        for layer in image.layers.iter().take(8) {
            let mut content = Vec::new();
            drop(layer.open().take(1 << 20).read_to_end(&mut content));
            assert!(content.len() <= input.len());
        }
    }
}

/// Reads an OCI layout of four parts with zero bytes between them: `oci-layout`, `index.json` and two blobs.
pub(crate) fn oci_layout(input: &[u8]) {
    let [version, index, manifest, config] = parts(input);
    let scratch = Scratch::new();
    scratch.file("oci-layout", version);
    scratch.file("index.json", index);
    for blob in [manifest, config] {
        scratch.file(&format!("blobs/sha256/{}", Digest::sha256_of(blob).hex()), blob);
    }
    let Ok(reader) = LayoutReader::open(scratch.path()) else { return };
    drop(reader.find("latest"));
    for descriptor in reader.manifests().unwrap_or_default() {
        drop(reader.verified_blob(&descriptor));
        if let Ok(manifest) = reader.manifest(&descriptor) {
            drop(reader.read_document(&manifest.config));
            for layer in &manifest.layers {
                drop(reader.verified_blob(layer));
            }
        }
    }
}

/// Parses any text as a reference, a digest and a platform. A parsed value is formatted so that it parses to the same
/// value.
pub(crate) fn reference(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(reference) = Reference::parse(text) {
        assert_eq!(Reference::parse(&reference.to_string()).as_ref().ok(), Some(&reference));
    }
    drop(Reference::parse_layout(text));
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse().as_ref(), Ok(&digest));
    }
    drop(text.parse::<Platform>());
}
