//! `std::fs` through the gate, with errors that name the path.

use std::fs::{File, Metadata};
use std::io::Write;
use std::path::Path;

use super::{Error, gated as fs};

/// Reads a file. Only for files whose size the build itself bounds, not for layers or build inputs.
///
/// # Errors
/// The file cannot be opened or read.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
    fs::read(&path).map_err(|source| Error::new("read", path, source))
}

/// Reads a text file, which must be UTF-8.
///
/// # Errors
/// The file cannot be opened or read, or is not UTF-8.
pub fn read_to_string(path: impl AsRef<Path>) -> Result<String, Error> {
    fs::read_to_string(&path).map_err(|source| Error::new("read", path, source))
}

/// Writes a file, replacing its content.
///
/// # Errors
/// The file cannot be created or written.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
    fs::write(&path, bytes).map_err(|source| Error::new("write", path, source))
}

/// Writes a file so that readers see the old or the new content, never a part: writes a temporary file and renames it.
///
/// # Errors
/// The temporary file cannot be made, written or renamed; it is removed then.
pub fn write_atomic(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
    let path = path.as_ref();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::create(&temporary)
        .and_then(|mut file| file.write_all(bytes.as_ref()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        if let Err(cause) = fs::remove_file(&temporary) {
            tracing::debug!(path = %temporary.display(), %cause, "temporary file not removed");
        }
        Error::new("write", path, source)
    })
}

/// Creates a directory and its parents if they are missing.
///
/// # Errors
/// A directory cannot be created.
pub fn create_dir_all(path: impl AsRef<Path>) -> Result<(), Error> {
    fs::create_dir_all(&path).map_err(|source| Error::new("create directory", path, source))
}

/// Opens a file for reading.
///
/// # Errors
/// The file cannot be opened.
pub fn open(path: impl AsRef<Path>) -> Result<File, Error> {
    fs::open(&path).map_err(|source| Error::new("open", path, source))
}

/// Creates a file for writing, or empties an existing one.
///
/// # Errors
/// The file cannot be created.
pub fn create(path: impl AsRef<Path>) -> Result<File, Error> {
    fs::create(&path).map_err(|source| Error::new("create", path, source))
}

/// Renames `from` to `to`, replacing it.
///
/// # Errors
/// The file cannot be renamed; the error names `from`.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), Error> {
    fs::rename(&from, to).map_err(|source| Error::new("rename", from, source))
}

/// Removes a file.
///
/// # Errors
/// The file cannot be removed.
pub fn remove_file(path: impl AsRef<Path>) -> Result<(), Error> {
    fs::remove_file(&path).map_err(|source| Error::new("remove", path, source))
}

/// Returns the metadata of a path, following symbolic links.
///
/// # Errors
/// The path does not exist or cannot be reached.
pub fn metadata(path: impl AsRef<Path>) -> Result<Metadata, Error> {
    fs::metadata(&path).map_err(|source| Error::new("look at", path, source))
}

/// Returns the metadata of a path, without following a symbolic link.
///
/// # Errors
/// The path does not exist or cannot be reached.
pub fn symlink_metadata(path: impl AsRef<Path>) -> Result<Metadata, Error> {
    fs::symlink_metadata(&path).map_err(|source| Error::new("look at", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_path_and_what_was_done() {
        let error = read("/nonexistent/file").expect_err("there is no such file");
        assert_eq!(error.to_string(), "failed to read /nonexistent/file");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn an_atomic_write_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("a");
        write_atomic(&path, "one").expect("first");
        write_atomic(&path, "two").expect("second");
        assert_eq!(read_to_string(&path).expect("read"), "two");
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);
        assert!(write_atomic(directory.path().join("missing/a"), "x").is_err());
    }
}
