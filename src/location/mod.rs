//! Parses the text of a URL: a file to download, a commit of a git repository, or an object in a bucket.
//!
//! Nothing is fetched here. A Dockerfile's `ADD` and the command line's contexts use the same rules before anything
//! runs, so that a mistyped key of a git URL is reported at its location in the file.

mod bucket;
mod context;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod git;
mod http;

pub use bucket::{BucketLocation, BucketService};
pub use context::{ContextLocation, GitContext};
pub use error::LocationError;
pub use git::{FileTimes, GitLocation};
pub use http::HttpLocation;
pub(crate) use http::decoded;

use std::fmt;

/// A source of files on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file.
    Http(HttpLocation),
    /// A directory of a commit.
    Git(GitLocation),
}

impl Location {
    /// Parses a source of `ADD`, by BuildKit's rules: `git://`, `ssh://` and `user@host:path` name repositories, and so
    /// does `http(s)://` with a path that ends in `.git`; any other `http(s)://` names a file. `None` for a path.
    ///
    /// # Errors
    /// The text has the form of a URL but is invalid, or its query is unknown or contradictory.
    pub fn parse(text: &str) -> Result<Option<Self>, LocationError> {
        if let Some(location) = GitLocation::parse(text)? {
            return Ok(Some(Self::Git(location)));
        }
        Ok(HttpLocation::parse(text)?.map(Self::Http))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(location) => location.fmt(f),
            Self::Git(location) => location.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_and_files_are_distinguished_from_paths() {
        let kind = |text: &str| match Location::parse(text) {
            Ok(Some(Location::Git(_))) => "git",
            Ok(Some(Location::Http(_))) => "file",
            Ok(None) => "path",
            Err(_) => "error",
        };
        for (text, expected) in [
            ("git://host/x", "git"),
            ("ssh://git@host:22/x", "git"),
            ("git@github.com:docker/buildx.git", "git"),
            ("https://github.com/docker/buildx.git", "git"),
            ("https://github.com/docker/buildx.git#v1:sub", "git"),
            ("HTTPS://github.com/docker/buildx.git?tag=v1", "git"),
            ("https://github.com/docker/buildx", "file"),
            ("http://host/a.git/b", "file"),
            ("http://host/?x=a.git", "file"),
            ("github.com/docker/buildx", "path"),
            ("a@b/c:d", "path"),
            ("a:b", "path"),
            ("http://", "error"),
            ("git://", "error"),
            ("https://host/x.git?nonsense=1", "error"),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
    }
}
