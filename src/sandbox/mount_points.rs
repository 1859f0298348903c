//! Where the mounts of a command go, worked out before the first of them is made.
//!
//! A mount may lie within an earlier one: its mount point is then in the files that the earlier one shows, and so are the
//! symbolic links on the way to it.

use std::path::{Path, PathBuf};

use super::message::{FileContent, MountSpec, Shown};
use super::stubs::{StubKind, Stubs};
use super::{Mount, MountContent, SandboxError, in_root};

/// The mounts so far, over a root directory.
#[derive(Debug)]
pub(super) struct MountPoints<'a> {
    root: &'a Path,
    /// Outside path of each mount point, and the files it shows; `None`: files that are not there before the mount is.
    laid: Vec<(PathBuf, Option<PathBuf>)>,
}

impl<'a> MountPoints<'a> {
    /// In `root`, with something at each of `occupied` that nobody can look into yet (`/dev` and its like).
    pub(super) fn new(root: &'a Path, occupied: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { root, laid: occupied.into_iter().map(|place| (place, None)).collect() }
    }

    /// Finds the place of the next mount, and creates its mount point where it can be done now.
    pub(super) fn lay(&mut self, mount: &Mount, stubs: &mut Stubs) -> Result<MountSpec, SandboxError> {
        let (kind, shown) = match &mount.content {
            MountContent::Bind { source } => {
                let found = source.symlink_metadata().map_err(SandboxError::io("look at", source.as_path()))?;
                if found.is_symlink() {
                    return Err(SandboxError::errno("mount", source.as_path())(rustix::io::Errno::LOOP));
                }
                let kind = if found.is_dir() { StubKind::Directory } else { StubKind::File };
                (kind, Shown::Bind { source: source.clone() })
            }
            MountContent::Memory { size } => (StubKind::Directory, Shown::Memory { size: *size }),
            MountContent::File { content, mode, uid, gid } => {
                let content = FileContent(content.reveal().clone());
                (StubKind::File, Shown::File { content, mode: *mode, uid: *uid, gid: *gid })
            }
        };
        let cannot = SandboxError::io("find the mount point", Path::new(&mount.target));
        let target =
            in_root::resolve_seen(self.root, Path::new(&mount.target), &|place| self.seen(place)).map_err(cannot)?;
        if target == self.root {
            return Err(SandboxError::errno("mount over", Path::new(&mount.target))(rustix::io::Errno::BUSY));
        }
        if let Some(place) = self.seen(&target)
            && place.symlink_metadata().is_err()
        {
            stubs.create(&place, kind)?;
        }
        let source = match &shown {
            Shown::Bind { source } => Some(source.clone()),
            Shown::Memory { .. } | Shown::File { .. } => None,
        };
        self.laid.push((target.clone(), source));
        Ok(MountSpec { target, is_directory: kind == StubKind::Directory, shown, read_only: mount.read_only })
    }

    /// Where the file really is that `place` shows.
    fn seen(&self, place: &Path) -> Option<PathBuf> {
        let Some((rest, files)) =
            self.laid.iter().rev().find_map(|(target, files)| Some((place.strip_prefix(target).ok()?, files)))
        else {
            return Some(place.to_owned());
        };
        let files = files.as_ref()?;
        Some(if rest.as_os_str().is_empty() { files.clone() } else { files.join(rest) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &Path, target: &str) -> Mount {
        Mount { target: target.into(), content: MountContent::Bind { source: source.to_owned() }, read_only: false }
    }

    #[test]
    fn a_mount_point_within_an_earlier_mount_is_made_there() {
        let directory = tempfile::tempdir().unwrap();
        let (root, outer, inner) =
            (directory.path().join("root"), directory.path().join("outer"), directory.path().join("inner"));
        for path in [&root, &outer, &inner] {
            std::fs::create_dir(path).unwrap();
        }
        std::os::unix::fs::symlink("/outer/there", outer.join("link")).unwrap();
        let mut stubs = Stubs::default();
        let mut points = MountPoints::new(&root, [root.join("dev")]);
        points.lay(&bind(&outer, "/outer"), &mut stubs).unwrap();
        let spec = points.lay(&bind(&inner, "/outer/link/deep"), &mut stubs).unwrap();
        assert_eq!(spec.target, root.join("outer/there/deep"));
        assert!(outer.join("there/deep").is_dir() && !root.join("outer/there").exists());
        assert_eq!(points.lay(&bind(&inner, "/dev/x"), &mut stubs).unwrap().target, root.join("dev/x"));
        assert!(!root.join("dev").exists());
        stubs.remove().unwrap();
        assert!(!outer.join("there").exists() && !root.join("outer").exists());
    }

    #[test]
    fn neither_the_root_nor_a_link_can_be_mounted() {
        let directory = tempfile::tempdir().unwrap();
        let (root, link) = (directory.path().join("root"), directory.path().join("link"));
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink("/", root.join("top")).unwrap();
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        let mut stubs = Stubs::default();
        let mut points = MountPoints::new(&root, []);
        assert!(points.lay(&bind(directory.path(), "/top"), &mut stubs).is_err());
        assert!(points.lay(&bind(&link, "/etc"), &mut stubs).is_err());
    }
}
