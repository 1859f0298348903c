//! Holds the merged directories open from before the exchange until everything is restored.
//!
//! A command may replace a merged directory by another directory, or by a link to one that must not be touched. So no
//! path is resolved again after the command. The same holds for the pinned files in them: each is where it was, or is
//! brought back from where the command moved it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;

use super::calls;
use super::directory::{Directory, present_path};
use super::journal::Start;
use super::pinned_paths::PinnedPaths;
use super::swap_target::SwapTarget;
use crate::sandbox::{SandboxError, mountinfo};

/// The merged directories and pinned files, by path relative to the swapped directory.
#[derive(Debug)]
pub(super) struct Frame {
    merged: BTreeMap<PathBuf, MergedDirectory>,
    /// Pinned files that are not mount points.
    stay: Vec<(PathBuf, OwnedFd)>,
    /// The first path that a command moved.
    moved: Option<PathBuf>,
}

/// The three directories of a path.
#[derive(Debug)]
pub(super) struct MergedDirectory {
    /// The container's directory, which stays.
    pub(super) container: Directory,
    /// The stash of its entries. After a crash `None` if the container had no entries to move.
    pub(super) stash: Option<Directory>,
    /// The image's directory, if it has one.
    pub(super) stage: Option<Directory>,
}

impl Frame {
    /// Opens everything, and creates the stash's directories.
    pub(super) fn open(target: &SwapTarget, base: Directory, stash: Directory) -> Result<Self, SandboxError> {
        let stage = Some(Directory::open(&target.root)?);
        let root = MergedDirectory { container: base, stash: Some(stash), stage };
        let mut merged = BTreeMap::from([(PathBuf::new(), root)]);
        for path in target.pinned.merged_dirs() {
            let Some((above, name)) = in_parent(&merged, path) else { continue };
            let Some(container) = above.container.below(name)? else {
                return Err(above.container.error("open the directory", name)(Errno::NOTDIR));
            };
            let stash = above.stash.as_ref().map(|stash| stash.make(name, 0o700)).transpose()?;
            let stage = above.stage.as_ref().map(|stage| stage.below(name)).transpose()?.flatten();
            merged.insert(path.to_owned(), MergedDirectory { container, stash, stage });
        }
        // A mount point cannot be moved, and a mounted file system may not respond.
        let mounts = mountinfo::read()?;
        let is_mount_point = |path: &Path| mounts.iter().any(|mount| mount.mount_point == target.base.join(path));
        let mut stay = Vec::new();
        for path in target.pinned.pinned().filter(|path| !is_mount_point(path)) {
            let Some((above, name)) = in_parent(&merged, path) else { continue };
            match calls::pin(&above.container, name) {
                Ok(pinned) => stay.push((path.to_owned(), pinned)),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(above.container.error("open", name)(errno)),
            }
        }
        Ok(Self { merged, stay, moved: None })
    }

    /// Opens the directories that a dead run of this program left, for an undo. `mount_points` are the current ones: a
    /// merged directory that a command moved is recognized by its inode, and found by a mount point that moved with it.
    /// An entry in its place is moved to `away`.
    pub(super) fn reopen(
        base: Directory,
        stash: Option<Directory>,
        start: &Start,
        mount_points: &dyn Fn() -> Result<Vec<PathBuf>, SandboxError>,
        away: &Directory,
    ) -> Result<(Self, PinnedPaths), SandboxError> {
        let path = base.path().to_owned();
        let device = calls::status_of(&base).map_err(base.own_error("look at"))?.device;
        let moved = Moved { base: &path, device, mount_points: mount_points()? };
        let root = MergedDirectory { container: base, stash, stage: None };
        let mut merged = BTreeMap::from([(PathBuf::new(), root)]);
        for (path, was) in &start.directories {
            let Some((above, name)) = in_parent(&merged, path) else { continue };
            let mut container = above.container.below(name)?;
            let is_it = container.as_ref().map(inode).transpose()? == Some(was.inode);
            if !is_it && let Some(found) = moved.find(was.inode)? {
                put(&found, &above.container, name, away)?;
                container = Some(found);
            }
            let container = match container {
                Some(container) => container,
                None => {
                    clear(&above.container, name, away)?;
                    above.container.make(name, 0o755)?
                }
            };
            let stash = above.stash.as_ref().map(|stash| stash.below(name)).transpose()?.flatten();
            merged.insert(path.clone(), MergedDirectory { container, stash, stage: None });
        }
        // The runtime may have created new mount points among the stage's files.
        let pinned = PinnedPaths::new(&path, start.stay.iter().cloned().chain(mount_points()?));
        for path in pinned.merged_dirs() {
            let Some((above, name)) = in_parent(&merged, path).filter(|_| !merged.contains_key(path)) else { continue };
            let Some(container) = above.container.below(name)? else { continue };
            let stash = above.stash.as_ref().map(|stash| stash.below(name)).transpose()?.flatten();
            merged.insert(path.to_owned(), MergedDirectory { container, stash, stage: None });
        }
        Ok((Self { merged, stay: Vec::new(), moved: None }, pinned))
    }

