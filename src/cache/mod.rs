//! What is kept within and between builds.
//!
//! Within a build: blobs that came from registries, each fetched once ([`BlobStore`]). Between builds: the layers of steps.
//! Every step has a key that says all it is made of ([`recipe`]), and its layer is kept under that key as a small image
//! ([`entry`]), in a registry's repository or in an OCI layout on this machine ([`LayerCache`]). Whether entries that
//! were found fit together is for [`lineage`] to say, and whether those who wrote them may be believed for [`Authenticator`]. Beside them lies what the last build was made of: its steps' ingredients
//! ([`record`]), and the configurations of its base images ([`BaseConfigurations`]). And base images, in a directory that many
//! builds read ([`WarmImages`]); and what commands keep in their caches ([`mount`]).

mod authentication;
mod bases;
mod coherence;
pub mod entry;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod key;
pub mod lineage;
pub mod mount;
mod prune;
pub mod recipe;
pub mod record;
mod retention;

mod layer_cache;
mod layer_image;
mod layout;
mod store;
mod warm;

pub use authentication::{Authenticator, SecretFileError, Unauthentic};
pub use bases::BaseConfigurations;
pub use entry::{Entry, Keys, Miss};
pub use key::{Key, Recipe};
pub use layer_cache::{CacheLocation, Clock, LayerCache, LayerCacheError, PATIENCE};
pub use lineage::Lineage;
pub use mount::MountedCache;
pub use prune::{Pruned, Rule, prune};
pub use recipe::{Definitions, Files, Inputs, LayerFormat, Version};
pub use record::{Changes, Record};
pub use retention::Retention;
pub use store::BlobStore;
pub use warm::{WarmError, WarmImages, Warmed};
