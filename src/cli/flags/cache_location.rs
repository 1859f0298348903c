//! The location of a cache: the value of `--cache-repo` and `--cache-mounts-repo`.

use std::path::PathBuf;

use crate::cache::CacheLocation;
use crate::image::{Reference, ReferenceError};

/// The flag for the location of the layer cache.
pub(crate) const CACHE_REPO: &str = "--cache-repo";
/// The prefix of a directory.
const LAYOUT: &str = "oci:";

/// A location that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheLocationError {
    /// It is not a repository.
    #[error("{flag} {text:?} cannot be used")]
    Repository {
        /// The flag.
        flag: &'static str,
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// It names a single image.
    #[error("{flag} {text:?} has a tag or a digest: it names a repository, in which every entry has a tag of its own")]
    Tagged {
        /// The flag.
        flag: &'static str,
        /// As given.
        text: String,
    },
    /// The directory has no name.
    #[error("{flag} {text:?} names no directory")]
    NoDirectory {
        /// The flag.
        flag: &'static str,
        /// As given.
        text: String,
    },
}

/// Reads the value of a flag that names a cache: a repository, or `oci:DIRECTORY`.
///
/// # Errors
/// See [`CacheLocationError`].
pub(crate) fn location(flag: &'static str, text: String) -> Result<CacheLocation, CacheLocationError> {
    if let Some(directory) = text.strip_prefix(LAYOUT) {
        if directory.is_empty() {
            return Err(CacheLocationError::NoDirectory { flag, text });
        }
        return Ok(CacheLocation::Directory(PathBuf::from(directory)));
    }
    match Reference::parse(&text) {
        Ok(reference) if reference.tag.is_some() || reference.digest.is_some() => {
            Err(CacheLocationError::Tagged { flag, text })
        }
        Ok(reference) => Ok(CacheLocation::Repository(reference)),
        Err(source) => Err(CacheLocationError::Repository { flag, text, source }),
    }
}
