//! Moves an entry, also where one rename is not enough.

use std::ffi::OsStr;

use rustix::io::Errno;

use super::calls;
use super::directory::Directory;
use super::metadata::DirectoryMetadata;
use crate::fs::FileKind;
use crate::sandbox::SandboxError;

/// Moves `old` of one directory to `new` in another. A directory is merged into an existing one; any other existing
/// entry is replaced.
///
/// overlayfs refuses to rename a directory of a lower layer (EXDEV). Such a directory is created again and its entries
/// are moved.
pub(super) fn relocate(from: &Directory, old: &OsStr, to: &Directory, new: &OsStr) -> Result<(), SandboxError> {
    let Err(errno) = from.rename(old, to, new) else { return Ok(()) };
    let is_directory = |directory: &Directory, name: &OsStr| {
        directory.status(name).map(|found| found.is_some_and(|found| found.kind == FileKind::Directory))
    };
    match errno {
        Errno::XDEV if is_directory(from, old)? => move_entries(from, old, to, new),
        Errno::NOTEMPTY | Errno::EXIST if is_directory(from, old)? && is_directory(to, new)? => {
            move_entries(from, old, to, new)
        }
        Errno::ISDIR => {
            calls::remove_tree(to, new).map_err(to.error("remove", new))?;
            from.rename(old, to, new).map_err(from.error("move", old))
        }
        Errno::NOTDIR if is_directory(from, old)? && to.status(new)?.is_some() => {
            calls::unlink(to, new).map_err(to.error("remove", new))?;
            relocate(from, old, to, new)
        }
        errno => Err(from.error("move", old)(errno)),
    }
}

fn move_entries(from: &Directory, old: &OsStr, to: &Directory, new: &OsStr) -> Result<(), SandboxError> {
    let Some(source) = from.below(old)? else { return Err(from.error("move", old)(Errno::NOTDIR)) };
    let metadata = DirectoryMetadata::of(&source)?;
    let target = match to.below(new)? {
        Some(target) => target,
        None => to.make(new, 0o700)?,
    };
    // Set now, so that a crash meanwhile loses only the time; and again afterwards, for the time.
    metadata.apply_to(&target)?;
    for name in source.names()? {
        relocate(&source, &name, &target, &name)?;
    }
    calls::remove_directory(from, old).map_err(from.error("remove", old))?;
    metadata.apply_to(&target)
}
