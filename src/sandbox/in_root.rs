//! Resolves a path of the image: symbolic links are followed as if the root directory were `/`.
//!
//! The result is valid only for the moment. Nothing else runs in the root meanwhile, but a directory that will be
//! mounted over it may be shared with a command that is running. So every later step uses descriptors instead of paths.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The kernel's own limit.
const MAX_LINKS: usize = 40;

/// Resolves `path` within `root`, the last component included, and returns the path outside of the root.
///
/// Components that do not exist are kept as written, so that they can be created.
///
/// # Errors
/// ELOOP for too many links, ENOTDIR if a file is where a directory is needed, or the error of readlink.
pub(super) fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    resolve_with(root, path, &|path| match path.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => std::fs::read_link(path).map(PathTarget::Link),
        Ok(metadata) => Ok(if metadata.is_dir() { PathTarget::Directory } else { PathTarget::File }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(PathTarget::Nothing),
        Err(error) => Err(error),
    })
}

/// The type of file that a command will see at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathTarget {
    /// Nothing, or something that is known only after it has been mounted.
    Nothing,
    Directory,
    /// A symbolic link with this target.
    Link(PathBuf),
    /// Anything else.
    File,
}

/// Resolves like [`resolve`], in a root over which other files will be mounted. `look` returns what a path outside of
/// the root will show.
pub(super) fn resolve_with(
    root: &Path,
    path: &Path,
    look: &dyn Fn(&Path) -> io::Result<PathTarget>,
) -> io::Result<PathBuf> {
    let mut pending: VecDeque<OsString> = components(path);
    let mut inside: Vec<OsString> = Vec::new();
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            inside.pop();
            continue;
        }
        match look(&outside(root, &inside).join(&name))? {
            PathTarget::Link(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                if target.is_absolute() {
                    inside.clear();
                }
                for component in components(&target).into_iter().rev() {
                    pending.push_front(component);
                }
            }
            PathTarget::File if !pending.is_empty() => return Err(rustix::io::Errno::NOTDIR.into()),
            PathTarget::Nothing | PathTarget::Directory | PathTarget::File => inside.push(name),
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
