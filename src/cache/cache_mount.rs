//! Stores the content of a cache mount (`RUN --mount=type=cache`) as a small image in a repository or a layout.
//!
//! A cache mount is identified by its id, which may be any text, and the platform of its commands. The tag is a digest
//! of both: an id need not be a valid tag, and anyone who may list the repository's tags does not learn it. The newest
//! content has the tag; the last writer wins. As for layers, the configuration is embedded in the manifest, so that one
//! request is enough. Nothing unverified is trusted: the manifest must name the requested id and platform.

use crate::image::{AssembleError, Blob, Descriptor, Digest, Image, Platform, rfc3339};

use super::entry::Miss;
use super::key::Encoder;
use super::layer_image::{self, StoredLayer, annotation};

/// The start of every digest: different formats have different tags.
const VERSION: &str = "crabwright cache mount 1";
/// The prefix of a tag.
const TAG: &str = "mount-";
/// The manifest's annotation with the id and its namespace.
const ID: &str = "dev.crabwright.mount.id";
/// The platform of the commands.
const PLATFORM: &str = "dev.crabwright.mount.platform";
/// Bytes of the files.
const SIZE: &str = "dev.crabwright.mount.size";
/// The time of writing (OCI image specification, annotations.md).
const CREATED: &str = "org.opencontainers.image.created";

/// Returns the tag of a cache mount. `id` includes its namespace (`BUILDKIT_CACHE_MOUNT_NS`).
#[must_use]
pub fn tag(id: &str, platform: &Platform) -> String {
    let words = Encoder::new().text(VERSION).text(id).text(&platform.normalized().to_string());
    layer_image::tag(TAG, &words)
}

/// Reports whether a tag is one of a cache mount.
pub(super) fn is_tag(tag: &str) -> bool {
    layer_image::is_tag(TAG, tag)
}

/// The content of a cache mount, as its manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMountContent {
    /// The id with its namespace.
    pub id: String,
    /// The platform of the commands.
    pub platform: Platform,
    /// The descriptor of the compressed archive.
    pub layer: Descriptor,
    /// The digest of the archive.
    pub diff_id: Digest,
    /// The time of writing, in seconds since 1970.
    pub created: i64,
    /// Bytes of the files.
    pub size: u64,
}

impl CacheMountContent {
    /// Returns the content as an image whose archive is `blob`.
    ///
    /// # Errors
    /// The image cannot be written as JSON.
    pub fn to_image(&self, blob: Blob) -> Result<Image, AssembleError> {
        let annotations = [
            (ID, self.id.clone()),
            (PLATFORM, self.platform.normalized().to_string()),
            (SIZE, self.size.to_string()),
            (CREATED, rfc3339(self.created)),
        ];
        StoredLayer::to_image(&self.diff_id, self.created, &self.platform, blob, annotations)
    }

    /// Reads the manifest under the tag of a cache mount.
    ///
    /// # Errors
    /// The manifest is not one of this cache mount.
    pub fn read(id: &str, platform: &Platform, manifest: &[u8]) -> Result<Self, Miss> {
        let foreign = Miss::Foreign;
        let manifest = layer_image::manifest(manifest).map_err(foreign)?;
        let annotation = |name: &str| annotation(&manifest, name);
        if annotation(ID) != id || annotation(PLATFORM) != platform.normalized().to_string() {
            return Err(foreign("it is the content of a different cache mount".to_owned()));
        }
        let size = annotation(SIZE).parse().map_err(|error| foreign(format!("{SIZE} is not a number: {error}")))?;
        let StoredLayer { layer, diff_id, created } = StoredLayer::read(&manifest).map_err(foreign)?;
        Ok(Self { id: id.to_owned(), platform: platform.clone(), layer, diff_id, created, size })
    }
}

#[cfg(test)]
mod tests {
    use crate::image::{BlobSource, Manifest, media_type};

    use super::super::layer_image::MAX_DOCUMENT;
    use super::*;

    fn platform() -> Platform {
        "linux/amd64".parse().unwrap()
    }

    fn cache() -> CacheMountContent {
        CacheMountContent {
            id: "team/root/.cache".to_owned(),
            platform: platform(),
            layer: Descriptor::of(media_type::OCI_LAYER_ZSTD, b"layer"),
            diff_id: Digest::sha256_of(b"tar"),
            created: 1_700_000_000,
            size: 12,
        }
    }

    fn image() -> Image {
        let blob = Blob { descriptor: cache().layer, source: BlobSource::Bytes(b"layer".to_vec()) };
        cache().to_image(blob).unwrap()
    }

    /// The format is fixed: with different tags, all existing content would be lost.
    #[test]
    fn a_tag_is_a_digest_of_id_and_platform() {
        let go = tag("go", &platform());
        assert_eq!(go, "mount-441094b51f926c45d720389c18da357b");
        assert_eq!(go, tag("go", &"amd64".parse().unwrap()), "a different spelling of the platform");
        assert!(is_tag(&go));
        for other in [tag("go ", &platform()), tag("x/go", &platform()), tag("go", &"linux/arm64".parse().unwrap())] {
            assert_ne!(other, go);
        }
        let odd = tag("../Ü \n\0 /a:b@c", &platform());
        assert!(is_tag(&odd), "{odd}");
        for text in ["mount-", "mount-go", "mount-xyz0d3f00000000000000000000000000", "latest"] {
            assert!(!is_tag(text), "{text}");
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let manifest = image().manifest_bytes;
        assert_eq!(CacheMountContent::read("team/root/.cache", &platform(), &manifest), Ok(cache()));
        let text = String::from_utf8(manifest).unwrap();
        for annotation in ["\"2023-11-14T22:13:20Z\"", "\"12\"", "\"team/root/.cache\"", "\"linux/amd64\""] {
            assert!(text.contains(annotation), "{annotation} is not in {text}");
        }
    }

    #[test]
    fn malformed_content_is_a_miss() {
        let read = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = image().manifest;
            change(&mut manifest);
            let read = CacheMountContent::read("team/root/.cache", &platform(), &manifest.to_bytes().unwrap());
            let Miss::Foreign(problem) = read.unwrap_err() else { panic!("a different miss") };
            problem
        };
        let set = |name: &'static str, value: &'static str| {
            read(&move |manifest| drop(manifest.annotations.insert(name.to_owned(), value.to_owned())))
        };
        assert_eq!(set(ID, "other"), "it is the content of a different cache mount");
        assert_eq!(set(PLATFORM, "linux/arm64"), "it is the content of a different cache mount");
        assert!(set(SIZE, "-1").contains("is not a number"));
        assert_eq!(read(&|manifest| manifest.layers.clear()), "it has 0 layers");
        assert!(read(&|manifest| manifest.layers[0].media_type = "text/plain".to_owned()).contains("text/plain"));
        assert_eq!(read(&|manifest| manifest.config.data = None), "its configuration is not embedded in the manifest");
        assert!(CacheMountContent::read("team/root/.cache", &platform(), &vec![b' '; MAX_DOCUMENT + 1]).is_err());
        assert!(CacheMountContent::read("team/root/.cache", &platform(), b"null").is_err());
    }
}
