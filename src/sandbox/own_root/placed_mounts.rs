//! Puts the mounts of a `RUN` in place by renaming, and moves them back.
//!
//! The entry at the target waits in a directory next to the stash. Memory and files of secrets are created there too,
//! so every mount comes from a path and returns to it. That makes the undo of a crash simple: a source that is at its
//! origin has been moved back, and a hidden entry that still waits has not.
//!
//! Nothing can be renamed over a mount point of the pod; `cleared` empties a tmpfs there.
//!
//! The command may have moved or removed anything. So the directory above a target and the mount itself are kept open:
//! the first is the directory to work in, wherever its path leads now, and the second finds a mount that was moved.

use std::fs::{DirBuilder, File, Permissions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::cleared::{self, Cleared};
use super::journal::Journal;
use super::metadata::DirectoryMetadata;
use super::placement::{Placement, Way};
use super::state::MOUNTS;
use super::swap_target::SwapTarget;
use crate::fs::Root;
use crate::sandbox::mountinfo::{self, MountEntry};
use crate::sandbox::stubs::{Lifetime, StubKind, Stubs, modification_time, set_modification_time};
use crate::sandbox::{ChangeTime, Mount, MountContent, Obstacle, Restamp, SandboxError, in_root};

/// A mount that is in place, or partly so.
#[derive(Debug)]
struct Placed {
    placement: Placement,
    /// The directory above the target; `None` if it does not exist any more.
    parent: Option<File>,
    /// The mounted file; `None` after a crash.
    opened: Option<OwnedFd>,
    /// Change times of the entry at the target, before and after it was moved away.
    stamps: Option<(ChangeTime, ChangeTime)>,
}

/// The mounts of a command.
#[derive(Debug)]
pub(super) struct PlacedMounts {
    directory: PathBuf,
    placed: Vec<Placed>,
    stubs: Stubs,
}

impl PlacedMounts {
    /// Starts without mounts.
    pub(super) fn new(state: &Path) -> Self {
        Self { directory: state.join(MOUNTS), placed: Vec::new(), stubs: Stubs::default() }
    }

    /// Returns the mounts that a dead run of this program left in place.
    pub(super) fn left_by_dead_run(
        base: &Path,
        state: &Path,
        placements: Vec<Placement>,
    ) -> Result<Self, SandboxError> {
        let mut mounts = Self::new(state);
        for placement in placements {
            let parent = placement.target.parent().unwrap_or(base);
            let inside = parent.strip_prefix(base).unwrap_or(Path::new(""));
            // Nested mounts: their directory is found while the outer mounts are still in place.
            let real = in_root::resolve(base, inside).map_err(SandboxError::io("resolve", parent))?;
            let parent = if real == parent { File::open(parent).ok() } else { None };
            mounts.placed.push(Placed { placement, parent, opened: None, stamps: None });
        }
        Ok(mounts)
    }

    /// Puts `mounts` in place, in their order. After a failure, [`Self::remove`] moves back those that are in place.
    pub(super) fn place_all(
        &mut self,
        swap: &SwapTarget,
        journal: &mut Journal,
        mounts: &[Mount],
    ) -> Result<(), SandboxError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&self.directory)
            .map_err(SandboxError::io("create", self.directory.as_path()))?;
        let points = mountinfo::read()?;
        mounts.iter().enumerate().try_for_each(|(number, mount)| self.place(swap, journal, &points, number, mount))
    }

    fn place(
        &mut self,
        swap: &SwapTarget,
        journal: &mut Journal,
        points: &[MountEntry],
        number: usize,
        mount: &Mount,
    ) -> Result<(), SandboxError> {
        let written = Path::new(&mount.target);
        let target =
            in_root::resolve(&swap.base, written).map_err(SandboxError::io("find the mount point", written))?;
        let refuse = |reason| SandboxError::MountPoint { target: written.to_owned(), reason };
        if target == swap.base {
            return Err(refuse("it is the root directory"));
        }
        let is_mount_point = |path: &Path| points.iter().any(|point| point.mount_point == path);
        if is_mount_point(&target) {
            if let Some(reason) = obstacle(points, &target, matches!(mount.content, MountContent::Memory { .. })) {
                return Err(refuse(reason));
            }
            return self.clear(journal, number, target);
        }
        let mut stays = swap.pinned.pinned().map(|path| swap.base.join(path));
        if stays.any(|path| path.starts_with(&target) && !is_mount_point(&path)) {
            return Err(refuse("it contains files of this build"));
        }
        let origin = match &mount.content {
            MountContent::Bind { source } => swap.during_swap(source),
            content => {
                let origin = self.directory.join(number.to_string());
                make(&origin, content)?;
                origin
            }
        };
        let point_of = |path: &Path| mountinfo::mount_of(points, path).map(|point| point.mount_point.as_path());
        let way = self.way(origin, |origin| point_of(origin) == point_of(&target))?;
        let exists = target.symlink_metadata().is_ok();
        if exists && point_of(&target) != point_of(&self.directory) {
            return Err(refuse("the existing file is on a mount of the container"));
        }
        let Some(parent) = target.parent() else { return Err(refuse("it is the root directory")) };
        if parent.symlink_metadata().is_err() {
            let inside = parent.strip_prefix(&swap.base).unwrap_or(parent);
            self.stubs.create(&Root::open(&swap.base)?, inside, StubKind::Directory, Lifetime::Command)?;
        }
        let parent = Some(File::open(parent).map_err(SandboxError::io("open", parent))?);
        let placement = Placement { hidden: self.directory.join(format!("{number}.hidden")), target, way };
        journal.mount(&placement)?;
        self.placed.push(Placed { placement, parent, opened: None, stamps: None });
        self.placed.last_mut().map_or(Ok(()), |placed| placed.put(exists))
    }

    /// Empties a mount of the pod.
    fn clear(&mut self, journal: &mut Journal, number: usize, target: PathBuf) -> Result<(), SandboxError> {
        let cleared = Cleared::look(&target)?;
        let hidden = self.directory.join(format!("{number}.hidden"));
        let placement = Placement { target, hidden, way: Way::Clear(cleared) };
        journal.mount(&placement)?;
        self.placed.push(Placed { placement, parent: None, opened: None, stamps: None });
        self.placed.last_mut().map_or(Ok(()), |placed| placed.put(false))
    }

    /// Chooses how the file at `origin` gets to its target. `is_near` reports whether a rename can do it.
    fn way(&self, origin: PathBuf, is_near: impl Fn(&Path) -> bool) -> Result<Way, SandboxError> {
        // The same cache may be mounted in two places.
        let moved = self.placed.iter().find_map(|placed| match &placed.placement.way {
            Way::Move { origin: moved, .. } => {
                let rest = origin.strip_prefix(moved).ok()?;
                Some(placed.placement.target.join(rest).components().collect())
            }
            Way::Link { .. } | Way::Clear(_) => None,
        });
        if let Some(to) = moved {
            return Ok(Way::Link { to });
        }
        if !is_near(&origin) {
            return Ok(Way::Link { to: origin });
        }
        let found = origin.symlink_metadata().map_err(SandboxError::io("look at", origin.as_path()))?;
        let directory = if found.is_dir() { Some(DirectoryMetadata::read(&origin)?) } else { None };
        Ok(Way::Move { origin, directory })
    }

    /// Moves everything back. Returns the paths that look changed because they were hidden.
    pub(super) fn remove(&mut self, journal: &mut Journal) -> Result<Vec<Restamp>, SandboxError> {
        let mut restamped = Vec::new();
        while let Some(mut placed) = self.placed.pop() {
            // Inside another mount, its path is not a path of the root.
            let is_nested =
                self.placed.iter().any(|outer| placed.placement.target.starts_with(&outer.placement.target));
            let restamp = placed.remove()?;
            restamped.extend(restamp.filter(|_| !is_nested));
        }
        self.stubs.remove()?;
        journal.unmounted();
        match std::fs::remove_dir_all(&self.directory) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(SandboxError::io("remove", self.directory.as_path())(error)),
        }
        Ok(restamped)
    }
}

