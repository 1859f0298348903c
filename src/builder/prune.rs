//! Cleaning a cache up, which needs of a build's machinery the network alone.

use std::time::Duration;

use crate::cache::{CacheLocation, Clock, Pruned, Rule, prune};
use crate::diag::progress::Progress;
use crate::registry::ClientConfig;

use super::error::BuildError;
use super::session::{connect, now};

/// What is to stay of which cache.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// The cache.
    pub location: CacheLocation,
    /// How old entries may be.
    pub lifetime: Duration,
    /// How many of the newest stay, if not all.
    pub keep: Option<usize>,
    /// How registries are reached.
    pub registries: ClientConfig,
}

/// Deletes from a cache what is not to stay.
///
/// # Errors
/// The cache cannot be reached, or does not delete.
pub fn prune_cache(request: &PruneRequest, progress: &Progress) -> Result<Pruned, BuildError> {
    let (runtime, client) = connect(&request.registries, progress)?;
    let clock = Clock { lifetime: request.lifetime, now: now() };
    Ok(runtime.block_on(prune(&client, &request.location, Rule { clock, keep: request.keep }))?)
}
