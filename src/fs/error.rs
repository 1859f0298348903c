//! The error of everything that touches a file: what was done, to which path, and what the kernel answered.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on a path that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operation and the path; the cause is the source.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried, as it reads after "cannot": "open", "create directory".
        verb: &'static str,
        /// The path it was tried on.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Joins what was tried, the path it was tried on, and the answer.
    pub fn new(verb: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { verb, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// The operating system's answer, for callers that treat "not found" and the like as ordinary.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } => source.kind(),
        }
    }
}