/// Returns the mount points of the pod over which nothing can be mounted.
pub(super) fn obstacles(points: &[MountEntry]) -> Vec<Obstacle> {
    let both = points.iter().flat_map(|point| [(&point.mount_point, false), (&point.mount_point, true)]);
    both.filter_map(|(target, is_memory)| {
        let reason = obstacle(points, target, is_memory)?;
        Some(Obstacle { target: target.clone(), is_memory, reason })
    })
    .collect()
}

/// Returns the reason why nothing can be mounted at `target`, if it is such a mount point of the pod.
fn obstacle(points: &[MountEntry], target: &Path, is_memory: bool) -> Option<&'static str> {
    match is_memory {
        true => cleared::obstacle(points, target),
        false => points.iter().any(|point| point.mount_point == target).then_some("the container has a mount there"),
    }
}

/// Creates the content of a mount that has no source.
fn make(path: &Path, content: &MountContent) -> Result<(), SandboxError> {
    let made = match content {
        MountContent::Bind { .. } => Ok(()),
        MountContent::Memory { size } => {
            if size.is_some() {
                tracing::info!("own-root isolation does not enforce the size of a tmpfs");
            }
            DirBuilder::new()
                .mode(0o700)
                .create(path)
                .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o1777)))
        }
        MountContent::File { content, mode, uid, gid } => {
            File::options().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
                file.write_all(content.reveal())?;
                rustix::fs::fchown(&file, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))?;
                file.set_permissions(Permissions::from_mode(mode & 0o7777))
            })
        }
    };
    made.map_err(SandboxError::io("create", path))
}

