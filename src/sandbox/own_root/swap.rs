//! Exchanges the entries of a directory with those of the stage's root, and back.
//!
//! The directory is `/`; tests use a different one. Single moves are not recorded: in each [`Phase`] an entry's
//! location shows whose it is, so an undo can itself be interrupted and repeated. A failure on the way in or back is
//! undone from the journal at once, as `undo` does at the next start. If that fails too, the next start tries again.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::bytes::Bytes;
use super::calls;
use super::directory::Directory;
use super::frame::{Frame, MergedDirectory};
use super::journal::{Journal, Merged, Phase, Start};
use super::metadata::DirectoryMetadata;
use super::pinned_paths::PinnedPaths;
use super::placed_mounts::PlacedMounts;
use super::relocate::relocate;
use super::state::{self, StateDirectories};
use super::swap_target::SwapTarget;
use super::symlink_shims::SymlinkShims;
use super::undo;
use crate::fs::{FileKind, Root, Status};
use crate::sandbox::{ChangeTime, Mount, Restamp, SandboxError};

/// The largest pinned file whose content is restored.
const MAX_CONTENT_BYTES: u64 = 1024 * 1024;

/// Change times come from a clock that ticks at least this often. One tick after the swap, a changed file cannot have
/// the change time that the swap gave it.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// Identifies a file that was not touched since it was put in place.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    inode: u64,
    /// Change times before and after it was put in place.
    before: ChangeTime,
    placed: ChangeTime,
}

/// A directory that has the stage's entries; swapped back when dropped at the latest.
#[derive(Debug)]
pub(super) struct Swapped {
    target: SwapTarget,
    start: Start,
    journal: Journal,
    state: StateDirectories,
    frame: Frame,
    /// The image's attributes of merged directories, read before its entries moved out.
    image_metadata: BTreeMap<PathBuf, DirectoryMetadata>,
    stamps: HashMap<PathBuf, Stamp>,
    mounts: PlacedMounts,
    symlink_shims: SymlinkShims,
    left: bool,
}

impl Swapped {
    /// Puts the stage's entries in place of the container's. A failure is undone.
    pub(super) fn enter(target: SwapTarget) -> Result<Self, SandboxError> {
        let path = target.base.clone();
        let base = Directory::open(&path)?;
        // Before anything is created in it.
        let status = calls::status_of(&base).map_err(base.own_error("look at"))?;
        let metadata = DirectoryMetadata::of(&base)?;
        let before = Merged { inode: status.inode, metadata: metadata.clone() };
        let mut swapped = match Self::prepare(target, base, before) {
            Ok(swapped) => swapped,
            Err(error) => {
                // Nothing was moved, and only empty directories were created.
                if let Err(second) = Directory::open(&path).and_then(|base| state::remove(&base, Some(&metadata))) {
                    tracing::debug!("left for the next start to remove: {second}");
                }
                return Err(error);
            }
        };
        if let Err(error) = swapped.exchange() {
            swapped.left = true;
            undo_at_once(&path);
            return Err(error);
        }
        std::thread::sleep(CLOCK_TICK);
        Ok(swapped)
    }

    /// Opens and records everything, and moves nothing.
    fn prepare(target: SwapTarget, base: Directory, before: Merged) -> Result<Self, SandboxError> {
        let state = StateDirectories::make(&base)?;
        let frame = Frame::open(&target, base, state.stash.reopen()?)?;
        let (mut directories, mut image_metadata) = (BTreeMap::from([(PathBuf::new(), before)]), BTreeMap::new());
        for (path, directory) in frame.merged() {
            if path != Path::new("") {
                let container = &directory.container;
                let status = calls::status_of(container).map_err(container.own_error("look at"))?;
                let was = Merged { inode: status.inode, metadata: DirectoryMetadata::of(container)? };
                directories.insert(path.to_owned(), was);
            }
            if let Some(stage) = &directory.stage {
                image_metadata.insert(path.to_owned(), DirectoryMetadata::of(stage)?);
            }
        }
        let start = Start {
            stay: target.pinned.pinned().map(|path| target.base.join(path)).collect(),
            directories,
            contents: contents(&target.pinned, &frame)?,
        };
        let mounts = PlacedMounts::new(state.directory.path());
        let symlink_shims = SymlinkShims::find(&target, &frame)?;
        // Last: once the journal exists, its contents are undone.
        let journal = Journal::create(state.directory.reopen()?, &start)?;
        let stamps = HashMap::new();
        Ok(Self { target, start, journal, state, frame, image_metadata, stamps, mounts, symlink_shims, left: false })
    }

