//! Holds the secrets of `--secret`, which a build may use and no image may contain, and reads their values.
//!
//! Values are returned as [`Secret`], which cannot be logged. Files are read on use, so that an unused secret never
//! enters memory. A check before the build ensures that they can be read.

mod source;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::diag::Hint;
use crate::diag::redact::Secret;
use crate::fs::gated;

pub use source::{SecretSource, SecretValue, SourceError};

/// The most bytes of a secret, as in BuildKit: 500 KiB.
pub const MAXIMUM_SIZE: u64 = 500 * 1024;

/// The secrets of a build, by name.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Vec<SecretSource>);

impl Secrets {
    /// Collects secrets and checks that each can be read.
    ///
    /// # Errors
    /// A name is used twice; a file cannot be opened, is a directory or is too large.
    pub fn new(sources: Vec<SecretSource>) -> Result<Self, SecretError> {
        for (number, source) in sources.iter().enumerate() {
            if sources[..number].iter().any(|other| other.id == source.id) {
                return Err(SecretError::Twice { id: source.id.clone() });
            }
            match &source.value {
                SecretValue::File(path) => check_file(&source.id, path)?,
                SecretValue::Text(text) => check_size(&source.id, text.reveal().len() as u64)?,
            }
        }
        Ok(Self(sources))
    }

    /// Reports whether there is a secret with this name, without reading its value.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.0.iter().any(|source| source.id == id)
    }

    /// Returns the names, in order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|source| source.id.as_str())
    }

    /// Returns the value of a secret; `None` if no secret has this name.
    ///
    /// # Errors
    /// Its file cannot be read, or is too large now.
    pub fn get(&self, id: &str) -> Result<Option<Secret<Vec<u8>>>, SecretError> {
        let Some(source) = self.0.iter().find(|source| source.id == id) else { return Ok(None) };
        match &source.value {
            SecretValue::Text(text) => Ok(Some(text.clone())),
            SecretValue::File(path) => read(id, path).map(Some),
        }
    }
}

/// Checks that a file can be read. A pipe is not opened, because that would lose its content.
fn check_file(id: &str, path: &Path) -> Result<(), SecretError> {
    let metadata = gated::metadata(path).map_err(unreadable(id, path))?;
    if metadata.is_dir() {
        return Err(SecretError::Directory { id: id.to_owned(), path: path.to_owned() });
    }
    if metadata.is_file() {
        gated::open(path).map_err(unreadable(id, path))?;
    }
    check_size(id, metadata.len())
}

fn read(id: &str, path: &Path) -> Result<Secret<Vec<u8>>, SecretError> {
    let file = gated::open(path).map_err(unreadable(id, path))?;
    let mut bytes = Vec::new();
    file.take(MAXIMUM_SIZE + 1).read_to_end(&mut bytes).map_err(unreadable(id, path))?;
    check_size(id, bytes.len() as u64)?;
    Ok(Secret::new(bytes))
}

fn unreadable(id: &str, path: &Path) -> impl FnOnce(io::Error) -> SecretError {
    move |source| SecretError::File { id: id.to_owned(), path: path.to_owned(), source }
}

fn check_size(id: &str, size: u64) -> Result<(), SecretError> {
    if size > MAXIMUM_SIZE { Err(SecretError::TooLarge { id: id.to_owned() }) } else { Ok(()) }
}

/// A reason why a secret is not available. No variant contains its value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Two secrets have the same name.
    #[error("--secret id={id} is given twice")]
    Twice {
        /// The name.
        id: String,
    },
    /// The file cannot be read.
    #[error("failed to read secret {id} from {}", path.display())]
    File {
        /// The secret's name.
        id: String,
        /// The file.
        path: PathBuf,
        /// The error of the file.
        #[source]
        source: io::Error,
    },
    /// The file is a directory.
    #[error("secret {id}: {} is a directory", path.display())]
    Directory {
        /// The secret's name.
        id: String,
        /// The directory.
        path: PathBuf,
    },
    /// The value is a server's login, but not text.
    #[error("secret {id} is not valid UTF-8")]
    NotText {
        /// The secret's name.
        id: String,
    },
    /// The value is too large.
    #[error("secret {id} is larger than 500 KiB")]
    TooLarge {
        /// The secret's name.
        id: String,
    },
}

impl Hint for SecretError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::File { source, .. } => source.hint(),
            Self::Twice { .. } | Self::Directory { .. } | Self::NotText { .. } | Self::TooLarge { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(id: &str, path: &Path) -> SecretSource {
        SecretSource { id: id.to_owned(), value: SecretValue::File(path.to_owned()) }
    }

    #[test]
    fn files_are_read_on_use() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("token");
        std::fs::write(&path, "one").expect("write");
        let secrets = Secrets::new(vec![from_file("token", &path)]).expect("readable");
        std::fs::write(&path, [0, 255]).expect("write");
        let value = secrets.get("token").expect("readable").expect("there");
        assert_eq!(value.reveal(), &[0, 255]);
        assert!(secrets.get("other").expect("no error").is_none());
        assert!(secrets.contains("token") && !secrets.contains("other"));
        std::fs::remove_file(&path).expect("remove");
        assert!(matches!(secrets.get("token"), Err(SecretError::File { .. })));
    }

    #[test]
    fn a_secret_has_an_upper_bound() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("token");
        let largest = vec![b'x'; 500 * 1024];
        std::fs::write(&path, &largest).expect("write");
        let secrets = Secrets::new(vec![from_file("token", &path)]).expect("readable");
        assert_eq!(secrets.get("token").expect("readable").expect("there").reveal(), &largest);
        std::fs::write(&path, [largest, vec![b'x']].concat()).expect("write");
        assert!(matches!(secrets.get("token"), Err(SecretError::TooLarge { .. })));
        assert!(matches!(Secrets::new(vec![from_file("token", &path)]), Err(SecretError::TooLarge { .. })));
    }

    #[test]
    fn unreadable_files_are_reported_at_once() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let missing = from_file("m", &directory.path().join("missing"));
        assert!(matches!(Secrets::new(vec![missing]), Err(SecretError::File { .. })));
        let folder = from_file("d", directory.path());
        assert!(matches!(Secrets::new(vec![folder]), Err(SecretError::Directory { .. })));
        let text = || SecretSource { id: "t".to_owned(), value: SecretValue::Text(Secret::new(b"v".to_vec())) };
        assert!(matches!(Secrets::new(vec![text(), text()]), Err(SecretError::Twice { .. })));
    }
}
