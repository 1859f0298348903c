//! Stores the layer of one step as a small image whose tag is the step's key.
//!
//! Any registry can store an image, and any tool can inspect it. The configuration is embedded in the manifest (the
//! descriptor's `data`, OCI image specification), so that a lookup is one request. Nothing in an entry is trusted:
//! every document is verified against its digest, and the manifest must name the key of its tag. A missing, unknown or
//! expired part makes it a miss with a reason.

use std::fmt;
use std::time::Duration;

use crate::image::{AssembleError, Blob, Descriptor, Digest, Image, Platform};

use super::authentication::UntrustedManifest;
use super::key::Key;
use super::layer_image::{self, StoredLayer, annotation};
use super::lineage::Lineage;

/// The annotations of an entry's manifest: the keys under which it may be found.
pub(super) const DEFINITION: &str = "dev.crabwright.cache.definition";
pub(super) const CONTENT: &str = "dev.crabwright.cache.content";
/// The annotations with the lineage before and after the step.
const BEFORE: &str = "dev.crabwright.cache.before";
const AFTER: &str = "dev.crabwright.cache.after";

/// A layer that an earlier build stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// The keys under which builds find it.
    pub keys: Keys,
    /// The descriptor of the compressed layer.
    pub layer: Descriptor,
    /// The digest of the uncompressed layer.
    pub diff_id: Digest,
    /// The time at which the layer was made, in seconds since 1970.
    pub created: i64,
    /// The lineage of the files that the step started from.
    pub before: Lineage,
    /// The lineage after the step.
    pub after: Lineage,
}

/// The keys of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// The definition key: known before anything runs.
    pub definition: Option<Key>,
    /// The content key: needs the files that the step starts from and reads.
    pub content: Option<Key>,
}

impl Keys {
    /// Returns the keys that are known.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.definition.iter().chain(&self.content)
    }
}

/// Why a lookup has no usable result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// The tag does not exist.
    Absent,
    /// The manifest is not an entry, or one of a different step.
    Foreign(String),
    /// The layer is too old.
    Expired {
        /// The age of the layer.
        age: Duration,
    },
    /// The blob of the layer is missing.
    NoLayer(Digest),
    /// The entry was written without the cache's secret.
    Unauthentic(UntrustedManifest),
    /// The cache cannot be read.
    Unreadable(String),
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no such entry"),
            Self::Foreign(problem) => write!(f, "the entry cannot be used: {problem}"),
            Self::Expired { age } => {
                write!(f, "the entry is {} old", humantime::format_duration(Duration::from_secs(age.as_secs())))
            }
            Self::Unauthentic(problem) => write!(f, "the entry cannot be used: {problem}"),
            Self::NoLayer(digest) => write!(f, "the entry's layer {digest} is missing"),
            Self::Unreadable(problem) => f.write_str(problem),
        }
    }
}

impl CacheEntry {
    /// Returns the entry as an image whose layer is `blob`.
    ///
    /// # Errors
    /// The image cannot be written as JSON.
    pub fn to_image(&self, blob: Blob, platform: &Platform) -> Result<Image, AssembleError> {
        let annotations = [
            (DEFINITION, self.keys.definition.as_ref().map(ToString::to_string)),
            (CONTENT, self.keys.content.as_ref().map(ToString::to_string)),
            (BEFORE, Some(self.before.to_string())),
            (AFTER, Some(self.after.to_string())),
        ];
        let present = annotations.into_iter().filter_map(|(name, value)| Some((name, value?)));
        StoredLayer::to_image(&self.diff_id, self.created, platform, blob, present)
    }

