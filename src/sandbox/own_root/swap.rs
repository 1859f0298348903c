//! Exchanging the entries of a directory with those of the stage's root, and back.
//!
//! The directory is `/`; tests give another one. Nothing is remembered of single moves: in each [`Phase`] it is clear
//! from where a thing is whose it is, so that an undo can itself be cut short and be begun again.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::held::Held;
use super::journal::{Journal, Left, Phase, Start};
use super::metadata::DirectoryMetadata;
use super::placed_mounts::PlacedMounts;
use super::relocate::{relocate, rename};
use super::stand_ins::StandIns;
use crate::sandbox::{ChangeTime, Mount, Restamp, SandboxError, in_root};

const STASH: &str = "own-root.stash";
const LEFTOVERS: &str = "own-root.leftovers";

/// Files that stay and whose content is put back, when they are no larger than this.
const MOST_CONTENT: u64 = 1024 * 1024;

/// Change times come from a clock that ticks at least this often. After a tick a file that a command changes cannot
/// have the change time any more that the swap gave it.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// What is exchanged with what.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The directory whose entries are exchanged: `/`.
    pub(super) base: PathBuf,
    /// The stage's root directory.
    pub(super) root: PathBuf,
    /// Holds the stash and the journal.
    pub(super) work_dir: PathBuf,
    /// What stays.
    pub(super) held: Held,
}

/// What tells a file that nobody touched since it was put in place.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    inode: u64,
    /// Before and after it was put there.
    before: ChangeTime,
    placed: ChangeTime,
}

/// A directory that has the stage's entries; gives it back when dropped at the latest.
#[derive(Debug)]
pub(super) struct Swapped {
    place: Place,
    start: Start,
    journal: Journal,
    stamps: HashMap<PathBuf, Stamp>,
    mounts: PlacedMounts,
    stand_ins: StandIns,
    left: bool,
}

/// Undoes what a dead run of this program left; says whether there was anything.
///
/// The stage it was building is of no use to anyone: what is left of it in place is removed. `mounts` are the mount
/// points of now; when the container was started again they are not those of then, and the runtime may have made new
/// ones among the stage's files.
pub(super) fn recover(base: &Path, work_dir: &Path, mounts: &[PathBuf]) -> Result<bool, SandboxError> {
    let Some(Left { journal, start, phase, placements }) = Journal::left_in(work_dir)? else { return Ok(false) };
    let leftovers = work_dir.join(LEFTOVERS);
    make_directory(&leftovers)?;
    let place = Place {
        base: base.to_owned(),
        root: leftovers.clone(),
        work_dir: work_dir.to_owned(),
        held: Held::new(base, start.stay.iter().chain(mounts).cloned()),
    };
    let start = Start { images: BTreeMap::new(), ..start };
    let mounts = PlacedMounts::left_by_dead_run(base, work_dir, placements)?;
    // Links that stood for files of the stage are of no more use than those.
    let stand_ins = StandIns::default();
    let mut swapped = Swapped { place, start, journal, stamps: HashMap::new(), mounts, stand_ins, left: true };
    swapped.undo(phase)?;
    std::fs::remove_dir_all(&leftovers).map_err(SandboxError::io("remove", leftovers))?;
    Ok(true)
}

