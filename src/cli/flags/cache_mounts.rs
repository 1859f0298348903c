//! The flags of cache mounts (`RUN --mount=type=cache`).

use super::cache_location::{CacheLocationError, location};
use crate::builder::CacheMountsRequest;
use crate::cache::Authenticator;
use crate::cli::values::{non_empty, size};

/// Bytes of a cache mount: packages of large projects fit, and moving more costs as much as it saves.
const DEFAULT_LIMIT: u64 = 2 << 30;

/// How cache mounts are exchanged between machines.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Cache")]
pub struct CacheMountFlags {
    /// Where RUN --mount=type=cache directories are stored between machines: a repository, or oci:DIRECTORY.
    ///
    /// An empty directory is imported before its first command; one that commands changed is exported after the build.
    /// --no-cache imports nothing, --no-push-cache exports nothing. Everything that a command writes to such a directory
    /// can be read by those who can read the repository.
    #[arg(long, value_name = "REPOSITORY")]
    pub cache_mounts_repo: Option<String>,

    /// The largest cache mount that is exported or imported, such as 500MiB [default: 2GiB].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub cache_mounts_limit: Option<u64>,
}

/// Flags of cache mounts that do not go together, or a value that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheMountFlagError {
    /// A limit without a location.
    #[error("--cache-mounts-limit has no effect without --cache-mounts-repo: say where cache mounts are stored")]
    LimitWithoutLocation,
    /// `--cache-mounts-repo`.
    #[error(transparent)]
    Location(#[from] CacheLocationError),
}

impl CacheMountFlags {
    /// Returns the request of the flags; none without a location. `read` and `write`: whether caches are imported,
    /// exported.
    ///
    /// # Errors
    /// The location is not valid, or there is a limit and no location.
    pub(crate) fn request(
        &self,
        read: bool,
        write: bool,
        authenticator: Option<Authenticator>,
    ) -> Result<Option<CacheMountsRequest>, CacheMountFlagError> {
        if self.cache_mounts_limit.is_some() && self.cache_mounts_repo.is_none() {
            return Err(CacheMountFlagError::LimitWithoutLocation);
        }
        let Some(text) = non_empty(self.cache_mounts_repo.clone()) else { return Ok(None) };
        let location = location("--cache-mounts-repo", text)?;
        let limit = self.cache_mounts_limit.unwrap_or(DEFAULT_LIMIT);
        Ok(Some(CacheMountsRequest { location, limit, authenticator, read, write }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Option<String>, String> {
        let flags = CacheMountFlags { cache_mounts_repo: Some(text.to_owned()), cache_mounts_limit: Some(7) };
        let request = flags.request(true, false, None).map_err(|error| error.to_string())?;
        Ok(request.map(|request| {
            assert_eq!((request.limit, request.read, request.write), (7, true, false));
            request.location.to_string()
        }))
    }

    #[test]
    fn the_location_is_a_repository_or_a_directory() {
        assert_eq!(request("r.example:5000/m"), Ok(Some("r.example:5000/m".to_owned())));
        assert_eq!(request("oci:/var/mounts"), Ok(Some("oci:/var/mounts".to_owned())));
        assert_eq!(request(""), Ok(None));
        assert_eq!(CacheMountFlags::default().request(true, true, None), Ok(None));
        let error = request("r.example/m:tag").unwrap_err();
        assert!(error.starts_with("--cache-mounts-repo \"r.example/m:tag\" has a tag"), "{error}");
        assert_eq!(request("oci:").unwrap_err(), "--cache-mounts-repo \"oci:\" names no directory");
        assert!(request("r.example/UPPER").unwrap_err().contains("cannot be used"));
        let alone = CacheMountFlags { cache_mounts_limit: Some(7), ..CacheMountFlags::default() };
        assert_eq!(alone.request(true, true, None), Err(CacheMountFlagError::LimitWithoutLocation));
    }
}
