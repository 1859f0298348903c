//! Fuzz target: manifests of a cache repository.

use std::time::Duration;

use super::layer_image::annotation;
use super::{BaseConfigurations, CacheEntry, CacheMountContent, Key, Record};
use crate::image::{Manifest, Platform};

/// Reads any bytes as an entry, a cache mount, a record and base configurations.
pub(crate) fn cache_entry(input: &[u8]) {
    let platform = Platform::new("linux", "amd64", None);
    drop(Record::read(input));
    drop(BaseConfigurations::read(input));
    drop(CacheMountContent::read("fuzzed", &platform, input));
    let Ok(manifest) = serde_json::from_slice::<Manifest>(input) else { return };
    for name in [super::entry::DEFINITION, super::entry::CONTENT] {
        let Ok(key) = annotation(&manifest, name).parse::<Key>() else { continue };
        if let Ok(entry) = CacheEntry::read(&key, input, Duration::MAX, 0) {
            assert!(entry.keys.iter().any(|own| *own == key));
        }
    }
}
