//! What is kept within and between builds.
//!
//! Within a build: blobs that came from registries, each fetched once ([`BlobStore`]). Between builds: the layers of steps.
//! Every step has a key that says all it is made of ([`key_inputs`]), and its layer is kept under that key as a small image
//! ([`entry`]), in a registry's repository or in an OCI layout on this machine ([`LayerCache`]). Whether entries that
//! were found fit together is for [`lineage`] to say, and whether those who wrote them may be believed for [`Authenticator`]. Beside them lies what the last build was made of: its steps' ingredients
//! ([`record`]), and the configurations of its base images ([`BaseConfigurations`]). And base images, in a directory that many
//! builds read ([`WarmImages`]); and what commands keep in their caches ([`mount`]).

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

pub use authentication::{Authenticator, SecretFileError, Unauthentic};
pub use bases::BaseConfigurations;
pub use cache_mount::CacheMountContent;
pub use entry::{Entry, Keys, Miss};
pub use error::LayerCacheError;
pub use key::{Key, KeyInputs};
pub use key_inputs::{Definitions, Files, Inputs, LayerFormat, Version};
pub use layer_cache::{CacheLocation, Clock, LayerCache, PATIENCE};
pub use lineage::Lineage;
pub use prune::{Pruned, Rule, prune};
pub use record::{Changes, Record};
pub use retention::Retention;
pub use store::BlobStore;
pub use warm::{WarmError, WarmImages, Warmed};
