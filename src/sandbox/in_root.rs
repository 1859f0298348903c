//! Where a path of the image really lies: symbolic links followed as if the root directory were `/`.
//!
//! Nothing else runs in the root while this is asked, so a plain walk cannot be raced.

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
    resolve_seen(root, path, &|here| Some(here.to_owned()))
}

/// [`resolve`] in a root over which other files will be laid: `seen` says where the file really is that an outside path
/// will show; `None` when there is nothing yet.
pub(super) fn resolve_seen(root: &Path, path: &Path, seen: &dyn Fn(&Path) -> Option<PathBuf>) -> io::Result<PathBuf> {
    let mut pending: VecDeque<OsString> = components(path);
    let mut inside: Vec<OsString> = Vec::new();
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            inside.pop();
            continue;
        }
        let Some(here) = seen(&outside(root, &inside).join(&name)) else {
            inside.push(name);
            continue;
        };
        match here.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                let target = std::fs::read_link(&here)?;
                if target.is_absolute() {
                    inside.clear();
                }
                for component in components(&target).into_iter().rev() {
                    pending.push_front(component);
                }
            }
            Ok(metadata) if !metadata.is_dir() && !pending.is_empty() => {
                return Err(rustix::io::Errno::NOTDIR.into());
            }
            Ok(_) => inside.push(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => inside.push(name),
            Err(error) => return Err(error),
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
