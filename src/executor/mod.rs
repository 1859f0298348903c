//! Runs a plan: each step's changes become a layer, and stages that do not depend on each other run in parallel.
//!
//! Every stage has a private root directory. Nothing is unpacked until a step needs the files. A stage that only
//! configures, and from which nothing is copied, never has a directory. A stage that runs no command has a
//! metadata-only rootfs. The executor does not access the network: layers of base images come through [`BaseLayers`],
//! and remote sources of `ADD` through [`RemoteSources`].

pub mod cache_mounts;
mod claims;
mod content_cache;
pub mod copy;
mod copy_step;
mod directories;
mod error;
mod execution;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod mounts;
mod resolution;
mod resources;
mod rootfs_need;
mod run;
mod schedule;
mod stage;
mod stages;
#[cfg(test)]
mod tests;
mod trees;
pub mod users;

pub use cache_mounts::SharedCacheMounts;
pub use content_cache::{ContentCache, files_of};
pub use copy::CopyError;
pub use directories::DirectoryError;
pub use error::{AgentError, CachedLayerError, ExecutorError, FetchError, StepError};
pub use resolution::{CacheHits, Disposition, Resolution, ResolveOptions, StageResolution, resolve};
pub use resources::{BaseLayers, BuiltLayer, FetchedFiles, LayerObserver, RemoteSources, Resources, SshAgents};
pub use rootfs_need::RootfsNeed;
pub use stages::execute;
pub use users::UserError;
