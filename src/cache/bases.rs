//! Stores the configurations of the last build's base images, so that the next build does not fetch them.
//!
//! They are stored next to the entries. The tag depends only on the request, so it is known before the bases are
//! resolved. They are stored byte for byte, and used only if they have the digest that the manifest names. Their size
//! is limited because registries limit manifests; configurations that do not fit are fetched.

use std::collections::BTreeMap;

use crate::image::{AssembleError, BaseImage, Digest, Image, Platform};

use super::key::Encoder;
use super::layer_image;

/// The configuration's field that holds them by digest. They are text, as all JSON is.
const FIELD: &str = "dev.crabwright.cache.bases";
/// The prefix of their tag.
const TAG: &str = "bases-";
/// The most bytes of one image's configuration.
const MAX_EACH: usize = 64 << 10;
/// The most bytes of all of them together.
const MAX_TOTAL: usize = 256 << 10;

/// Configurations by digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseConfigurations(BTreeMap<Digest, String>);

impl BaseConfigurations {
    /// Collects the configurations of images from registries.
    pub fn new(images: &[BaseImage]) -> Self {
        let remote = images.iter().filter(|image| image.reference.layout_directory().is_none());
        let texts = remote.filter_map(|image| {
            let text = String::from_utf8(image.config_bytes.clone()).ok()?;
            Some((image.manifest.config.digest.clone(), text))
        });
        Self(bounded(texts.collect()))
    }

    /// Returns the tag for the name of a Dockerfile, the requested target and the platform.
    pub fn tag(dockerfile: &str, target: Option<&str>, platform: &Platform) -> String {
        let words = Encoder::new().text(dockerfile).optional(target).text(&platform.to_string());
        layer_image::tag(TAG, &words)
    }

    /// Returns the stored bytes for a digest. The caller verifies them.
    pub fn get(&self, digest: &Digest) -> Option<&[u8]> {
        self.0.get(digest).map(String::as_bytes)
    }

    /// Reports whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reports whether all of them are in `stored` with the same bytes.
    pub fn are_in(&self, stored: &Self) -> bool {
        self.0.iter().all(|(digest, text)| stored.0.get(digest) == Some(text))
    }

    /// Returns the configurations as an image without layers, made at `now` (seconds since 1970).
    ///
    /// # Errors
    /// The image cannot be written as JSON.
    pub fn to_image(&self, platform: &Platform, now: i64) -> Result<Image, AssembleError> {
        layer_image::of_value(FIELD, &self.0, "base configurations", platform, now)
    }

    /// Reads the manifest of such an image. Anything else has no configurations.
    pub fn read(manifest: &[u8]) -> Self {
        Self(layer_image::value(FIELD, manifest).map(bounded).unwrap_or_default())
    }
}

/// Reports whether a tag is one of configurations.
pub(super) fn is_tag(tag: &str) -> bool {
    layer_image::is_tag(TAG, tag)
}

