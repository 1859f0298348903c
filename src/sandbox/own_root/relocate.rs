//! Moving an entry by renaming, where that takes more than one rename.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::metadata::DirectoryMetadata;
use crate::sandbox::SandboxError;

/// Moves `from` to `to`. A directory merges into one that is there already; anything else there is replaced.
///
/// overlayfs refuses to rename a directory of a lower layer (EXDEV). Such a one is made anew and its entries are moved.
pub(super) fn relocate(from: &Path, to: &Path) -> Result<(), SandboxError> {
    let cannot = || SandboxError::io("move", from);
    let Err(errno) = rename(from, to) else { return Ok(()) };
    let is_directory = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    match errno {
        Errno::XDEV if is_directory(from) => move_entries(from, to),
        Errno::NOTEMPTY | Errno::EXIST if is_directory(from) && is_directory(to) => move_entries(from, to),
        Errno::ISDIR => {
            std::fs::remove_dir_all(to).map_err(SandboxError::io("remove", to))?;
            rename(from, to).map_err(io::Error::from).map_err(cannot())
        }
        Errno::NOTDIR if is_directory(from) && to.symlink_metadata().is_ok() => {
            std::fs::remove_file(to).map_err(SandboxError::io("remove", to))?;
            relocate(from, to)
        }
        errno => Err(cannot()(errno.into())),
    }
}

/// Renames. Where `CAP_DAC_OVERRIDE` is dropped, a directory must be writable to come to lie in another one, because its `..`
/// changes; its mode is given back.
pub(super) fn rename(from: &Path, to: &Path) -> rustix::io::Result<()> {
    match rustix::fs::rename(from, to) {
        Err(Errno::ACCESS) => {}
        answer => return answer,
    }
    let found = rustix::fs::lstat(from)?;
    let mode = Mode::from_raw_mode(found.st_mode);
    if !FileType::from_raw_mode(found.st_mode).is_dir() || mode.contains(Mode::WUSR) {
        return Err(Errno::ACCESS);
    }
    rustix::fs::chmod(from, mode | Mode::WUSR)?;
    let renamed = rustix::fs::rename(from, to);
    rustix::fs::chmod(if renamed.is_ok() { to } else { from }, mode)?;
    renamed
}

fn move_entries(from: &Path, to: &Path) -> Result<(), SandboxError> {
    let metadata = DirectoryMetadata::read(from).map_err(SandboxError::io("read the attributes of", from))?;
    match to.symlink_metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(to).map_err(SandboxError::io("create", to))?;
        }
        Err(error) => return Err(SandboxError::io("look at", to)(error)),
    }
    // Now, so that a crash in between loses nothing but the time; and once more, for the time.
    metadata.apply(to).map_err(SandboxError::io("set the attributes of", to))?;
    for entry in std::fs::read_dir(from).map_err(SandboxError::io("list", from))? {
        let name = entry.map_err(SandboxError::io("list", from))?.file_name();
        relocate(&from.join(&name), &to.join(&name))?;
    }
    std::fs::remove_dir(from).map_err(SandboxError::io("remove", from))?;
    metadata.apply(to).map_err(SandboxError::io("set the attributes of", to))
}
