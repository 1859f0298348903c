//! Where a path of the image really lies: symbolic links followed as if the root directory were `/`.
//!
//! The answer is a plan and no promise. Nothing else runs in the root while this is asked; but what will be laid over it may
//! be shared with a command that runs now, and so every later step of the way is taken by descriptor.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// Resolves `path` within `root` and gives the outside path, the last component followed too.
///
/// Components that do not exist are taken as they stand, so that they can be created.
///
/// # Errors
/// ELOOP, ENOTDIR when a file stands where a directory is needed, or what readlink says.
pub(super) fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    resolve_seen(root, path, &|here| match here.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => std::fs::read_link(here).map(Seen::Link),
        Ok(metadata) => Ok(if metadata.is_dir() { Seen::Directory } else { Seen::File }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Seen::Nothing),
        Err(error) => Err(error),
    })
}

/// What a command will see at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// What it is can be known only when it has been mounted; or there is nothing.
    Nothing,
    Directory,
    /// A symbolic link with this target.
    Link(PathBuf),
    /// Anything else.
    File,
}

/// [`resolve`] in a root over which other files will be laid: `look` says what an outside path will show.
pub(super) fn resolve_seen(root: &Path, path: &Path, look: &dyn Fn(&Path) -> io::Result<Seen>) -> io::Result<PathBuf> {
    let mut pending: VecDeque<OsString> = components(path);
    let mut inside: Vec<OsString> = Vec::new();
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            inside.pop();
            continue;
        }
        match look(&outside(root, &inside).join(&name))? {
            Seen::Link(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                if target.is_absolute() {
                    inside.clear();
                }
                for component in components(&target).into_iter().rev() {
                    pending.push_front(component);
                }
            }
            Seen::File if !pending.is_empty() => return Err(rustix::io::Errno::NOTDIR.into()),
            Seen::Nothing | Seen::Directory | Seen::File => inside.push(name),
        }
    }
    Ok(outside(root, &inside))
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn outside(root: &Path, inside: &[OsString]) -> PathBuf {
    let mut path = root.to_path_buf();
    path.extend(inside);
    path
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside_the_root() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        std::fs::create_dir_all(root.join("run/x")).unwrap();
        std::fs::create_dir(root.join("etc")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        symlink("../../../run/x/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        symlink("/run", root.join("etc/run")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let inside =
            |path: &str| resolve(root, Path::new(path)).map(|path| path.strip_prefix(root).unwrap().to_owned());
        assert_eq!(inside("/etc/resolv.conf").unwrap(), Path::new("run/x/resolv.conf"));
        assert_eq!(inside("etc/run/x/../y").unwrap(), Path::new("run/y"));
        assert_eq!(inside("/../..").unwrap(), Path::new(""));
        assert_eq!(inside("new/dir").unwrap(), Path::new("new/dir"));
        assert_eq!(inside("loop").unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(inside("file/x").unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
    }
}
