//! Where the mounts of a command go, worked out before the first of them is made.
//!
//! A mount may lie within an earlier one: its mount point is then in the files that the earlier one shows, and so are the
//! symbolic links on the way to it. Those files may be a cache that another command changes now. So they are looked at, and
//! mount points made in them, below an open directory that no path leaves; what was found is found again, below the root,
//! when the mount is made.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::in_root::Seen;
use super::message::{FileContent, MountSpec, Shown};
use super::stubs::{Lifetime, StubKind, Stubs};
use super::{Mount, MountContent, SandboxError, in_root};
use crate::fs::{FileKind, Root, Status};

/// The mounts so far, over a root directory.
#[derive(Debug)]
pub(super) struct MountPoints {
    laid: Vec<Laid>,
    root: PathBuf,
}

#[derive(Debug)]
struct Laid {
    /// An outside path.
    target: PathBuf,
    shows: Shows,
}

/// What is to be seen at a mount point.
#[derive(Debug)]
enum Shows {
    /// A directory, and how long what is made in it stays.
    Files(Root, Lifetime),
    /// A file.
    File,
    /// Files that are not there before the mount is.
    Later,
}

impl MountPoints {
    /// In `root`, with something at each of `occupied` that cannot be looked into yet (`/dev` and its like).
    pub(super) fn new(root: &Path, occupied: impl IntoIterator<Item = PathBuf>) -> Result<Self, SandboxError> {
        let files = Laid { target: root.to_owned(), shows: Shows::Files(Root::open(root)?, Lifetime::Command) };
        let occupied = occupied.into_iter().map(|target| Laid { target, shows: Shows::Later });
        Ok(Self { laid: std::iter::once(files).chain(occupied).collect(), root: root.to_owned() })
    }

    /// Finds the place of the next mount, and creates its mount point where it can be done now.
    pub(super) fn lay(&mut self, mount: &Mount, stubs: &mut Stubs) -> Result<MountSpec, SandboxError> {
        let (kind, shown, shows) = match &mount.content {
            MountContent::Bind { source } => {
                let found = source.symlink_metadata().map_err(SandboxError::io("look at", source.as_path()))?;
                if found.is_symlink() {
                    return Err(SandboxError::errno("mount", source.as_path())(Errno::LOOP));
                }
                // What a command may write to is a cache, which others have too, or a copy that is thrown away.
                let lifetime = if mount.read_only { Lifetime::Command } else { Lifetime::Lasting };
                let (kind, shows) = match found.is_dir() {
                    true => (StubKind::Directory, Shows::Files(Root::open(source)?, lifetime)),
                    false => (StubKind::File, Shows::File),
                };
                (kind, Shown::Bind { source: source.clone() }, shows)
            }
            MountContent::Memory { size } => (StubKind::Directory, Shown::Memory { size: *size }, Shows::Later),
            MountContent::File { content, mode, uid, gid } => {
                let content = FileContent(content.reveal().clone());
                (StubKind::File, Shown::File { content, mode: *mode, uid: *uid, gid: *gid }, Shows::File)
            }
        };
        let written = Path::new(&mount.target);
        let target = in_root::resolve_seen(&self.root, written, &|place| self.look(place))
            .map_err(SandboxError::io("find the mount point", written))?;
        if target == self.root {
            return Err(SandboxError::errno("mount over", written)(Errno::BUSY));
        }
        let is_later = match self.below(&target) {
            Some((Shows::Files(files, lifetime), inside)) => {
                if look_in(files, &inside).map_err(SandboxError::io("look at", target.as_path()))? == Seen::Nothing {
                    stubs.create(files, &inside, kind, *lifetime)?;
                }
                false
            }
            Some((Shows::File, _)) => false,
            Some((Shows::Later, _)) | None => true,
        };
        self.laid.push(Laid { target: target.clone(), shows });
        let is_directory = kind == StubKind::Directory;
        Ok(MountSpec { target, is_directory, is_later, shown, read_only: mount.read_only })
    }

    /// What `place` will be part of, and its path in that.
    fn below(&self, place: &Path) -> Option<(&Shows, PathBuf)> {
        let mut laid = self.laid.iter().rev();
        laid.find_map(|laid| Some((&laid.shows, place.strip_prefix(&laid.target).ok()?.to_owned())))
    }

    fn look(&self, place: &Path) -> io::Result<Seen> {
        match self.below(place) {
            Some((Shows::Files(files, _), inside)) => look_in(files, &inside),
            Some((Shows::File, _)) => Ok(Seen::File),
            Some((Shows::Later, _)) | None => Ok(Seen::Nothing),
        }
    }
}

fn look_in(files: &Root, path: &Path) -> io::Result<Seen> {
    let found = match files.open_at(path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(Seen::Nothing),
        Err(errno) => return Err(errno.into()),
    };
    Ok(match Status::of(&found)?.kind {
        FileKind::Directory => Seen::Directory,
        FileKind::Symlink => {
            let target = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
            Seen::Link(PathBuf::from(OsString::from_vec(target)))
        }
        _ => Seen::File,
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
        points.lay(&bind(&outer, "/outer"), &mut stubs).unwrap();
        let spec = points.lay(&bind(&inner, "/outer/link/deep"), &mut stubs).unwrap();
        assert_eq!(spec.target, root.join("outer/there/deep"));
        assert!(outer.join("there/deep").is_dir() && !root.join("outer/there").exists());
        let later = points.lay(&bind(&inner, "/dev/x"), &mut stubs).unwrap();
        assert!(later.target == root.join("dev/x") && later.is_later && !spec.is_later);
        assert!(!root.join("dev").exists());
        stubs.remove().unwrap();
        assert!(outer.join("there/deep").is_dir(), "another command may have it mounted");
        assert!(!root.join("outer").exists());
    }

    #[test]
    fn what_is_only_read_is_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let (root, outer) = (directory.path().join("root"), directory.path().join("outer"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&outer).unwrap();
        let mut stubs = Stubs::default();
        let mut points = MountPoints::new(&root, []).unwrap();
        points.lay(&Mount { read_only: true, ..bind(&outer, "/outer") }, &mut stubs).unwrap();
        points.lay(&bind(&outer, "/outer/new"), &mut stubs).unwrap();
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
        assert!(points.lay(&bind(directory.path(), "/top"), &mut stubs).is_err());
        assert!(points.lay(&bind(&link, "/etc"), &mut stubs).is_err());
    }
}
