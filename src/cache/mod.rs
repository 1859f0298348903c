//! Caches data within a build and between builds.
//!
//! Within a build, [`BlobStore`] stores blobs from registries, each fetched once. Between builds:
//!
//! - [`LayerCache`] stores the layers of steps, in a repository or an OCI layout. Every step has a key, a digest of all
//!   its inputs ([`key_inputs`]); its layer is stored under that key as a small image ([`entry`]). [`lineage`] decides
//!   whether entries fit together, [`Authenticator`] whether they are trusted.
//! - [`record`] stores the inputs of the last build's steps, [`BaseConfigurations`] the configurations of its base
//!   images.
//! - [`cache_mount`] stores the content of cache mounts.
//! - [`WarmImages`] is a directory of base images that many builds read.

mod authentication;
mod bases;
pub mod cache_mount;
mod coherence;
pub mod entry;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod key;
pub mod key_inputs;
mod layer_cache;
mod layer_image;
mod layout;
pub mod lineage;
mod prune;
pub mod record;
mod retention;
mod store;
mod warm;

pub use authentication::{Authenticator, SecretFileError, UntrustedManifest};
pub use bases::BaseConfigurations;
pub use cache_mount::CacheMountContent;
pub use entry::{CacheEntry, Keys, Miss};
pub use error::LayerCacheError;
pub use key::{Key, KeyInputs};
pub use key_inputs::{Definitions, Files, Inputs, LayerFormat, SourceVersion};
pub use layer_cache::{CacheLocation, Clock, LayerCache, MAX_ATTEMPTS};
pub use lineage::Lineage;
pub use prune::{PruneRule, Pruned, prune};
pub use record::{Changes, Record};
pub use retention::Retention;
pub use store::BlobStore;
pub use warm::{WarmError, WarmImages, Warmed};
