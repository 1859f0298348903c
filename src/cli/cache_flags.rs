//! The flags of the layer cache, and the cache request that follows from them and the destinations.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgAction;

use crate::builder::CacheRequest;
use crate::cache::{Authenticator, CacheLocation, SecretFileError};
use crate::dockerfile::parse_go_duration;
use crate::image::{Reference, ReferenceError};

/// The name of the cache below the first destination; kaniko's.
const INFERRED: &str = "cache";
/// How long entries live; kaniko's.
const LIFETIME: &str = "336h0m0s";
/// The flag for the cache's location.
pub(super) const CACHE_REPO: &str = "--cache-repo";
/// Prefix of a directory.
const LAYOUT: &str = "oci:";

/// How layers of earlier builds are used.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CacheFlags {
    /// Use layers of earlier builds instead of executing steps again, and store those of this one.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Cache")]
    pub cache: bool,

    /// Where layers are stored: a repository, or oci:DIRECTORY [default: the first destination's, with /cache].
    #[arg(long, value_name = "REPOSITORY", help_heading = "Cache")]
    pub cache_repo: Option<String>,

    /// A directory of base images that warmer has filled; read with --cache=true.
    #[arg(long, value_name = "DIRECTORY", default_value = "/cache", help_heading = "Cache")]
    pub cache_dir: PathBuf,

    /// How old a layer or a base image may be, such as 6h or 90m.
    #[arg(long, value_name = "DURATION", default_value = LIFETIME, value_parser = lifetime, help_heading = "Cache")]
    pub cache_ttl: Duration,

    /// Store layers of RUN in the cache.
    #[arg(long, action = ArgAction::Set, default_value_t = true, help_heading = "Cache")]
    pub cache_run_layers: bool,

    /// Store layers of COPY and ADD in the cache [default: only those of the image].
    ///
    /// Layers of other stages are usually faster to make than to fetch, and not needed if a later step is cached.
    #[arg(long, action = ArgAction::Set, help_heading = "Cache")]
    pub cache_copy_layers: Option<bool>,

    /// A file with a secret: cache entries that were written without it are not used.
    ///
    /// Those who can write to a cache decide what images contain. With a secret, every layer and every cache mount that
    /// this build stores carries an HMAC-SHA256 that only builds with the same secret can make. An entry with none, or
    /// a wrong one, is not used, and a warning says so. The secret has at least 16 bytes, such as from `openssl rand
    /// -hex 32`. It is read before anything runs, and reaches no command, log or cache.
    #[arg(long, value_name = "FILE", help_heading = "Cache")]
    pub cache_key_file: Option<PathBuf>,

    /// Use the cache, and store nothing in it.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Cache")]
    pub no_push_cache: bool,
}

/// Why cache flags are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheFlagError {
    /// The cache has no location. The message is kaniko's.
    #[error("if using cache with --no-push, specify cache repo with --cache-repo")]
    NoRepository,
    /// A layer of several steps.
    #[error("--cache does not go with --single-snapshot: a cache keeps a layer for each step")]
    SingleSnapshot,
    /// The location is not a repository.
    #[error("{flag} {text:?} cannot be used")]
    Repository {
        /// Where it was given.
        flag: &'static str,
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// The location names a single image.
    #[error(
        "{flag} {text:?} has a tag or a digest: it names a repository, and everything kept has a tag of its own there"
    )]
    Tagged {
        /// Where it was given.
        flag: &'static str,
        /// As given.
        text: String,
    },
    /// A limit without a location.
    #[error("--cache-mounts-limit has no effect without --cache-mounts-repo: say where the caches are kept")]
    LimitWithoutPlace,
    /// The file of `--cache-key-file` holds no secret.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// The directory has no name.
    #[error("{flag} {text:?} names no directory")]
    NoDirectory {
        /// Where it was given.
        flag: &'static str,
        /// As given.
        text: String,
    },
}

/// Returns the request of the flags; none without `--cache`. `push`: the image is pushed to the destinations.
pub(super) fn cache_request(
    flags: CacheFlags,
    no_cache: bool,
    single_snapshot: bool,
    destinations: &[Reference],
    push: bool,
    authenticator: Option<Authenticator>,
) -> Result<Option<CacheRequest>, CacheFlagError> {
    if !flags.cache {
        return Ok(None);
    }
    if single_snapshot {
        return Err(CacheFlagError::SingleSnapshot);
    }
    let location = match (flags.cache_repo.filter(|text| !text.is_empty()), destinations.first()) {
        (Some(text), _) => location(CACHE_REPO, text)?,
        (None, Some(first)) if push || flags.no_push_cache => CacheLocation::Repository(inferred(first)),
        _ => return Err(CacheFlagError::NoRepository),
    };
    Ok(Some(CacheRequest {
        location,
        lifetime: flags.cache_ttl,
        run_layers: flags.cache_run_layers,
        copy_layers: flags.cache_copy_layers,
        authenticator,
        read: !no_cache,
        write: !flags.no_push_cache,
    }))
}

/// The secret of `--cache-key-file`, if it is given.
pub(super) fn authenticator(file: Option<&Path>) -> Result<Option<Authenticator>, CacheFlagError> {
    let file = file.filter(|file| !file.as_os_str().is_empty());
    Ok(file.map(Authenticator::open).transpose()?)
}

/// Parses `--cache-repo`, or another flag that names a cache location.
pub(super) fn location(flag: &'static str, text: String) -> Result<CacheLocation, CacheFlagError> {
    if let Some(directory) = text.strip_prefix(LAYOUT) {
        if directory.is_empty() {
            return Err(CacheFlagError::NoDirectory { flag, text });
        }
        return Ok(CacheLocation::Directory(PathBuf::from(directory)));
    }
    match Reference::parse(&text) {
        Ok(reference) if reference.tag.is_some() || reference.digest.is_some() => {
            Err(CacheFlagError::Tagged { flag, text })
        }
        Ok(reference) => Ok(CacheLocation::Repository(reference)),
        Err(source) => Err(CacheFlagError::Repository { flag, text, source }),
    }
}

fn inferred(destination: &Reference) -> Reference {
    let repository = format!("{}/{INFERRED}", destination.repository);
    Reference { repository, ..destination.without_tag() }
}

/// A duration in Go's notation that is not negative.
pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    let nanoseconds = parse_go_duration(text)?;
    u64::try_from(nanoseconds).map(Duration::from_nanos).map_err(|_negative| "it is negative".to_owned())
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
        let request =
            cache_request(CacheFlags { cache_repo: repository, ..flags() }, false, false, &destinations, push, None);
        request.map(|request| request.unwrap().location.to_string()).map_err(|error| error.to_string())
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
        assert_eq!(cache_request(flags, false, true, &[], false, None), Ok(None));
    }

    #[test]
    fn lifetimes_are_go_durations() {
        assert_eq!(lifetime("336h0m0s"), Ok(Duration::from_secs(336 * 3600)));
        assert_eq!(lifetime("0"), Ok(Duration::ZERO));
        assert!(lifetime("-1h").is_err());
        assert!(lifetime("2 days").is_err());
    }
}
