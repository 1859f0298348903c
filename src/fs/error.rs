//! The error of everything that touches a file: what was done, to which path, and what the kernel answered.

use std::io;
use std::path::{Path, PathBuf};

use crate::diag::Hint;

/// An operation on a path that failed. The errors of other modules hold it as it is, so that a file that cannot be opened reads the
/// same wherever it is opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to {verb} {}", path.display())]
pub struct Error {
    /// What was tried, as it reads after "failed to": "open", "create directory".
    pub verb: &'static str,
    /// The path it was tried on.
    pub path: PathBuf,
    /// What the operating system answered.
    pub source: io::Error,
}

impl Error {
    /// Joins what was tried, the path it was tried on, and the answer.
    pub fn new(verb: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self { verb, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// The operating system's answer, for callers that treat "not found" and the like as ordinary.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        self.source.hint()
    }
}

/// Makes an [`Error`] of an operating system's answer: `File::open(path).map_err(failed_to("open", path))`.
pub fn failed_to<E: Into<io::Error>>(verb: &'static str, path: &Path) -> impl FnOnce(E) -> Error + use<E> {
    let path = path.to_owned();
    move |source| Error { verb, path, source: source.into() }
}
