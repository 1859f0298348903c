//! Stores data in a cache as a small image.
//!
//! The configuration is embedded in the manifest (the descriptor's `data`, OCI image specification), so that one
//! request is enough. Nothing unverified is trusted when it is read. The kind of data is in annotations or in the
//! configuration; the caller defines both.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::image::{
    AssembleError, Blob, Descriptor, Digest, Image, ImageConfig, Manifest, Platform, RootFs, media_type, rfc3339,
};

use super::key::Encoder;

/// The most bytes of a manifest with its configuration.
pub(super) const MAX_DOCUMENT: usize = 64 << 10;
/// The number of hexadecimal digits in a tag after its prefix.
const TAG_DIGITS: usize = 32;

/// Returns a tag: `kind` and a digest of `words`.
pub(super) fn tag(kind: &str, words: &Encoder) -> String {
    let digest = Digest::sha256_of(words.as_bytes());
    format!("{kind}{}", digest.hex().get(..TAG_DIGITS).unwrap_or_default())
}

/// Reports whether a tag is one of that `kind`.
pub(super) fn is_tag(kind: &str, tag: &str) -> bool {
    let digits = tag.strip_prefix(kind);
    digits.is_some_and(|digits| digits.len() == TAG_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns the configuration of an image for `platform`, made at `created` (seconds since 1970).
pub(super) fn config(platform: &Platform, created: i64) -> ImageConfig {
    let mut config = ImageConfig { created: Some(rfc3339(created)), ..ImageConfig::default() };
    config.set_platform(platform);
    config
}

/// Returns an image with its configuration embedded in the manifest.
///
/// # Errors
/// The image cannot be written as JSON.
pub(super) fn assemble(
    config: ImageConfig,
    blobs: Vec<Blob>,
    annotations: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<Image, AssembleError> {
    let Image { config, config_bytes, mut manifest, blobs, .. } = Image::assemble(config, blobs)?;
    manifest.config.data = Some(STANDARD.encode(&config_bytes));
    manifest.annotations.extend(annotations.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Image::with_manifest(config, config_bytes, manifest, blobs)
}

/// The single layer of such an image, and its creation time.
#[derive(Debug)]
pub(super) struct StoredLayer {
    /// The descriptor of the compressed blob.
    pub(super) layer: Descriptor,
    /// The digest of the uncompressed layer.
    pub(super) diff_id: Digest,
    /// In seconds since 1970.
    pub(super) created: i64,
}

impl StoredLayer {
    /// Returns the image of a layer whose blob is `blob`.
    ///
    /// # Errors
    /// The image cannot be written as JSON.
    pub(super) fn to_image(
        diff_id: &Digest,
        created: i64,
        platform: &Platform,
        blob: Blob,
        annotations: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Image, AssembleError> {
        let mut config = config(platform, created);
        config.rootfs = RootFs { diff_ids: vec![diff_id.clone()], ..RootFs::default() };
        assemble(config, vec![blob], annotations)
    }

    /// Reads the layer from a manifest.
    ///
    /// # Errors
    /// The problem of the manifest.
    pub(super) fn read(manifest: &Manifest) -> Result<Self, String> {
        let [layer] = manifest.layers.as_slice() else {
            return Err(format!("it has {} layers", manifest.layers.len()));
        };
        if !media_type::WRITTEN_LAYERS.contains(&layer.media_type.as_str()) {
            return Err(format!("its layer has the media type {:?}", layer.media_type));
        }
        let config = embedded_config(&manifest.config)?;
        let [diff_id] = config.rootfs.diff_ids.as_slice() else {
            return Err(format!("its configuration has {} layers", config.rootfs.diff_ids.len()));
        };
        let created = created(&config).ok_or("it has no creation time")?;
        // Only verified fields are passed on.
        let layer = Descriptor::new(layer.media_type.clone(), layer.digest.clone(), layer.size);
        Ok(Self { layer, diff_id: diff_id.clone(), created })
    }
}

/// Returns an image without layers whose configuration has the additional field `field` with `value`, made at
/// `created`. `what` names the image in errors.
///
/// # Errors
/// The image cannot be written as JSON.
pub(super) fn of_value(
    field: &str,
    value: &impl Serialize,
    what: &'static str,
    platform: &Platform,
    created: i64,
) -> Result<Image, AssembleError> {
    let mut config = config(platform, created);
    let value = serde_json::to_value(value).map_err(|source| AssembleError::Serialize { what, source })?;
    config.extra.insert(field.to_owned(), value);
    assemble(config, Vec::new(), [])
}

/// Reads `field` from the manifest of such an image; `None` if it is something else.
pub(super) fn value<T: DeserializeOwned>(field: &str, manifest: &[u8]) -> Option<T> {
    let manifest: Manifest = serde_json::from_slice(manifest).ok()?;
    let mut config = embedded_config(&manifest.config).ok()?;
    serde_json::from_value(config.extra.remove(field)?).ok()
}

/// Parses a manifest from a cache.
///
/// # Errors
/// The problem of the manifest.
pub(super) fn manifest(document: &[u8]) -> Result<Manifest, String> {
    if document.len() > MAX_DOCUMENT {
        return Err(format!("its manifest has {} bytes", document.len()));
    }
    serde_json::from_slice(document).map_err(|error| format!("its manifest is malformed: {error}"))
}

/// Returns an annotation; empty if there is none.
pub(super) fn annotation<'m>(manifest: &'m Manifest, name: &str) -> &'m str {
    manifest.annotations.get(name).map(String::as_str).unwrap_or_default()
}

/// Returns the configuration that is embedded in its descriptor.
pub(super) fn embedded_config(descriptor: &Descriptor) -> Result<ImageConfig, String> {
    let data = descriptor.data.as_deref().ok_or("its configuration is not embedded in the manifest")?;
    let bytes = STANDARD.decode(data).map_err(|error| format!("its configuration is malformed: {error}"))?;
    if bytes.len() as u64 != descriptor.size || !descriptor.digest.verifies(&bytes) {
        return Err("its configuration does not match its digest".to_owned());
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("its configuration is malformed: {error}"))
}

/// Returns the creation time, in seconds since 1970.
pub(super) fn created(config: &ImageConfig) -> Option<i64> {
    let time = humantime::parse_rfc3339(config.created.as_deref()?).ok()?;
    i64::try_from(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()).ok()
}
