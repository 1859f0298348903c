//! `crabwright cache prune`: deletes expired entries from a cache.

use std::ffi::OsString;
use std::time::Duration;

use clap::{FromArgMatches as _, Parser};

use super::cache_flags::{CACHE_REPO, CacheFlagError, lifetime, location};
use super::flags::with_booleans;
use super::log_flags::LogFlags;
use super::registry_flags::{RegistryFlags, client_config};
use super::request::RequestError;
use crate::builder::PruneRequest;
use crate::cache::Pruned;
use crate::diag::progress::Bytes;

/// Deletes expired layers from a cache.
///
/// Only entries that crabwright wrote are considered. A registry reclaims the space when it collects garbage.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "crabwright cache prune",
    max_term_width = 100,
    override_usage = "crabwright cache prune --cache-repo <REPOSITORY> [FLAGS]"
)]
pub struct PruneFlags {
    /// Where layers are stored: a repository, or oci:DIRECTORY.
    #[arg(long, value_name = "REPOSITORY")]
    pub cache_repo: String,

    /// How old a layer may be, such as 6h or 90m.
    #[arg(long, value_name = "DURATION", default_value = "336h0m0s", value_parser = lifetime)]
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

/// The parser.
pub(super) fn command() -> clap::Command {
    use clap::CommandFactory as _;
    with_booleans(PruneFlags::command())
}

/// Reads the command line of `cache prune`, which starts with the program's name.
pub(super) fn parse(command: &mut clap::Command, arguments: Vec<OsString>) -> Result<PruneFlags, clap::Error> {
    command.try_get_matches_from_mut(arguments).and_then(|matches| PruneFlags::from_arg_matches(&matches))
}

/// Returns the request of the flags.
///
/// # Errors
/// A value is not valid.
pub fn prune_request(
    flags: PruneFlags,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<PruneRequest, RequestError> {
    if flags.cache_repo.is_empty() {
        return Err(CacheFlagError::NoRepository.into());
    }
    let location = location(CACHE_REPO, flags.cache_repo)?;
    let mut registries = client_config(flags.registries, environment)?;
    registries.named_registries.extend(location.repository().map(|name| name.registry.clone()));
    Ok(PruneRequest { location, lifetime: flags.cache_ttl, keep: flags.keep, registries })
}

/// Returns the report for the user.
pub fn prune_report(pruned: &Pruned) -> String {
    let Pruned { kept, deleted, freed } = *pruned;
    let freed = if freed == 0 { String::new() } else { format!(", {} freed", Bytes(freed)) };
    format!("{deleted} deleted, {kept} kept{freed}\n")
}
