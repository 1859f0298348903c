//! `crabwright cache prune`: deletes expired entries from a cache.

use std::time::Duration;

use clap::Args;

use super::env::Env;
use super::flags::cache::{CacheFlagError, LIFETIME};
use super::flags::cache_location::{CACHE_REPO, location};
use super::flags::log::LogFlags;
use super::flags::registry::RegistryFlags;
use super::request::RequestError;
use super::values::duration;
use crate::builder::PruneRequest;
use crate::cache::Pruned;
use crate::diag::progress::Bytes;

/// Delete expired layers from a cache.
///
/// Only entries that crabwright wrote are considered. A registry reclaims the space when it collects garbage.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "crabwright cache prune --cache-repo <REPOSITORY> [FLAGS]")]
pub struct PruneFlags {
    /// Where layers are stored: a repository, or oci:DIRECTORY.
    #[arg(long, value_name = "REPOSITORY")]
    pub cache_repo: String,

    /// How old a layer may be, such as 6h or 90m.
    #[arg(long, value_name = "DURATION", default_value = LIFETIME, value_parser = duration)]
    pub cache_ttl: Duration,

    /// Of the layers that have not expired, keep only this many of the newest.
    #[arg(long, value_name = "NUMBER")]
    pub keep: Option<usize>,

    /// How registries are reached.
    #[command(flatten)]
    pub registries: RegistryFlags,

    /// The log and the progress output.
    #[command(flatten)]
    pub log: LogFlags,
}

/// Returns the request of the flags.
///
/// # Errors
/// A value is not valid.
pub fn prune_request(flags: PruneFlags, env: Env<'_>) -> Result<PruneRequest, RequestError> {
    if flags.cache_repo.is_empty() {
        return Err(CacheFlagError::NoRepository.into());
    }
    let location = location(CACHE_REPO, flags.cache_repo).map_err(CacheFlagError::from)?;
    let mut registries = flags.registries.config(env)?;
    registries.named_registries.extend(location.repository().map(|name| name.registry.clone()));
    Ok(PruneRequest { location, lifetime: flags.cache_ttl, keep: flags.keep, registries })
}

/// Returns the report for the user.
pub fn prune_report(pruned: &Pruned) -> String {
    let Pruned { kept, deleted, freed } = *pruned;
    let freed = if freed == 0 { String::new() } else { format!(", {} freed", Bytes(freed)) };
    format!("{deleted} deleted, {kept} kept{freed}\n")
}