    fn exchange(&mut self) -> Result<(), SandboxError> {
        self.stash()?;
        self.journal.begin(Phase::Placed)?;
        self.place()?;
        self.symlink_shims.install(&self.target, &self.frame)?;
        self.apply_image_metadata()
    }

    /// Moves the container's entries into the stash.
    fn stash(&self) -> Result<(), SandboxError> {
        for (path, MergedDirectory { container, stash, .. }) in self.frame.merged() {
            let Some(stash) = stash else { continue };
            for name in container.names()? {
                if !self.target.pinned.is_immovable(&path.join(&name)) {
                    relocate(container, &name, stash, &name)?;
                }
            }
        }
        Ok(())
    }

    /// Moves the stage's entries in.
    fn place(&mut self) -> Result<(), SandboxError> {
        for (merged, MergedDirectory { container, stage, .. }) in self.frame.merged() {
            let Some(stage) = stage else { continue };
            for name in stage.names()? {
                let path = merged.join(&name);
                if self.target.pinned.is_immovable(&path) {
                    if self.frame.get(&path).is_none_or(|merged| merged.stage.is_none()) {
                        tracing::debug!("/{} of the image is hidden by the container's own", path.display());
                    }
                    continue;
                }
                let before = look(stage, &name)?;
                stage.rename(&name, container, &name).map_err(stage.error("put in place", &name))?;
                let placed = look(container, &name)?;
                let stamp = Stamp { inode: placed.inode, before: changed(&before), placed: changed(&placed) };
                self.stamps.insert(path, stamp);
            }
        }
        Ok(())
    }

    /// Sets the image's attributes on the merged directories.
    fn apply_image_metadata(&self) -> Result<(), SandboxError> {
        for (path, MergedDirectory { container, .. }) in self.frame.merged() {
            match self.image_metadata.get(path) {
                Some(metadata) => metadata.apply_to(container)?,
                None => DirectoryMetadata::of(container)?.plain().apply_to(container)?,
            }
        }
        Ok(())
    }

    /// Puts mounts over the stage's files, in their order. Sources are real paths from before the swap.
    pub(super) fn mount_all(&mut self, mounts: &[Mount]) -> Result<(), SandboxError> {
        if mounts.is_empty() {
            return Ok(());
        }
        self.mounts.place_all(&self.target, &mut self.journal, mounts)?;
        std::thread::sleep(CLOCK_TICK);
        Ok(())
    }

    /// Moves everything back. Returns the stage's entries that were not touched although their change time moved.
    ///
    /// # Errors
    /// The stage is incomplete. The container's own files are restored all the same, if possible.
    pub(super) fn leave(&mut self) -> Result<Vec<Restamp>, SandboxError> {
        self.left = true;
        let left = self.give_back();
        if left.is_err() && undo_at_once(&self.target.base) {
            tracing::info!("the container's own files are back in place");
        }
        left
    }

    fn give_back(&mut self) -> Result<Vec<Restamp>, SandboxError> {
        // Only the open descriptors lead to the moved directories, so a second attempt must be made here.
        self.frame.reinstate(&self.state.away).or_else(|_| self.frame.reinstate(&self.state.away))?;
        let mut restamped = Vec::new();
        for restamp in self.mounts.remove(&mut self.journal)? {
            let path = restamp.path.strip_prefix(&self.target.base).unwrap_or(&restamp.path).to_owned();
            match self.stamps.get_mut(&path) {
                Some(stamp) if stamp.placed == restamp.before => stamp.placed = restamp.after,
                Some(_) => {}
                None => restamped.push(Restamp { path, ..restamp }),
            }
        }
        if let Some(path) = self.frame.moved() {
            // The image's entries and the pod's cannot be distinguished any more.
            return Err(SandboxError::Displaced { path: self.target.base.join(path) });
        }
        restamped.extend(self.collect()?);
        undo::restore(&self.frame, &self.target.pinned, &self.start, &self.state, &mut self.journal)?;
        Ok(restamped)
    }

