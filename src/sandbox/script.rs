//! The here-document that is a program: a file that only one command sees.
//!
//! It lies where BuildKit puts it, `/dev/pipes/NAME`, because scripts see their own path. `/dev` is never part of an image,
//! so no layer can hold it.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Script;

const DIRECTORY: &str = "pipes";

/// Writes `script` below `dev`, the directory that is `/dev` for the command, and gives the directory it lies in. An
/// earlier one there is replaced: it is of a build that died, or an earlier command made it.
pub(super) fn place(dev: &Path, script: &Script) -> io::Result<PathBuf> {
    let directory = dev.join(DIRECTORY);
    remove(dev)?;
    DirBuilder::new().mode(0o755).create(&directory)?;
    // Whatever the umask is.
    std::fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
    let path = directory.join(&script.name);
    let mut file = File::create_new(&path)?;
    file.write_all(script.content.as_bytes())?;
    file.set_permissions(Permissions::from_mode(0o755))?;
    Ok(directory)
}

/// Removes what [`place`] made, and what a command may have left in its stead.
pub(super) fn remove(dev: &Path) -> io::Result<()> {
    let directory = dev.join(DIRECTORY);
    match directory.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(directory),
        Ok(_) => std::fs::remove_file(directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn it_is_there_and_goes_again() {
        let dev = tempfile::tempdir().unwrap();
        let script = Script { name: "EOF".into(), content: "#!/bin/sh\n".into() };
        let directory = place(dev.path(), &script).unwrap();
        let path = directory.join("EOF");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "#!/bin/sh\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
        place(dev.path(), &Script { name: "TWO".into(), ..script }).unwrap();
        assert!(!path.exists());
        remove(dev.path()).unwrap();
        remove(dev.path()).unwrap();
        assert!(!directory.exists());
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dev = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("kept"), "").unwrap();
        symlink(elsewhere.path(), dev.path().join(DIRECTORY)).unwrap();
        place(dev.path(), &Script { name: "EOF".into(), content: String::new() }).unwrap();
        assert!(elsewhere.path().join("kept").exists());
        assert!(!elsewhere.path().join("EOF").exists());
    }
}
