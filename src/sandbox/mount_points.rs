//! Works out the mount points of a command before the first mount is made.
//!
//! A mount may be inside an earlier one. Its mount point is then among the files of the earlier mount, and so are the
//! symbolic links on its path. Those files may be a cache that another command is changing. So they are inspected, and
//! mount points are created in them, below an open directory that no path leaves. When the mount is made, the path is
//! resolved again, below the root.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::in_root::PathTarget;
use super::message::{FileContent, MountSpec, MountedContent};
use super::stubs::{Lifetime, StubKind, Stubs};
use super::{Mount, MountContent, SandboxError, in_root};
use crate::fs::{FileKind, Root, Status};

/// The mounts so far, over a root directory.
#[derive(Debug)]
pub(super) struct MountPoints {
    planned: Vec<PlannedMount>,
    root: PathBuf,
}

#[derive(Debug)]
struct PlannedMount {
    /// Path outside of the root.
    target: PathBuf,
    contents: Contents,
}

/// The contents of a mount point.
#[derive(Debug)]
enum Contents {
    /// A directory, and the lifetime of mount points that are created in it.
    Directory(Root, Lifetime),
    File,
    /// Files that do not exist before the mount is made.
    NotYetMounted,
}

impl MountPoints {
    /// Starts with `root`, and a mount that cannot be inspected yet at each of `occupied` (`/dev` and the like).
    pub(super) fn new(root: &Path, occupied: impl IntoIterator<Item = PathBuf>) -> Result<Self, SandboxError> {
        let files = PlannedMount {
            target: root.to_owned(),
            contents: Contents::Directory(Root::open(root)?, Lifetime::Command),
        };
        let occupied = occupied.into_iter().map(|target| PlannedMount { target, contents: Contents::NotYetMounted });
        Ok(Self { planned: std::iter::once(files).chain(occupied).collect(), root: root.to_owned() })
    }

    /// Resolves the next mount's target, and creates its mount point if that is possible now.
    pub(super) fn prepare(&mut self, mount: &Mount, stubs: &mut Stubs) -> Result<MountSpec, SandboxError> {
        let (kind, shown, contents) = match &mount.content {
            MountContent::Bind { source } => {
                let found = source.symlink_metadata().map_err(SandboxError::io("look at", source.as_path()))?;
                if found.is_symlink() {
                    return Err(SandboxError::errno("mount", source.as_path())(Errno::LOOP));
                }
                // What a command may write to is either a cache, which others share, or a copy that is thrown away.
                let lifetime = if mount.read_only { Lifetime::Command } else { Lifetime::Lasting };
                let (kind, contents) = match found.is_dir() {
                    true => (StubKind::Directory, Contents::Directory(Root::open(source)?, lifetime)),
                    false => (StubKind::File, Contents::File),
                };
                (kind, MountedContent::Bind { source: source.clone() }, contents)
            }
            MountContent::Memory { size } => {
                (StubKind::Directory, MountedContent::Memory { size: *size }, Contents::NotYetMounted)
            }
            MountContent::File { content, mode, uid, gid } => {
                let content = FileContent(content.reveal().clone());
                (StubKind::File, MountedContent::File { content, mode: *mode, uid: *uid, gid: *gid }, Contents::File)
            }
        };
        let written = Path::new(&mount.target);
        let target = in_root::resolve_with(&self.root, written, &|place| self.look(place))
            .map_err(SandboxError::io("find the mount point", written))?;
        if target == self.root {
            return Err(SandboxError::errno("mount over", written)(Errno::BUSY));
        }
        let is_later = match self.below(&target) {
            Some((Contents::Directory(files, lifetime), inside)) => {
                if look_in(files, &inside).map_err(SandboxError::io("look at", target.as_path()))?
                    == PathTarget::Nothing
                {
                    stubs.create(files, &inside, kind, *lifetime)?;
                }
                false
            }
            Some((Contents::File, _)) => false,
            Some((Contents::NotYetMounted, _)) | None => true,
        };
        self.planned.push(PlannedMount { target: target.clone(), contents });
        let is_directory = kind == StubKind::Directory;
        Ok(MountSpec { target, is_directory, is_later, shown, read_only: mount.read_only })
    }

    /// Returns the contents that `place` will be part of, and its path in them.
    fn below(&self, place: &Path) -> Option<(&Contents, PathBuf)> {
        let mut planned = self.planned.iter().rev();
        planned.find_map(|planned| Some((&planned.contents, place.strip_prefix(&planned.target).ok()?.to_owned())))
    }

    fn look(&self, place: &Path) -> io::Result<PathTarget> {
        match self.below(place) {
            Some((Contents::Directory(files, _), inside)) => look_in(files, &inside),
            Some((Contents::File, _)) => Ok(PathTarget::File),
            Some((Contents::NotYetMounted, _)) | None => Ok(PathTarget::Nothing),
        }
    }
}

fn look_in(files: &Root, path: &Path) -> io::Result<PathTarget> {
    let found = match files.open_at(path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(PathTarget::Nothing),
        Err(errno) => return Err(errno.into()),
    };
    Ok(match Status::of(&found)?.kind {
        FileKind::Directory => PathTarget::Directory,
        FileKind::Symlink => {
            let target = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
            PathTarget::Link(PathBuf::from(OsString::from_vec(target)))
        }
        _ => PathTarget::File,
    })
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
        let mut points = MountPoints::new(&root, [root.join("dev")]).unwrap();
        points.prepare(&bind(&outer, "/outer"), &mut stubs).unwrap();
        let spec = points.prepare(&bind(&inner, "/outer/link/deep"), &mut stubs).unwrap();
        assert_eq!(spec.target, root.join("outer/there/deep"));
        assert!(outer.join("there/deep").is_dir() && !root.join("outer/there").exists());
        let later = points.prepare(&bind(&inner, "/dev/x"), &mut stubs).unwrap();
        assert!(later.target == root.join("dev/x") && later.is_later && !spec.is_later);
        assert!(!root.join("dev").exists());
        stubs.remove().unwrap();
        assert!(outer.join("there/deep").is_dir(), "another command may have it mounted");
        assert!(!root.join("outer").exists());
    }

    #[test]
    fn a_read_only_source_is_left_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let (root, outer) = (directory.path().join("root"), directory.path().join("outer"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&outer).unwrap();
        let mut stubs = Stubs::default();
        let mut points = MountPoints::new(&root, []).unwrap();
        points.prepare(&Mount { read_only: true, ..bind(&outer, "/outer") }, &mut stubs).unwrap();
        points.prepare(&bind(&outer, "/outer/new"), &mut stubs).unwrap();
        assert!(outer.join("new").is_dir());
        stubs.remove().unwrap();
        assert!(!outer.join("new").exists());
    }

    #[test]
    fn neither_the_root_nor_a_link_can_be_mounted() {
        let directory = tempfile::tempdir().unwrap();
        let (root, link) = (directory.path().join("root"), directory.path().join("link"));
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink("/", root.join("top")).unwrap();
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        let mut stubs = Stubs::default();
        let mut points = MountPoints::new(&root, []).unwrap();
        assert!(points.prepare(&bind(directory.path(), "/top"), &mut stubs).is_err());
        assert!(points.prepare(&bind(&link, "/etc"), &mut stubs).is_err());
    }
}