impl Placed {
    fn put(&mut self, exists: bool) -> Result<(), SandboxError> {
        let Placement { target, hidden, way } = &self.placement;
        let time = self.parent.as_ref().map(modification_time).transpose();
        let time = time.map_err(SandboxError::errno("look at the directory of", target.as_path()))?;
        if exists {
            let before = change_time_of(target)?;
            rename(target, hidden)?;
            self.stamps = Some((before, change_time_of(hidden)?));
        }
        match way {
            Way::Move { origin, .. } => {
                keeping_time_above(origin, || rename(origin, target))?;
                let opened = rustix::fs::open(target, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
                self.opened = Some(opened.map_err(SandboxError::errno("open", target.as_path()))?);
            }
            Way::Link { to } => {
                tracing::info!("{} is a symbolic link to {} while the command runs", target.display(), to.display());
                std::os::unix::fs::symlink(to, target).map_err(SandboxError::io("create", target.as_path()))?;
            }
            Way::Clear(cleared) => cleared.clear(target)?,
        }
        if let (Some(parent), Some(time)) = (&self.parent, time) {
            set_modification_time(parent, time)
                .map_err(SandboxError::errno("set the time of the directory of", target.as_path()))?;
        }
        Ok(())
    }

    fn remove(&mut self) -> Result<Option<Restamp>, SandboxError> {
        let Placement { target, hidden, way } = &self.placement;
        if let Way::Clear(cleared) = way {
            return cleared.restore(target).map(|()| None);
        }
        let parent = self.parent.as_ref().zip(target.file_name());
        let time = parent.map(|(parent, _)| modification_time(parent)).transpose();
        let time = time.map_err(SandboxError::errno("look at the directory of", target.as_path()))?;
        let is_hiding = hidden.symlink_metadata().is_ok();
        let was_placed = match way {
            Way::Move { origin, directory } if origin.symlink_metadata().is_err() => {
                keeping_time_above(origin, || self.bring_back(origin, directory.as_ref()))?;
                true
            }
            Way::Move { .. } => false,
            Way::Link { to } => parent.is_some_and(|(parent, name)| {
                rustix::fs::readlinkat(parent, name, Vec::new())
                    .is_ok_and(|link| link.as_bytes() == to.as_os_str().as_encoded_bytes())
            }),
            Way::Clear(_) => false,
        };
        let mut restamp = None;
        if let Some((parent, name)) = parent {
            if is_hiding || was_placed {
                // The link, or an entry that the command put in place of the mount.
                clear(parent, Path::new(name), &hidden.with_extension("replaced"))
                    .map_err(SandboxError::errno("clear", target.as_path()))?;
            }
            if is_hiding {
                let untouched = self.stamps.filter(|(_, away)| change_time_of(hidden).is_ok_and(|now| now == *away));
                match rustix::fs::renameat(CWD, hidden, parent, name) {
                    Ok(()) => {}
                    // The command removed the directory above, and with it the hidden entry.
                    Err(Errno::NOENT) => tracing::debug!("{} is gone", target.display()),
                    Err(errno) => return Err(SandboxError::errno("put back", target.as_path())(errno)),
                }
                if let (Some((before, _)), Ok(after)) = (untouched, change_time_of(target)) {
                    restamp = Some(Restamp { path: target.clone(), before, after });
                }
            }
            if let Some(time) = time {
                set_modification_time(parent, time)
                    .map_err(SandboxError::errno("set the time of the directory of", target.as_path()))?;
            }
        }
        Ok(restamp)
    }

    /// Moves the mounted file back to `origin`, from wherever the command left it.
    fn bring_back(&self, origin: &Path, directory: Option<&DirectoryMetadata>) -> Result<(), SandboxError> {
        let target = &self.placement.target;
        let at_target = self.parent.as_ref().zip(target.file_name());
        let found = at_target.and_then(|(parent, name)| {
            rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|found| (parent, name, found))
        });
        let is_it = |found: &rustix::fs::Stat| {
            self.opened
                .as_ref()
                .and_then(|opened| rustix::fs::fstat(opened).ok())
                .map(|it| (it.st_dev, it.st_ino) == (found.st_dev, found.st_ino))
        };
        let cannot = |errno| SandboxError::errno("remove the mount", target.as_path())(errno);
        // After a crash it is recognized by its path only.
        if let Some((parent, name, _)) = found.as_ref().filter(|(_, _, found)| {
            is_it(found).unwrap_or(true)
                && FileType::from_raw_mode(found.st_mode).is_dir() == directory.is_some()
                && !FileType::from_raw_mode(found.st_mode).is_symlink()
        }) {
            return rustix::fs::renameat(parent, *name, CWD, origin).map_err(cannot);
        }
        if let Some(opened) = &self.opened
            && let Ok(moved) = std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()))
            && rustix::fs::lstat(&moved).is_ok_and(|found| is_it(&found) == Some(true))
        {
            tracing::debug!("the command moved {} to {}", target.display(), moved.display());
            return rename(&moved, origin);
        }
        let Some(metadata) = directory else {
            tracing::debug!("the command removed {}", target.display());
            return Ok(());
        };
        // A directory that the command created in its place is moved instead.
        if let Some((parent, name, _)) = found.filter(|(_, _, found)| FileType::from_raw_mode(found.st_mode).is_dir()) {
            return rustix::fs::renameat(parent, name, CWD, origin).map_err(cannot);
        }
        tracing::debug!("the command removed {}; its source is created again", target.display());
        DirBuilder::new().mode(0o700).create(origin).map_err(SandboxError::io("create", origin))?;
        metadata.apply(origin)
    }
}

