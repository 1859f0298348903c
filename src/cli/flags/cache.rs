//! The flags of the layer cache and of cache mounts, and the requests that follow from them and the destinations.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgAction;

use super::cache_location::{CACHE_REPO, CacheLocationError, location};
use super::cache_mounts::{CacheMountFlagError, CacheMountFlags};
use crate::builder::{CacheRequest, CachesRequest};
use crate::cache::{Authenticator, CacheLocation, SecretFileError, WarmImages};
use crate::cli::values::{duration, non_empty};
use crate::image::Reference;

/// The name of the cache below the first destination; kaniko's.
const INFERRED: &str = "cache";
/// How long layers and base images are used; kaniko's.
pub(crate) const LIFETIME: &str = "336h0m0s";

/// How layers of earlier builds are used.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Cache")]
pub struct CacheFlags {
    /// Use layers of earlier builds instead of executing steps again, and store those of this one.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub cache: bool,

    /// Where layers are stored: a repository, or oci:DIRECTORY [default: the first destination's, with /cache].
    #[arg(long, value_name = "REPOSITORY")]
    pub cache_repo: Option<String>,

    /// A directory of base images that warmer has filled; read with --cache=true.
    #[arg(long, value_name = "DIRECTORY", default_value = "/cache")]
    pub cache_dir: PathBuf,

    /// How old a layer or a base image may be, such as 6h or 90m.
    #[arg(long, value_name = "DURATION", default_value = LIFETIME, value_parser = duration)]
    pub cache_ttl: Duration,

    /// Store layers of RUN in the cache.
    #[arg(long, action = ArgAction::Set, default_value_t = true)]
    pub cache_run_layers: bool,

    /// Store layers of COPY and ADD in the cache [default: only those of the image].
    ///
    /// Layers of other stages are usually faster to make than to fetch, and not needed if a later step is cached.
    #[arg(long, action = ArgAction::Set)]
    pub cache_copy_layers: Option<bool>,

    /// A file with a secret: cache entries that were written without it are not used.
    ///
    /// Those who can write to a cache decide what images contain. With a secret, every layer and every cache mount that
    /// this build stores carries an HMAC-SHA256 that only builds with the same secret can make. An entry with none, or
    /// a wrong one, is not used, and a warning says so. The secret has at least 16 bytes, such as from `openssl rand
    /// -hex 32`. It is read before anything runs, and reaches no command, log or cache.
    #[arg(long, value_name = "FILE")]
    pub cache_key_file: Option<PathBuf>,

    /// Use the cache, and store nothing in it.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub no_push_cache: bool,

    /// Take no step from the cache. That is the default without --cache.
    ///
    /// With --cache, every step is executed and its layer stored for later builds.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub no_cache: bool,

    /// How cache mounts are exchanged between machines.
    #[command(flatten)]
    pub mounts: CacheMountFlags,
}

/// Cache flags that do not go together, or a value that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheFlagError {
    /// The cache has no location. The message is kaniko's.
    #[error("if using cache with --no-push, specify cache repo with --cache-repo")]
    NoRepository,
    /// A layer of several steps.
    #[error("--cache does not go with --single-snapshot: a cache has a layer for each step")]
    SingleSnapshot,
    /// `--cache-repo`.
    #[error(transparent)]
    Location(#[from] CacheLocationError),
    /// A flag of cache mounts.
    #[error(transparent)]
    Mounts(#[from] CacheMountFlagError),
    /// The file of `--cache-key-file` holds no secret.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
}

impl CacheFlags {
    /// Returns the request of the flags.
    ///
    /// `destinations` are the image's names, and `push` says that it is pushed under them: the location of a cache
    /// follows from the first.
    ///
    /// # Errors
    /// A value is not valid, or the flags do not go together.
    pub(crate) fn request(
        self,
        single_snapshot: bool,
        destinations: &[Reference],
        push: bool,
    ) -> Result<CachesRequest, CacheFlagError> {
        let authenticator = authenticator(self.cache_key_file.as_deref())?;
        Ok(CachesRequest {
            mounts: self.mounts.request(!self.no_cache, !self.no_push_cache, authenticator.clone())?,
            warm_images: self.cache.then(|| WarmImages::new(&self.cache_dir, self.cache_ttl)),
            layers: self.layers(single_snapshot, destinations, push, authenticator)?,
        })
    }

    /// Returns the request of the layer cache; `None` without `--cache`.
    fn layers(
        self,
        single_snapshot: bool,
        destinations: &[Reference],
        push: bool,
        authenticator: Option<Authenticator>,
    ) -> Result<Option<CacheRequest>, CacheFlagError> {
        if !self.cache {
            return Ok(None);
        }
        if single_snapshot {
            return Err(CacheFlagError::SingleSnapshot);
        }
        let location = match (non_empty(self.cache_repo), destinations.first()) {
            (Some(text), _) => location(CACHE_REPO, text)?,
            (None, Some(first)) if push || self.no_push_cache => CacheLocation::Repository(inferred(first)),
            _ => return Err(CacheFlagError::NoRepository),
        };
        Ok(Some(CacheRequest {
            location,
            lifetime: self.cache_ttl,
            run_layers: self.cache_run_layers,
            copy_layers: self.cache_copy_layers,
            authenticator,
            read: !self.no_cache,
            write: !self.no_push_cache,
        }))
    }
}

/// Returns the secret of `--cache-key-file`, if it is given.
fn authenticator(file: Option<&Path>) -> Result<Option<Authenticator>, SecretFileError> {
    non_empty(file).map(Authenticator::open).transpose()
}

fn inferred(destination: &Reference) -> Reference {
    let repository = format!("{}/{INFERRED}", destination.repository);
    Reference { repository, ..destination.without_tag() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> CacheFlags {
        CacheFlags { cache: true, cache_ttl: Duration::from_secs(1), cache_run_layers: true, ..CacheFlags::default() }
    }

    fn at(text: &str, destinations: &[&str], push: bool) -> Result<String, String> {
        let repository = Some(text.to_owned());
        let destinations: Vec<Reference> =
            destinations.iter().map(|destination| Reference::parse(destination).unwrap()).collect();
        let request = CacheFlags { cache_repo: repository, ..flags() }.request(false, &destinations, push);
        request.map(|request| request.layers.unwrap().location.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_location_is_given_or_follows_from_the_destination() {
        assert_eq!(at("r.example:5000/c", &["r.example/app:1"], true).as_deref(), Ok("r.example:5000/c"));
        assert_eq!(at("oci:/var/cache", &[], false).as_deref(), Ok("oci:/var/cache"));
        assert_eq!(at("", &["r.example/a/app:1", "r.example/b"], true).as_deref(), Ok("r.example/a/app/cache"));
        let missing = "if using cache with --no-push, specify cache repo with --cache-repo";
        assert_eq!(at("", &["r.example/app:1"], false).unwrap_err(), missing);
        assert_eq!(at("", &[], false).unwrap_err(), missing);
        assert!(at("r.example/c:tag", &[], true).unwrap_err().contains("has a tag"));
        assert!(at("oci:", &[], true).unwrap_err().contains("names no directory"));
        assert!(at("r.example/UPPER", &[], true).unwrap_err().contains("cannot be used"));
    }

    #[test]
    fn without_the_flag_there_is_no_cache() {
        let flags = CacheFlags { cache: false, cache_repo: Some("oci:".to_owned()), ..flags() };
        assert_eq!(flags.request(true, &[], false).unwrap().layers, None);
    }
}