impl Swapped {
    /// Puts the stage's entries in place of the container's. When that fails half-way, it is undone.
    pub(super) fn enter(place: Place) -> Result<Self, SandboxError> {
        let read =
            |path: PathBuf| DirectoryMetadata::read(&path).map_err(SandboxError::io("read the attributes of", path));
        let (mut directories, mut images) = (BTreeMap::new(), BTreeMap::new());
        for merged in place.held.merged() {
            directories.insert(merged.to_owned(), read(place.base.join(merged))?);
            if is_real_directory(&place.root, merged) {
                images.insert(merged.to_owned(), read(place.root.join(merged))?);
            }
        }
        let start = Start {
            root: place.root.clone(),
            stay: place.held.stay().map(|path| place.base.join(path)).collect(),
            directories,
            images,
            contents: contents(&place),
        };
        let stash = place.work_dir.join(STASH);
        make_directory(&stash)?;
        let journal = Journal::create(&place.work_dir, &start)?;
        let mounts = PlacedMounts::new(&place.work_dir);
        let stand_ins = StandIns::find(&place)?;
        let mut swapped = Self { place, start, journal, stamps: HashMap::new(), mounts, stand_ins, left: false };
        let entered = swapped.exchange();
        if let Err((phase, error)) = entered {
            // The first error says what went wrong; if undoing fails too, the journal stays for the next start.
            swapped.left = true;
            if let Err(second) = swapped.undo(Some(phase)) {
                tracing::error!("the root directory cannot be put back: {second}");
            }
            return Err(error);
        }
        std::thread::sleep(CLOCK_TICK);
        Ok(swapped)
    }

    fn exchange(&mut self) -> Result<(), (Phase, SandboxError)> {
        let stashing = |error| (Phase::Stashing, error);
        self.journal.begin(Phase::Stashing).map_err(stashing)?;
        self.stash().map_err(stashing)?;
        let placing = |error| (Phase::Placed, error);
        self.journal.begin(Phase::Placed).map_err(stashing)?;
        self.place().map_err(placing)?;
        self.stand_ins.put_up(&self.place).map_err(placing)?;
        self.dress().map_err(placing)
    }

    /// Moves the container's entries away.
    fn stash(&self) -> Result<(), SandboxError> {
        for merged in self.place.held.merged() {
            let (from, to) = (self.place.base.join(merged), self.stash_path(merged));
            for name in list(&from)? {
                if self.place.held.contains(&merged.join(&name)) {
                    continue;
                }
                make_directory(&to)?;
                relocate(&from.join(&name), &to.join(&name))?;
            }
        }
        Ok(())
    }

    /// Moves the stage's entries in.
    fn place(&mut self) -> Result<(), SandboxError> {
        let merged: Vec<PathBuf> = self.place.held.merged().map(Path::to_owned).collect();
        for merged in merged {
            let (from, to) = (self.place.root.join(&merged), self.place.base.join(&merged));
            if !is_real_directory(&self.place.root, &merged) {
                continue;
            }
            for name in list(&from)? {
                let path = merged.join(&name);
                if self.place.held.contains(&path) {
                    let is_directory = |path: PathBuf| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
                    if !(is_directory(from.join(&name)) && is_directory(to.join(&name))) {
                        tracing::debug!("/{} of the image is hidden by the container's own", path.display());
                    }
                    continue;
                }
                let before = stat(&from.join(&name))?;
                rename(&from.join(&name), &to.join(&name))
                    .map_err(SandboxError::errno("put in place", from.join(&name)))?;
                let placed = stat(&to.join(&name))?;
                let stamp = Stamp { inode: placed.ino(), before: change_time(&before), placed: change_time(&placed) };
                self.stamps.insert(path, stamp);
            }
        }
        Ok(())
    }

    /// Gives the merged directories the image's attributes.
    fn dress(&self) -> Result<(), SandboxError> {
        for merged in self.place.held.merged() {
            let path = self.place.base.join(merged);
            let metadata = match self.start.images.get(merged) {
                Some(metadata) => metadata.clone(),
                None => DirectoryMetadata::read(&path)
                    .map_err(SandboxError::io("read the attributes of", path.as_path()))?
                    .plain(),
            };
            metadata.apply(&path).map_err(SandboxError::io("set the attributes of", path))?;
        }
        Ok(())
    }

    /// Lays mounts over the stage's files, in their order. Sources are real paths of before the swap.
    pub(super) fn lay(&mut self, mounts: &[Mount]) -> Result<(), SandboxError> {
        if mounts.is_empty() {
            return Ok(());
        }
        self.mounts.lay(&self.place, &mut self.journal, mounts)?;
        std::thread::sleep(CLOCK_TICK);
        Ok(())
    }

