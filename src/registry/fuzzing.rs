//! Fuzz targets: responses of registries and token servers.

use super::challenge as challenges;
use super::pull::{Document, NamedDocument, base_image, choose, parse_named};
use super::remote_error;
use super::tags::next_page;
use crate::fuzzing::parts;
use crate::image::{Digest, Platform, Reference};

/// Parses any `WWW-Authenticate` header into parts of it.
pub(crate) fn challenge(input: &[u8]) {
    let Ok(header) = std::str::from_utf8(input) else { return };
    for challenge in challenges::parse(header) {
        assert!(challenge.scheme.len() <= header.len());
        assert!(challenge.parameters.values().all(|value| value.len() <= header.len()));
    }
}

/// Finds the next page in any `Link` header, or none.
pub(crate) fn link(input: &[u8]) {
    let Ok(header) = std::str::from_utf8(input) else { return };
    if let Some(target) = next_page(header) {
        assert!(header.contains(&target));
    }
}

/// Turns any body of an error into a few short lines without control characters.
pub(crate) fn error_body(input: &[u8]) {
    let errors = remote_error::error_body(input);
    assert!(errors.len() <= 5);
    for error in errors {
        let shown = error.to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(shown.len() < 10_000);
    }
}

/// Reads any response to a manifest request: content type, manifest or index, and config, separated by zero bytes.
pub(crate) fn manifest(input: &[u8]) {
    let [content_type, bytes, config] = parts(input);
    let reference = Reference::parse("r.example/fuzzed:1").expect("a reference");
    let platform = Platform::new("linux", "amd64", None);
    let content_type = String::from_utf8_lossy(content_type).into_owned();
    let document = Document { bytes: bytes.to_vec(), content_type, is_own: true };
    match parse_named(&reference, &document) {
        Ok(NamedDocument::Index(index)) => drop(choose(&reference, &index, &platform)),
        Ok(NamedDocument::Manifest(manifest)) => {
            let digest = Digest::sha256_of(&document.bytes);
            if let Ok(image) = base_image(&reference, digest, *manifest, config.to_vec(), &platform) {
                assert_eq!(image.layers.len(), image.manifest.layers.len());
                image.config.to_bytes().expect("what was read can be written");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