/// Moves the entry `name` of `directory` to `away`, which is removed later with everything in it.
fn clear(directory: &File, name: &Path, away: &Path) -> rustix::io::Result<()> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if FileType::from_raw_mode(found.st_mode).is_dir() => {
            rustix::fs::renameat(directory, name, CWD, away)
        }
        Ok(_) => rustix::fs::unlinkat(directory, name, AtFlags::empty()),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), SandboxError> {
    rustix::fs::rename(from, to).map_err(SandboxError::errno("move", from))
}

/// Runs `work`, which changes the directory of `path`, and restores that directory's modification time.
fn keeping_time_above(path: &Path, work: impl FnOnce() -> Result<(), SandboxError>) -> Result<(), SandboxError> {
    let Some(above) = path.parent() else { return work() };
    let directory = File::open(above).map_err(SandboxError::io("open", above))?;
    let time = modification_time(&directory).map_err(SandboxError::errno("look at", above))?;
    work()?;
    set_modification_time(&directory, time).map_err(SandboxError::errno("set the time of", above))
}

fn change_time_of(path: &Path) -> Result<ChangeTime, SandboxError> {
    path.symlink_metadata().map(|found| ChangeTime::of(&found)).map_err(SandboxError::io("look at", path))
}

#[cfg(test)]
mod tests;
