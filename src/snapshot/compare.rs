//! The walk and the comparison.
//!
//! One thread walks what lies near the root; the directories it comes to at [`APART`] are compared by several, each against
//! its own part of the baseline. What is found does not depend on who found it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::iter::Peekable;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::diag::interrupt;
use crate::fs::{self, FileKind, Status, Step, Walk, sys};
use crate::rootfs::{Attributes, Change, ChangeKind, ContentHash, ContentHasher, Entries, Entry, Tree};

use super::error::SnapshotError;
use super::ignored::IgnoredPaths;

/// Bytes of a path that is too long which a message shows.
const SHOWN: usize = 60;
/// Bytes hashed at a time.
const CHUNK: usize = 128 * 1024;

/// How deep the directories lie that are compared on their own: as `usr/share/doc` does.
const APART: usize = 3;
/// Bytes that a path may have: what the kernel takes. A layer with a longer one could be unpacked nowhere.
const MAX_PATH: usize = 4095;
/// Beyond this number threads only wait for each other in the kernel.
const MAX_THREADS: usize = 8;

/// How to compare.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Paths that are not looked at, nor anything below them: neither new nor changed nor deleted.
    pub ignored: IgnoredPaths,
}

/// Compares the tree with its baseline. Changes come in the order of a layer: by path, component by component, with every
/// directory on the way listed before. The root directory is never listed, as BuildKit never lists it. Sockets do not
/// exist as far as images are concerned.
///
/// # Errors
/// Something in the tree cannot be read, or the build was asked to stop.
pub fn compare(tree: &Tree, options: &Options) -> Result<Vec<Change>, SnapshotError> {
    let mut top = Comparison::new(tree, options, Some(APART));
    top.below(Path::new(""))?;
    let Comparison { mut found, apart, .. } = top;
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(apart.len());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        // The threads take one directory after the other; one of them is this.
        let work = || {
            let mut comparison = Comparison::new(tree, options, None);
            while let Some(path) = apart.get(next.fetch_add(1, Ordering::Relaxed)) {
                comparison.below(path)?;
            }
            Ok::<_, SnapshotError>(comparison.found)
        };
        let started: Vec<_> = (1..threads)
            .map(|_| thread::Builder::new().name("snapshot".to_owned()).spawn_scoped(scope, work))
            .collect();
        let mut results = vec![work()];
        for thread in started {
            // Where there can be no more threads, those there are do all the work.
            let Ok(thread) = thread else { continue };
            results.push(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        for result in results {
            found.extend(result?);
        }
        Ok(with_parents(found))
    })
}

struct Comparison<'a> {
    tree: &'a Tree,
    ignored: &'a IgnoredPaths,
    /// What remains of the baseline. The walk takes the same order, so the two are merged.
    baseline: Peekable<Entries<'a>>,
    found: BTreeMap<PathBuf, ChangeKind>,
    /// Directories as deep as this are not entered.
    depth: Option<usize>,
    /// They are put aside here.
    apart: Vec<PathBuf>,
    /// Content of files with several names, so that each is read once.
    hashes: HashMap<(u64, u64), ContentHash>,
    buffer: Vec<u8>,
}

impl<'a> Comparison<'a> {
    fn new(tree: &'a Tree, options: &'a Options, depth: Option<usize>) -> Self {
        Self {
            tree,
            ignored: &options.ignored,
            baseline: tree.index().iter().peekable(),
            found: BTreeMap::new(),
            depth,
            apart: Vec::new(),
            hashes: HashMap::new(),
            buffer: Vec::new(),
        }
    }

    /// Compares everything below a directory.
    fn below(&mut self, path: &Path) -> Result<(), SnapshotError> {
        self.baseline = self.tree.index().below(path).peekable();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let opened = self.tree.root().open_at(path, flags);
        let directory = opened.map_err(|errno| self.error("open directory", path, errno))?;
        self.walk(Walk::new(self.tree.path(), path.to_owned(), directory.as_fd())?)?;
        // What the walk did not come to does not exist any more.
        while let Some((path, entry)) = self.baseline.peek() {
            let (path, entry): (&Path, &Entry) = (path, entry);
            self.removed(path, entry);
        }
        Ok(())
    }

    /// Compares what is in a directory, and in the directories in it.
    fn walk(&mut self, mut walk: Walk<'_>) -> Result<(), SnapshotError> {
        while let Some(step) = walk.step()? {
            interrupt::check()?;
            let Step::Name(name) = step else { continue };
            let path = walk.path().join(&name);
            if self.ignored.contains(&path) {
                self.entry(&path);
                self.skip_below(&path);
                continue;
            }
            let status = match Status::at(walk.directory(), &name) {
                Ok(status) if status.kind != FileKind::Socket => status,
                Ok(_) | Err(Errno::NOENT) => continue,
                Err(errno) => return Err(self.error("look at", &path, errno)),
            };
            if path.as_os_str().len() > MAX_PATH {
                let start = String::from_utf8_lossy(&path.as_os_str().as_bytes()[..SHOWN]).into_owned();
                return Err(SnapshotError::PathTooLong { start, limit: MAX_PATH });
            }
            if self.file(walk.directory(), &name, &path, &status)? {
                walk.enter(&name)?;
            }
        }
        Ok(())
    }