    /// Returns the merged directories, parents first.
    pub(super) fn merged(&self) -> impl DoubleEndedIterator<Item = (&Path, &MergedDirectory)> {
        self.merged.iter().map(|(path, directory)| (path.as_path(), directory))
    }

    pub(super) fn get(&self, path: &Path) -> Option<&MergedDirectory> {
        self.merged.get(path)
    }

    /// Returns the swapped directory itself.
    pub(super) fn base(&self) -> Option<&MergedDirectory> {
        self.get(Path::new(""))
    }

    /// Returns the merged directory that contains `path`, and its name in it.
    pub(super) fn above(&self, path: &Path) -> Option<(&MergedDirectory, OsString)> {
        in_parent(&self.merged, path).map(|(above, name)| (above, name.to_owned()))
    }

    /// Returns the first path that was not in place when everything was brought back.
    pub(super) fn moved(&self) -> Option<&Path> {
        self.moved.as_deref()
    }

    /// Brings back the directories and files that a command moved, and creates again the directories that it removed.
    /// Entries in their place are moved to `away`. Can be repeated if it fails.
    pub(super) fn reinstate(&mut self, away: &Directory) -> Result<(), SandboxError> {
        let paths: Vec<PathBuf> = self.merged.keys().cloned().collect();
        for path in paths {
            let Some((above, directory)) = in_parent(&self.merged, &path).zip(self.merged.get(&path)) else { continue };
            let (above, name) = above;
            if above.container.has(name, &directory.container)? {
                continue;
            }
            self.moved.get_or_insert_with(|| path.clone());
            if put(&directory.container, &above.container, name, away)? {
                continue;
            }
            let created = above.container.make(name, 0o755)?;
            if let Some(directory) = self.merged.get_mut(&path) {
                directory.container = created;
            }
        }
        for (path, pinned) in &self.stay {
            let Some((above, name)) = in_parent(&self.merged, path) else { continue };
            if above.container.has(name, pinned)? {
                continue;
            }
            self.moved.get_or_insert_with(|| path.clone());
            // A removed file cannot be restored: a program, or a directory of this build.
            put(pinned, &above.container, name, away)?;
        }
        Ok(())
    }
}

fn in_parent<'a, 'p>(
    merged: &'a BTreeMap<PathBuf, MergedDirectory>,
    path: &'p Path,
) -> Option<(&'a MergedDirectory, &'p OsStr)> {
    Some((merged.get(path.parent()?)?, path.file_name()?))
}

fn inode(directory: &Directory) -> Result<u64, SandboxError> {
    Ok(calls::status_of(directory).map_err(directory.own_error("look at"))?.inode)
}

/// Moves an open file from its current path to `name` in `to`, and an existing entry of that name to `away`. Reports
/// whether the file still had a path.
fn put(file: &impl AsFd, to: &Directory, name: &OsStr, away: &Directory) -> Result<bool, SandboxError> {
    // First, because the path to the file may lead through that entry.
    clear(to, name, away)?;
    let Some(now) = present_path(file) else { return Ok(false) };
    let (Some(parent), Some(old)) = (now.parent(), now.file_name()) else { return Ok(false) };
    Directory::open(parent)?.rename(old, to, name).map_err(SandboxError::errno("move back", now.as_path()))?;
    Ok(true)
}

/// Moves `name` of a directory to an unused name in `away`.
fn clear(directory: &Directory, name: &OsStr, away: &Directory) -> Result<(), SandboxError> {
    if directory.status(name)?.is_none() {
        return Ok(());
    }
    let mut number = 0_u32;
    let free = loop {
        let free = OsString::from(number.to_string());
        if away.status(&free)?.is_none() {
            break free;
        }
        number += 1;
    };
    directory.rename(name, away, &free).map_err(directory.error("move away", name))
}

/// Finds merged directories that a command moved: they are above the mount points that moved with them.
struct Moved<'a> {
    base: &'a Path,
    device: u64,
    mount_points: Vec<PathBuf>,
}

impl Moved<'_> {
    fn find(&self, wanted: u64) -> Result<Option<Directory>, SandboxError> {
        for above in self.mount_points.iter().flat_map(|point| point.ancestors().skip(1)) {
            if above == self.base || !above.starts_with(self.base) {
                continue;
            }
            match calls::status_at(CWD, above.as_os_str()) {
                Ok(found) if (found.device, found.inode) == (self.device, wanted) => {
                    return Directory::open(above).map(Some);
                }
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(SandboxError::errno("look at", above)(errno)),
            }
        }
        Ok(None)
    }
}
