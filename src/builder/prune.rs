//! Deletes entries of a cache (`crabwright cache prune`).

use std::time::Duration;

use crate::cache::{CacheLocation, Clock, PruneRule, Pruned, prune};
use crate::diag::progress::Progress;
use crate::registry::ClientConfig;

use super::error::BuildError;
use super::session::{connect, now};

/// The entries of a cache that are kept.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// The cache.
    pub location: CacheLocation,
    /// The maximum age of entries.
    pub lifetime: Duration,
    /// The number of newest entries that are kept; `None` keeps all.
    pub keep: Option<usize>,
    /// The access to registries.
    pub registries: ClientConfig,
}

/// Deletes the other entries of a cache.
///
/// # Errors
/// The cache cannot be reached, or does not allow deletion.
pub fn prune_cache(request: &PruneRequest, progress: &Progress) -> Result<Pruned, BuildError> {
    let (runtime, client) = connect(&request.registries, progress)?;
    let clock = Clock { lifetime: request.lifetime, now: now() };
    Ok(runtime.block_on(prune(&client, &request.location, PruneRule { clock, keep: request.keep }))?)
}