    /// Compares one file. Says whether it is a directory that has to be entered.
    fn file(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        status: &Status,
    ) -> Result<bool, SnapshotError> {
        let attributes = self.tree.plain_attributes(status);
        let entry = self.entry(path);
        let change = match entry {
            None => Some(ChangeKind::Added),
            Some(entry) => {
                let differs = self.differs(directory, name, path, status, &attributes, entry)?;
                differs.then_some(ChangeKind::Modified)
            }
        };
        if let Some(change) = change {
            self.found.insert(path.to_owned(), change);
        }
        if attributes.kind == FileKind::Directory {
            if self.depth.is_some_and(|depth| path.components().count() == depth) {
                self.apart.push(path.to_owned());
                self.baseline = self.tree.index().after(path).peekable();
                return Ok(false);
            }
            return Ok(true);
        }
        // Where a directory was, what it held is gone with it; no mark is needed for that.
        self.skip_below(path);
        Ok(false)
    }

    /// The baseline's entry for `path`. Entries before it, which the walk did not come by, are gone.
    fn entry(&mut self, path: &Path) -> Option<&'a Entry> {
        while let Some((next, entry)) = self.baseline.peek() {
            let (next, entry): (&'a Path, &'a Entry) = (next, entry);
            match next.cmp(path) {
                std::cmp::Ordering::Less => self.removed(next, entry),
                std::cmp::Ordering::Equal => {
                    self.baseline.next();
                    return Some(entry);
                }
                std::cmp::Ordering::Greater => break,
            }
        }
        None
    }

    /// Lists the topmost deleted path, which is next in the baseline, and passes over what was below it.
    fn removed(&mut self, path: &'a Path, entry: &Entry) {
        self.baseline.next();
        // A file that was left out cannot have been removed either.
        if !self.ignored.contains(path) && !entry.is_absent() {
            self.found.insert(path.to_owned(), ChangeKind::Removed);
        }
        self.skip_below(path);
    }

    fn skip_below(&mut self, path: &Path) {
        while self.baseline.next_if(|(next, _)| next.starts_with(path)).is_some() {}
    }

    /// Whether a file is not what the baseline says.
    fn differs(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        status: &Status,
        attributes: &Attributes,
        entry: &Entry,
    ) -> Result<bool, SnapshotError> {
        let owner = (attributes.uid, attributes.gid);
        if (attributes.kind, attributes.mode, owner) != (entry.kind(), entry.mode(), entry.owner()) {
            return Ok(true);
        }
        let same = attributes.mtime == entry.mtime() && entry.has_size(status.size);
        if !same && !entry.is_directory() {
            return Ok(true);
        }
        if entry.is_stamped(status) && !self.tree.index().is_fresh(entry) {
            return Ok(false);
        }
        let xattrs = match self.tree.attributes_at(directory, name, status) {
            Ok(attributes) => attributes.xattrs,
            Err(errno) => return Err(self.error("read attributes of", path, errno)),
        };
        if !entry.has_xattrs(&xattrs) {
            return Ok(true);
        }
        match entry.kind() {
            FileKind::File => Ok(self.content(directory, name, path, status)? != entry.content()),
            FileKind::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new())
                    .map_err(|errno| self.error("read link", path, errno))?;
                Ok(ContentHash::of(target.to_bytes()) != entry.content())
            }
            _ => Ok(false),
        }
    }

    fn content(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        status: &Status,
    ) -> Result<ContentHash, SnapshotError> {
        let identity = (status.device, status.inode);
        if let Some(hash) = self.hashes.get(&identity) {
            return Ok(*hash);
        }
        let mut file: File = sys::open_at(directory, name, OFlags::RDONLY | OFlags::NONBLOCK, 0)
            .map_err(|errno| self.error("open", path, errno))?
            .into();
        let mut hasher = ContentHasher::new();
        self.buffer.resize(CHUNK, 0);
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => hasher.update(&self.buffer[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fs::Error::new("read", self.tree.path().join(path), error).into()),
            }
            interrupt::check()?;
        }
        let hash = hasher.finish();
        if status.link_count > 1 {
            self.hashes.insert(identity, hash);
        }
        Ok(hash)
    }

    fn error(&self, verb: &'static str, path: &Path, errno: Errno) -> SnapshotError {
        fs::Error::new(verb, self.tree.path().join(path), errno).into()
    }
}

/// The changes in order, with the directories on the way to them.
fn with_parents(mut found: BTreeMap<PathBuf, ChangeKind>) -> Vec<Change> {
    let mut parents = BTreeSet::new();
    for path in found.keys() {
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            // Those above it come with it, so that deep directories cost no more than others.
            if found.contains_key(above) || !parents.insert(above.to_owned()) {
                break;
            }
        }
    }
    found.extend(parents.into_iter().map(|path| (path, ChangeKind::Parent)));
    found.into_iter().map(|(path, kind)| Change { path, kind }).collect()
}
