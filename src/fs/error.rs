//! The error of file operations: the operation, the path, and the kernel's error.

use std::io;
use std::path::{Path, PathBuf};

use crate::diag::Hint;

/// A failed operation on a path. Errors of other modules wrap it unchanged, so that the same failure has the same text
/// everywhere.
#[derive(Debug, thiserror::Error)]
#[error("failed to {verb} {}", path.display())]
pub struct Error {
    /// The operation in the form that follows "failed to": "open", "create directory".
    pub verb: &'static str,
    /// The path.
    pub path: PathBuf,
    /// The operating system's error.
    pub source: io::Error,
}

impl Error {
    /// Returns the error of an operation on a path.
    pub fn new(verb: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self { verb, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// Returns the kind of the operating system's error, for callers that handle "not found" and the like.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        self.source.hint()
    }
}

/// Converts the operating system's error: `File::open(path).map_err(failed_to("open", path))`.
pub fn failed_to<E: Into<io::Error>>(verb: &'static str, path: &Path) -> impl FnOnce(E) -> Error + use<E> {
    let path = path.to_owned();
    move |source| Error { verb, path, source: source.into() }
}
