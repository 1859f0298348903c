//! Places the here-document of a `RUN` as a program, in a file that only one command sees.
//!
//! It is at BuildKit's path, `/dev/pipes/NAME`, because scripts see their own path. `/dev` is never part of an image,
//! so no layer can contain it.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Script;

const DIRECTORY: &str = "pipes";

/// Writes `script` below `dev`, the directory that is `/dev` for the command, and returns the script's directory. An
/// existing one is replaced: a build that was killed or an earlier command left it.
pub(super) fn place(dev: &Path, script: &Script) -> io::Result<PathBuf> {
    let directory = dev.join(DIRECTORY);
    remove(dev)?;
    DirBuilder::new().mode(0o755).create(&directory)?;
    // Independent of the umask.
    std::fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
    let path = directory.join(&script.name);
    let mut file = File::create_new(&path)?;
    file.write_all(script.content.as_bytes())?;
    file.set_permissions(Permissions::from_mode(0o755))?;
    Ok(directory)
}

/// Removes what [`place`] created, or what a command put in its place.
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
    fn a_script_is_placed_and_removed() {
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