    /// Gives everything back. Says which of the stage's entries nobody touched though their change time moved.
    pub(super) fn leave(&mut self) -> Result<Vec<Restamp>, SandboxError> {
        self.left = true;
        let mut restamped = Vec::new();
        for moved in self.mounts.take_away(&mut self.journal)? {
            let path = moved.path.strip_prefix(&self.place.base).unwrap_or(&moved.path).to_owned();
            match self.stamps.get_mut(&path) {
                Some(stamp) if stamp.placed == moved.before => stamp.placed = moved.after,
                Some(_) => {}
                None => restamped.push(Restamp { path, ..moved }),
            }
        }
        restamped.extend(self.collect()?);
        self.restore()?;
        Ok(restamped)
    }

    fn undo(&mut self, phase: Option<Phase>) -> Result<(), SandboxError> {
        if phase == Some(Phase::Placed) {
            self.mounts.take_away(&mut self.journal)?;
            self.collect()?;
            for (path, metadata) in &self.start.images {
                let path = self.place.root.join(path);
                metadata.apply(&path).map_err(SandboxError::io("set the attributes of", path))?;
            }
        }
        self.restore()
    }

    /// Moves the stage's entries, and what the command made beside them, into the stage's root.
    fn collect(&mut self) -> Result<Vec<Restamp>, SandboxError> {
        self.stand_ins.take_down(&self.place)?;
        let mut restamped = Vec::new();
        for merged in self.place.held.merged() {
            let from = self.place.base.join(merged);
            let metadata = match DirectoryMetadata::read(&from) {
                Ok(metadata) => metadata,
                // The command moved it away, with the mount point in it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!("the command moved {}, which holds mount points", from.display());
                    continue;
                }
                Err(error) => return Err(SandboxError::io("read the attributes of", from)(error)),
            };
            let names: Vec<OsString> =
                list(&from)?.into_iter().filter(|name| !self.place.held.contains(&merged.join(name))).collect();
            let existed = is_real_directory(&self.place.root, merged);
            if names.is_empty() && !existed {
                continue;
            }
            let to = self.destination(merged, &metadata)?;
            for name in names {
                let path = merged.join(&name);
                let (old, new) = (from.join(&name), to.join(&name));
                let stamp = match self.stamps.get(&path) {
                    Some(stamp) => {
                        let now = stat(&old)?;
                        (now.ino() == stamp.inode && change_time(&now) == stamp.placed).then_some(*stamp)
                    }
                    None => None,
                };
                relocate(&old, &new)?;
                if let Some(stamp) = stamp {
                    restamped.push(Restamp { path, before: stamp.before, after: change_time(&stat(&new)?) });
                }
            }
            // Not where a symbolic link led: that directory has attributes of its own.
            if to == self.place.root.join(merged) {
                metadata.apply(&to).map_err(SandboxError::io("set the attributes of", to.as_path()))?;
            }
        }
        Ok(restamped)
    }

    /// Where in the stage's root the new entries of a merged directory belong: there, or where the image's symbolic link
    /// of that name leads; made with the attributes it has now when the image lacks it.
    fn destination(&self, merged: &Path, metadata: &DirectoryMetadata) -> Result<PathBuf, SandboxError> {
        let wanted = self.place.root.join(merged);
        let to = in_root::resolve(&self.place.root, merged).map_err(SandboxError::io("resolve", wanted))?;
        match to.symlink_metadata() {
            Ok(found) if found.is_dir() => Ok(to),
            Ok(_) => Err(SandboxError::io("put new files into", to)(rustix::io::Errno::NOTDIR.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = merged.parent()
                    && to.parent().is_some_and(|above| above.symlink_metadata().is_err())
                {
                    let path = self.place.base.join(parent);
                    let of_parent =
                        DirectoryMetadata::read(&path).map_err(SandboxError::io("read the attributes of", path))?;
                    self.destination(parent, &of_parent)?;
                }
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(&to)
                    .map_err(SandboxError::io("create", to.as_path()))?;
                metadata.apply(&to).map_err(SandboxError::io("set the attributes of", to.as_path()))?;
                Ok(to)
            }
            Err(error) => Err(SandboxError::io("look at", to)(error)),
        }
    }

    /// Moves the container's entries back and gives its directories their attributes again.
    fn restore(&mut self) -> Result<(), SandboxError> {
        self.journal.begin(Phase::Restoring)?;
        for merged in self.place.held.merged() {
            let (from, to) = (self.stash_path(merged), self.place.base.join(merged));
            if from.symlink_metadata().is_err() {
                continue;
            }
            for name in list(&from)? {
                if !self.place.held.contains(&merged.join(&name)) {
                    relocate(&from.join(&name), &to.join(&name))?;
                }
            }
        }
        for (path, content) in &self.start.contents {
            let path = self.place.base.join(path);
            if std::fs::read(&path).is_ok_and(|now| now == *content) {
                continue;
            }
            tracing::debug!("the command changed {}; it is set back", path.display());
            if let Err(error) = std::fs::write(&path, content) {
                tracing::warn!("cannot set {} back to what it was: {error}", path.display());
            }
        }
        for (path, metadata) in &self.start.directories {
            let path = self.place.base.join(path);
            if path.symlink_metadata().is_ok() {
                metadata.apply(&path).map_err(SandboxError::io("set the attributes of", path))?;
            }
        }
        for merged in self.place.held.merged().rev() {
            let path = self.stash_path(merged);
            match std::fs::remove_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(SandboxError::io("remove", path)(error)),
            }
        }
        self.journal.finish()
    }

    fn stash_path(&self, merged: &Path) -> PathBuf {
        self.place.stash_path(merged)
    }
}