    /// Reads the manifest under `key` at the time `now` (seconds since 1970).
    ///
    /// # Errors
    /// The manifest is not an entry with that key, or the entry is too old.
    pub fn read(key: &Key, manifest: &[u8], lifetime: Duration, now: i64) -> Result<Self, Miss> {
        let foreign = Miss::Foreign;
        let manifest = layer_image::manifest(manifest).map_err(foreign)?;
        let annotation = |name: &str| annotation(&manifest, name);
        let keys = Keys { definition: annotation(DEFINITION).parse().ok(), content: annotation(CONTENT).parse().ok() };
        if !keys.iter().any(|own| own == key) {
            return Err(foreign("it is the entry of a different key".to_owned()));
        }
        let lineage =
            |name: &str| annotation(name).parse().map_err(|error| foreign(format!("{name} is not a lineage: {error}")));
        let (before, after) = (lineage(BEFORE)?, lineage(AFTER)?);
        let StoredLayer { layer, diff_id, created } = StoredLayer::read(&manifest).map_err(foreign)?;
        let age = Duration::from_secs(u64::try_from(now.saturating_sub(created)).unwrap_or_default());
        if age > lifetime {
            return Err(Miss::Expired { age });
        }
        Ok(Self { keys, layer, diff_id, created, before, after })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use crate::image::{BlobSource, Manifest, media_type};

    use super::super::key::{Encoder, KeyInputs, KeyKind};
    use super::super::layer_image::MAX_DOCUMENT;
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const MADE: i64 = 1_700_000_000;

    fn key(name: &str) -> Key {
        let mut key_inputs = KeyInputs::new(KeyKind::Definition);
        key_inputs.add(name, &Encoder::new());
        key_inputs.key()
    }

    fn entry() -> CacheEntry {
        CacheEntry {
            keys: Keys { definition: Some(key("d")), content: Some(key("c")) },
            layer: Descriptor::of(media_type::OCI_LAYER_GZIP, b"layer"),
            diff_id: Digest::sha256_of(b"tar"),
            created: MADE,
            before: Lineage::start(),
            after: Lineage::start().after_event(&Digest::sha256_of(b"tar")),
        }
    }

    fn image() -> Image {
        let blob = Blob { descriptor: entry().layer, source: BlobSource::Bytes(b"layer".to_vec()) };
        entry().to_image(blob, &"linux/arm64".parse().unwrap()).unwrap()
    }

    #[test]
    fn an_entry_is_found_under_both_its_keys() {
        for name in ["d", "c"] {
            assert_eq!(CacheEntry::read(&key(name), &image().manifest_bytes, DAY, MADE + 60), Ok(entry()));
        }
        assert_eq!(image().config.architecture, "arm64");
    }

    #[test]
    fn malformed_entries_are_misses() {
        let read = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = image().manifest;
            change(&mut manifest);
            CacheEntry::read(&key("d"), &manifest.to_bytes().unwrap(), DAY, MADE).unwrap_err()
        };
        let foreign = |problem: &str| Miss::Foreign(problem.to_owned());
        assert_eq!(read(&|manifest| manifest.annotations.clear()), foreign("it is the entry of a different key"));
        assert_eq!(
            read(&|manifest| drop(manifest.annotations.insert(DEFINITION.to_owned(), key("x").to_string()))),
            foreign("it is the entry of a different key")
        );
        assert_eq!(read(&|manifest| manifest.layers.clear()), foreign("it has 0 layers"));
        assert_eq!(read(&|manifest| manifest.layers.push(manifest.layers[0].clone())), foreign("it has 2 layers"));
        assert_eq!(
            read(&|manifest| manifest.layers[0].media_type = "text/plain".to_owned()),
            foreign("its layer has the media type \"text/plain\"")
        );
        assert_eq!(
            read(&|manifest| manifest.config.data = None),
            foreign("its configuration is not embedded in the manifest")
        );
        assert_eq!(
            read(&|manifest| manifest.config.data = Some(STANDARD.encode("{}"))),
            foreign("its configuration does not match its digest")
        );
        assert_eq!(read(&|manifest| manifest.config = embedded(b"{}")), foreign("its configuration has 0 layers"));
        let undated = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, Digest::sha256_of(b"t"));
        assert_eq!(
            read(&|manifest| manifest.config = embedded(undated.as_bytes())),
            foreign("it has no creation time")
        );
        assert!(matches!(read(&|manifest| drop(manifest.annotations.remove(BEFORE))), Miss::Foreign(_)));
        for text in ["", "null", "[]", "{}", "{\"schemaVersion\":2"] {
            assert!(matches!(CacheEntry::read(&key("d"), text.as_bytes(), DAY, MADE), Err(Miss::Foreign(_))), "{text}");
        }
        let large = vec![b' '; MAX_DOCUMENT + 1];
        assert!(matches!(CacheEntry::read(&key("d"), &large, DAY, MADE), Err(Miss::Foreign(_))));
    }

    fn embedded(config: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type::OCI_CONFIG, config);
        Descriptor { data: Some(STANDARD.encode(config)), ..descriptor }
    }

    #[test]
    fn entries_expire() {
        let read = |now| CacheEntry::read(&key("d"), &image().manifest_bytes, DAY, now);
        assert!(read(MADE + 24 * 60 * 60).is_ok());
        let expired = read(MADE + 24 * 60 * 60 + 1).unwrap_err();
        assert_eq!(expired.to_string(), "the entry is 1day 1s old");
        assert!(read(MADE - 60).is_ok(), "the clocks of machines differ");
    }
}