/// Drops configurations that exceed the limits.
fn bounded(mut configurations: BTreeMap<Digest, String>) -> BTreeMap<Digest, String> {
    let mut room = MAX_TOTAL;
    configurations.retain(|_, text| {
        let fits = text.len() <= room.min(MAX_EACH);
        if fits {
            room -= text.len();
        }
        fits
    });
    configurations
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::image::{Descriptor, ImageConfig, Manifest, Reference, media_type};

    fn platform() -> Platform {
        "linux/amd64".parse().unwrap()
    }

    /// A base image of which only the configuration matters.
    fn base(config_bytes: &[u8]) -> BaseImage {
        BaseImage {
            reference: Reference::parse("r.example/a:1").unwrap(),
            digest: Digest::sha256_of(b"manifest"),
            manifest: Manifest::oci(Descriptor::of(media_type::OCI_CONFIG, config_bytes), Vec::new()),
            config: ImageConfig::default(),
            config_bytes: config_bytes.to_vec(),
            layers: Vec::new(),
        }
    }

    fn read_back(configurations: &BaseConfigurations) -> BaseConfigurations {
        BaseConfigurations::read(&configurations.to_image(&platform(), 0).unwrap().manifest_bytes)
    }

    #[test]
    fn configurations_are_stored_byte_for_byte() {
        // A serializer would write none of these in this form.
        let texts = ["{ \"os\":\"linux\",\r\n\t\"os\" : \"\\u0041\u{e9}\"}\n", "{}", " {} "];
        let images = texts.map(|text| base(text.as_bytes()));
        let stored = read_back(&BaseConfigurations::new(&images));
        for (image, text) in images.iter().zip(texts) {
            assert_eq!(stored.get(&image.manifest.config.digest), Some(text.as_bytes()));
        }
        assert_eq!(stored.get(&Digest::sha256_of(b"other")), None);
    }

    #[test]
    fn other_manifests_have_no_configurations() {
        for text in ["", "{}", "null", "{\"config\":{}}"] {
            assert!(BaseConfigurations::read(text.as_bytes()).is_empty(), "{text}");
        }
        for value in ["null", "[]", r#"{"sha256:0":"{}"}"#, r#"{"sha256:0":1}"#] {
            let mut config = layer_image::config(&platform(), 0);
            config.extra.insert(FIELD.to_owned(), serde_json::from_str(value).unwrap());
            let image = layer_image::assemble(config, Vec::new(), []).unwrap();
            assert!(BaseConfigurations::read(&image.manifest_bytes).is_empty(), "{value}");
        }
    }

    #[test]
    fn configurations_that_do_not_fit_are_left_out() {
        let sized = |bytes: usize, first: u8| {
            let mut text = vec![b' '; bytes];
            text[0] = first;
            base(&text)
        };
        let stored = |images: &[BaseImage]| BaseConfigurations::new(images).0.len();
        assert_eq!(stored(&[sized(MAX_EACH, b'0')]), 1);
        assert_eq!(stored(&[sized(MAX_EACH + 1, b'0')]), 0);
        let many: Vec<BaseImage> = (b'0'..=b'8').map(|first| sized(MAX_EACH, first)).collect();
        assert_eq!(stored(&many), MAX_TOTAL / MAX_EACH);
        assert_eq!(stored(&[base(b"\xff")]), 0, "not text");
        let in_layout = BaseImage { reference: Reference::parse_layout("/images").unwrap(), ..base(b"{}") };
        assert_eq!(stored(&[in_layout]), 0, "a local file need not be fetched");
        // A larger one is not read from a cache, either.
        let large = (Digest::sha256_of(b"large"), " ".repeat(MAX_EACH + 1));
        let small = (Digest::sha256_of(b"small"), "{}".to_owned());
        assert_eq!(read_back(&BaseConfigurations(BTreeMap::from([large, small]))).0.len(), 1);
    }

    #[test]
    fn stored_configurations_must_be_identical() {
        let (one, other) = (base(b"{}"), base(b"{ }"));
        let both = BaseConfigurations::new(&[one.clone(), other]);
        let only = BaseConfigurations::new(&[one]);
        assert!(only.are_in(&both));
        assert!(!both.are_in(&only));
        let mut forged = only.clone();
        forged.0.values_mut().for_each(|text| text.push(' '));
        assert!(!only.are_in(&forged));
    }

    #[test]
    fn tags_depend_on_the_request() {
        let tags = [
            BaseConfigurations::tag("Dockerfile", None, &platform()),
            BaseConfigurations::tag("Dockerfile", Some(""), &platform()),
            BaseConfigurations::tag("Dockerfile", Some("build"), &platform()),
            BaseConfigurations::tag("Dockerfile", None, &"linux/arm64".parse().unwrap()),
            BaseConfigurations::tag("Dockerfile.build", None, &platform()),
        ];
        assert!(tags.iter().all(|tag| is_tag(tag)), "{tags:?}");
        assert_eq!(tags.iter().collect::<BTreeSet<_>>().len(), tags.len(), "{tags:?}");
    }
}
