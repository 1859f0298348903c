//! What a command's cache (`RUN --mount=type=cache`) holds, as a small image in a repository or a layout.
//!
//! A cache is known by its id, which may be any text, and by the platform of the commands that use it. Its tag is a digest of
//! both: an id is no tag, and need not be told to who lists the repository. The newest content has the tag; who writes
//! last wins. As with the layers of steps the configuration is within the manifest, so that one request says everything, and
//! nothing is believed that cannot be checked: the manifest has to name the very id and platform that were asked for.

use crate::image::{AssembleError, Blob, Descriptor, Digest, Image, Platform, rfc3339};

use super::entry::Miss;
use super::key::Encoder;
use super::layer_image::{self, KeptLayer, annotation};

/// Comes first in every digest: caches of another format never meet.
const VERSION: &str = "crabwright cache mount 1";
/// What a tag starts with.
const TAG: &str = "mount-";
/// The annotations of the manifest: the id, with its namespace.
const ID: &str = "dev.crabwright.mount.id";
/// Whose commands use it.
const PLATFORM: &str = "dev.crabwright.mount.platform";
/// Bytes of the files in it.
const SIZE: &str = "dev.crabwright.mount.size";
/// When it was written (OCI image specification, annotations.md).
const CREATED: &str = "org.opencontainers.image.created";

/// The tag of a cache. `id` is with its namespace (`BUILDKIT_CACHE_MOUNT_NS`).
#[must_use]
pub fn tag(id: &str, platform: &Platform) -> String {
    let words = Encoder::new().text(VERSION).text(id).text(&platform.normalized().to_string());
    layer_image::tag(TAG, &words)
}

/// Whether a tag is that of a cache.
pub(super) fn is_tag(tag: &str) -> bool {
    layer_image::is_tag(TAG, tag)
}

/// The content of a cache, as the build that wrote it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMountContent {
    /// Its name, the namespace included.
    pub id: String,
    /// Whose commands use it.
    pub platform: Platform,
    /// Descriptor of the compressed archive.
    pub layer: Descriptor,
    /// Digest of the archive.
    pub diff_id: Digest,
    /// When it was written, in seconds since 1970.
    pub created: i64,
    /// Bytes of the files in it.
    pub size: u64,
}

impl CacheMountContent {
    /// The cache as an image, its archive at `blob`.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn to_image(&self, blob: Blob) -> Result<Image, AssembleError> {
        let annotations = [
            (ID, self.id.clone()),
            (PLATFORM, self.platform.normalized().to_string()),
            (SIZE, self.size.to_string()),
            (CREATED, rfc3339(self.created)),
        ];
        KeptLayer::to_image(&self.diff_id, self.created, &self.platform, blob, annotations)
    }

    /// Reads what stands under the tag of a cache.
    ///
    /// # Errors
    /// It is not the content of that cache.
    pub fn read(id: &str, platform: &Platform, manifest: &[u8]) -> Result<Self, Miss> {
        let foreign = Miss::Foreign;
        let manifest = layer_image::manifest(manifest).map_err(foreign)?;
        let annotation = |name: &str| annotation(&manifest, name);
        if annotation(ID) != id || annotation(PLATFORM) != platform.normalized().to_string() {
            return Err(foreign("it is not the content of this cache".to_owned()));
        }
        let size = annotation(SIZE).parse().map_err(|error| foreign(format!("{SIZE} is no number: {error}")))?;
        let KeptLayer { layer, diff_id, created } = KeptLayer::read(&manifest).map_err(foreign)?;
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

    /// Part of the format: another digest would lose every cache there is.
    #[test]
    fn a_tag_is_a_digest_of_id_and_platform() {
        let go = tag("go", &platform());
        assert_eq!(go, "mount-441094b51f926c45d720389c18da357b");
        assert_eq!(go, tag("go", &"amd64".parse().unwrap()), "another spelling of the platform");
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
    fn whatever_is_not_as_it_should_be_is_a_miss() {
        let read = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = image().manifest;
            change(&mut manifest);
            let read = CacheMountContent::read("team/root/.cache", &platform(), &manifest.to_bytes().unwrap());
            let Miss::Foreign(problem) = read.unwrap_err() else { panic!("another miss") };
            problem
        };
        let set = |name: &'static str, value: &'static str| {
            read(&move |manifest| drop(manifest.annotations.insert(name.to_owned(), value.to_owned())))
        };
        assert_eq!(set(ID, "other"), "it is not the content of this cache");
        assert_eq!(set(PLATFORM, "linux/arm64"), "it is not the content of this cache");
        assert!(set(SIZE, "-1").contains("is no number"));
        assert_eq!(read(&|manifest| manifest.layers.clear()), "it has 0 layers");
        assert!(read(&|manifest| manifest.layers[0].media_type = "text/plain".to_owned()).contains("text/plain"));
        assert_eq!(read(&|manifest| manifest.config.data = None), "its configuration is not within the manifest");
        assert!(CacheMountContent::read("team/root/.cache", &platform(), &vec![b' '; MAX_DOCUMENT + 1]).is_err());
        assert!(CacheMountContent::read("team/root/.cache", &platform(), b"null").is_err());
    }
}