impl Place {
    /// Where an entry of the container's is while the stage's are in place.
    fn stash_path(&self, path: &Path) -> PathBuf {
        self.work_dir.join(STASH).join(path)
    }

    /// Where a file of the container's, given by its real path, is while the stage's are in place.
    pub(super) fn during_swap(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.base) {
            Ok(inside) if !self.held.keeps(inside) => self.stash_path(inside),
            _ => path.to_owned(),
        }
    }
}

impl Drop for Swapped {
    fn drop(&mut self) {
        if !self.left
            && let Err(error) = self.leave()
        {
            tracing::error!("the root directory cannot be given back: {error}");
        }
    }
}

/// The content of the small regular files that stay.
fn contents(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut contents = BTreeMap::new();
    for path in place.held.stay() {
        let outside = place.base.join(path);
        let in_etc = path.parent() == Some(Path::new("etc"));
        let is_small = outside.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() <= MOST_CONTENT);
        if !(in_etc && is_small) {
            continue;
        }
        match std::fs::read(&outside) {
            Ok(content) => {
                contents.insert(path.to_owned(), content);
            }
            Err(error) => tracing::debug!("cannot save {}: {error}", outside.display()),
        }
    }
    contents
}

/// Whether `path` below `root` is a directory, and every directory above it too: no symbolic links.
pub(super) fn is_real_directory(root: &Path, path: &Path) -> bool {
    let mut here = root.to_path_buf();
    let is_directory = |here: &Path| here.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    is_directory(&here)
        && path.iter().all(|name| {
            here.push(name);
            is_directory(&here)
        })
}

pub(super) fn list(directory: &Path) -> Result<Vec<OsString>, SandboxError> {
    let names: io::Result<Vec<OsString>> =
        std::fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let mut names = names.map_err(SandboxError::io("list", directory))?;
    names.sort_unstable();
    Ok(names)
}

fn make_directory(path: &Path) -> Result<(), SandboxError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(SandboxError::io("create", path))
}

fn stat(path: &Path) -> Result<std::fs::Metadata, SandboxError> {
    path.symlink_metadata().map_err(SandboxError::io("look at", path))
}

pub(super) fn change_time(metadata: &std::fs::Metadata) -> ChangeTime {
    ChangeTime { seconds: metadata.ctime(), nanoseconds: u32::try_from(metadata.ctime_nsec()).unwrap_or(0) }
}

#[cfg(test)]
mod tests;
