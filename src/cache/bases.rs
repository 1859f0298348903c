//! The configurations of the base images of the last build, so that the next one need not ask for them.
//!
//! They lie beside the entries under a tag that follows from what was asked for alone, so that they can be read before anything
//! is known of the bases, and byte for byte, since they have to have the digests that the manifests name: nobody uses them
//! unless they have. They are bounded, as registries bound manifests; what does not fit is fetched.

use std::collections::BTreeMap;

use crate::image::{AssembleError, BaseImage, Digest, Image, Platform};

use super::key::Encoder;
use super::layer_image;

/// The field of the configuration that holds them, by their digests. They are text, as all JSON is.
const FIELD: &str = "dev.crabwright.cache.bases";
/// What their tag starts with.
const TAG: &str = "bases-";
/// Bytes that the configuration of one image may have.
const MOST_OF_ONE: usize = 64 << 10;
/// Bytes that all of them together may have.
const MOST_OF_ALL: usize = 256 << 10;

/// Configurations by their digests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseConfigurations(BTreeMap<Digest, String>);

impl BaseConfigurations {
    /// Those of images that come from registries.
    pub fn new(images: &[BaseImage]) -> Self {
        let remote = images.iter().filter(|image| image.reference.layout_directory().is_none());
        let texts = remote.filter_map(|image| {
            let text = String::from_utf8(image.config_bytes.clone()).ok()?;
            Some((image.manifest.config.digest.clone(), text))
        });
        Self(bounded(texts.collect()))
    }

    /// The tag of those of the last build of a Dockerfile, by its name and by the target and the platform that are asked for.
    pub fn tag(dockerfile: &str, target: Option<&str>, platform: &Platform) -> String {
        let words = Encoder::new().text(dockerfile).optional(target).text(&platform.to_string());
        layer_image::tag(TAG, &words)
    }

    /// What is kept as the configuration with that digest. It may be something else.
    pub fn get(&self, digest: &Digest) -> Option<&[u8]> {
        self.0.get(digest).map(String::as_bytes)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of them are in `kept`, as they are here.
    pub fn are_in(&self, kept: &Self) -> bool {
        self.0.iter().all(|(digest, text)| kept.0.get(digest) == Some(text))
    }

    /// The configurations as an image without layers, made at `now` (seconds since 1970).
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn to_image(&self, platform: &Platform, now: i64) -> Result<Image, AssembleError> {
        layer_image::of_value(FIELD, &self.0, "base configurations", platform, now)
    }

    /// Reads the manifest of such an image; empty where it is something else.
    pub fn read(manifest: &[u8]) -> Self {
        Self(layer_image::value(FIELD, manifest).map(bounded).unwrap_or_default())
    }
}

/// Whether a tag is that of such configurations.
pub(super) fn is_tag(tag: &str) -> bool {
    layer_image::is_tag(TAG, tag)
}

/// So many as may be kept.
fn bounded(mut configurations: BTreeMap<Digest, String>) -> BTreeMap<Digest, String> {
    let mut room = MOST_OF_ALL;
    configurations.retain(|_, text| {
        let fits = text.len() <= room.min(MOST_OF_ONE);
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

    /// A base image that says no more than its configuration.
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
    fn configurations_are_kept_byte_for_byte() {
        // None of these would come out of a serializer like this.
        let texts = ["{ \"os\":\"linux\",\r\n\t\"os\" : \"\\u0041\u{e9}\"}\n", "{}", " {} "];
        let images = texts.map(|text| base(text.as_bytes()));
        let kept = read_back(&BaseConfigurations::new(&images));
        for (image, text) in images.iter().zip(texts) {
            assert_eq!(kept.get(&image.manifest.config.digest), Some(text.as_bytes()));
        }
        assert_eq!(kept.get(&Digest::sha256_of(b"other")), None);
    }

    #[test]
    fn anything_else_is_none() {
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
    fn what_does_not_fit_is_left_out() {
        let sized = |bytes: usize, first: u8| {
            let mut text = vec![b' '; bytes];
            text[0] = first;
            base(&text)
        };
        let kept = |images: &[BaseImage]| BaseConfigurations::new(images).0.len();
        assert_eq!(kept(&[sized(MOST_OF_ONE, b'0')]), 1);
        assert_eq!(kept(&[sized(MOST_OF_ONE + 1, b'0')]), 0);
        let many: Vec<BaseImage> = (b'0'..=b'8').map(|first| sized(MOST_OF_ONE, first)).collect();
        assert_eq!(kept(&many), MOST_OF_ALL / MOST_OF_ONE);
        assert_eq!(kept(&[base(b"\xff")]), 0, "no text");
        let in_layout = BaseImage { reference: Reference::parse_layout("/images").unwrap(), ..base(b"{}") };
        assert_eq!(kept(&[in_layout]), 0, "a file here costs nothing");
        // Neither is it taken from somebody else.
        let large = (Digest::sha256_of(b"large"), " ".repeat(MOST_OF_ONE + 1));
        let small = (Digest::sha256_of(b"small"), "{}".to_owned());
        assert_eq!(read_back(&BaseConfigurations(BTreeMap::from([large, small]))).0.len(), 1);
    }

    #[test]
    fn what_is_kept_counts_only_as_it_is() {
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
    fn a_tag_says_what_was_asked_for() {
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