    /// Moves the stage's entries, and those that the command created, into the stage's root.
    fn collect(&mut self) -> Result<Vec<Restamp>, SandboxError> {
        self.symlink_shims.remove_and_reconcile(&self.target, &self.frame)?;
        let mut restamped = Vec::new();
        for (merged, MergedDirectory { container, stage, .. }) in self.frame.merged() {
            let metadata = DirectoryMetadata::of(container)?;
            let mut names = container.names()?;
            names.retain(|name| !self.target.pinned.is_immovable(&merged.join(name)));
            if names.is_empty() && stage.is_none() {
                continue;
            }
            let made;
            let to = match stage {
                Some(stage) => stage,
                None => {
                    made = self.destination(merged, container)?;
                    &made
                }
            };
            for name in names {
                let path = merged.join(&name);
                let stamp = match self.stamps.get(&path) {
                    Some(stamp) => {
                        let now = look(container, &name)?;
                        (now.inode == stamp.inode && changed(&now) == stamp.placed).then_some(*stamp)
                    }
                    None => None,
                };
                relocate(container, &name, to, &name)?;
                if let Some(stamp) = stamp {
                    restamped.push(Restamp { path, before: stamp.before, after: changed(&look(to, &name)?) });
                }
            }
            // Not the target of a symbolic link: that directory has its own attributes.
            if to.path() == self.target.root.join(merged) {
                metadata.apply_to(to)?;
            }
        }
        Ok(restamped)
    }

    /// Returns the directory of the stage's root for new entries of a merged directory that the image lacks: the target
    /// of the image's symbolic link of that name, or else a directory at the same path, created with the current
    /// attributes.
    fn destination(&self, merged: &Path, container: &Directory) -> Result<Directory, SandboxError> {
        let wanted = self.target.root.join(merged);
        let root = Root::open(&self.target.root)?;
        let inside = root.resolve(merged, true).map_err(SandboxError::errno("resolve", wanted.as_path()))?;
        let stage = self.frame.base().and_then(|base| base.stage.as_ref());
        let Some(stage) = stage else { return Err(SandboxError::errno("open", wanted)(Errno::NOENT)) };
        if let Some(found) = stage.walk(&inside)? {
            return Ok(found);
        }
        let above = match inside.parent().map(|parent| stage.walk(parent)).transpose()?.flatten() {
            Some(above) => above,
            None => {
                let above = merged.parent().and_then(|parent| Some((parent, self.frame.get(parent)?)));
                let Some((parent, above)) = above else {
                    return Err(SandboxError::errno("put new files into", wanted)(Errno::NOTDIR));
                };
                self.destination(parent, &above.container)?
            }
        };
        let Some(name) = inside.file_name() else { return Ok(above) };
        let made = above.make(name, 0o755).map_err(|error| match error {
            SandboxError::File(error) => SandboxError::io("put new files into", wanted)(error.source),
            error => error,
        })?;
        DirectoryMetadata::of(container)?.apply_to(&made)?;
        Ok(made)
    }
}

impl Drop for Swapped {
    fn drop(&mut self) {
        if !self.left
            && let Err(error) = self.leave()
        {
            tracing::error!("the stage's files cannot be moved back: {error}");
        }
    }
}

/// Undoes the rest of a swap, and reports whether it did. Its own failure is only logged, because the first error
/// explains the cause. The journal then stays for the next start.
fn undo_at_once(base: &Path) -> bool {
    match undo::recover(base) {
        Ok(true) => return true,
        Ok(false) => {}
        Err(error) => tracing::error!(
            "the container's own files are not all back in place, the next start tries again: {}",
            crate::diag::with_causes(&error)
        ),
    }
    false
}

/// Reads the content of the small regular files that are pinned.
fn contents(pinned: &PinnedPaths, frame: &Frame) -> Result<BTreeMap<PathBuf, Bytes>, SandboxError> {
    let mut contents = BTreeMap::new();
    for path in pinned.pinned().filter(|path| path.parent() == Some(Path::new("etc"))) {
        let Some((above, name)) = frame.above(path) else { continue };
        let status = above.container.status(&name)?;
        if !status.is_some_and(|found| found.kind == FileKind::File && found.size <= MAX_CONTENT_BYTES) {
            continue;
        }
        let file = match calls::open_file(&above.container, &name) {
            Ok(file) => file,
            // A command cannot change it either.
            Err(Errno::ACCESS | Errno::PERM) => continue,
            Err(errno) => return Err(above.container.error("open", &name)(errno)),
        };
        let most = usize::try_from(MAX_CONTENT_BYTES).unwrap_or(usize::MAX);
        let content = calls::read(&file, most).map_err(above.container.error("read", &name))?;
        contents.insert(path.to_owned(), Bytes(content));
    }
    Ok(contents)
}

fn look(directory: &Directory, name: &OsStr) -> Result<Status, SandboxError> {
    calls::status_at(directory, name).map_err(directory.error("look at", name))
}

fn changed(status: &Status) -> ChangeTime {
    ChangeTime { seconds: status.changed.seconds, nanoseconds: status.changed.nanoseconds }
}

#[cfg(test)]
mod tests;
