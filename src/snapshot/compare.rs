//! Walks a tree and compares it with its baseline.
//!
//! One thread walks the directories near the root. Directories at depth [`PARALLEL_DEPTH`] are compared by several
//! threads, each with its part of the baseline. The result does not depend on the threads.

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

/// The number of bytes of a path that an error shows.
const SHOWN_BYTES: usize = 60;
/// Bytes that are hashed at a time.
const CHUNK: usize = 128 * 1024;

/// The depth of directories that are compared in parallel: that of `usr/share/doc`.
const PARALLEL_DEPTH: usize = 3;
/// The most bytes of a path: the kernel's limit. A layer with a longer path cannot be unpacked anywhere.
const MAX_PATH: usize = 4095;
/// More threads only wait for each other in the kernel.
const MAX_THREADS: usize = 8;

/// Options of a comparison.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Paths that are skipped with everything below them: they are neither new nor changed nor deleted.
    pub ignored: IgnoredPaths,
}

/// Compares the tree with its baseline. Changes are in the order of a layer: by path, component by component, each
/// after its parent directories. The root directory is never included, as in BuildKit. Sockets are ignored, because
/// images cannot hold them.
///
/// # Errors
/// A file of the tree cannot be read, or the build was asked to stop.
pub fn compare(tree: &Tree, options: &Options) -> Result<Vec<Change>, SnapshotError> {
    let mut top = Comparison::new(tree, options, Some(PARALLEL_DEPTH));
    top.below(Path::new(""))?;
    let Comparison { mut found, deferred, .. } = top;
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(deferred.len());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        // The threads, including this one, take one directory after the other.
        let work = || {
            let mut comparison = Comparison::new(tree, options, None);
            while let Some(path) = deferred.get(next.fetch_add(1, Ordering::Relaxed)) {
                comparison.below(path)?;
            }
            Ok::<_, SnapshotError>(comparison.found)
        };
        let started: Vec<_> = (1..threads)
            .map(|_| thread::Builder::new().name("snapshot".to_owned()).spawn_scoped(scope, work))
            .collect();
        let mut results = vec![work()];
        for thread in started {
            // If no more threads can be started, the existing ones do the work.
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
    /// The rest of the baseline. It has the order of the walk, so the two are merged.
    baseline: Peekable<Entries<'a>>,
    found: BTreeMap<PathBuf, ChangeKind>,
    /// Directories at this depth are not entered.
    depth: Option<usize>,
    /// The directories that were not entered.
    deferred: Vec<PathBuf>,
    /// Hashes of files with several names, so that each is read once.
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
            deferred: Vec::new(),
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
        // Entries that the walk has not reached were deleted.
        while let Some((path, entry)) = self.baseline.peek() {
            let (path, entry): (&Path, &Entry) = (path, entry);
            self.removed(path, entry);
        }
        Ok(())
    }

    /// Compares the entries of a directory, recursively.
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
                let start = String::from_utf8_lossy(&path.as_os_str().as_bytes()[..SHOWN_BYTES]).into_owned();
                return Err(SnapshotError::PathTooLong { start, limit: MAX_PATH });
            }
            if self.file(walk.directory(), &name, &path, &status)? {
                walk.enter(&name)?;
            }
        }
        Ok(())
    }

    /// Compares one file. Returns whether it is a directory that has to be entered.
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
                self.deferred.push(path.to_owned());
                self.baseline = self.tree.index().after(path).peekable();
                return Ok(false);
            }
            return Ok(true);
        }
        // If a directory was replaced, its entries need no whiteouts.
        self.skip_below(path);
        Ok(false)
    }

    /// Returns the baseline's entry for `path`. Earlier entries, which the walk did not meet, were deleted.
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

    /// Records the topmost deleted path, which is next in the baseline, and skips the entries below it.
    fn removed(&mut self, path: &'a Path, entry: &Entry) {
        self.baseline.next();
        // A file that was omitted cannot have been removed.
        if !self.ignored.contains(path) && !entry.is_absent() {
            self.found.insert(path.to_owned(), ChangeKind::Removed);
        }
        self.skip_below(path);
    }

    fn skip_below(&mut self, path: &Path) {
        while self.baseline.next_if(|(next, _)| next.starts_with(path)).is_some() {}
    }

    /// Reports whether a file differs from the baseline.
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

/// Returns the changes in order, with their parent directories.
fn with_parents(mut found: BTreeMap<PathBuf, ChangeKind>) -> Vec<Change> {
    let mut parents = BTreeSet::new();
    for path in found.keys() {
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            // Its parents have been added with it, so that deep directories cost no more than others.
            if found.contains_key(above) || !parents.insert(above.to_owned()) {
                break;
            }
        }
    }
    found.extend(parents.into_iter().map(|path| (path, ChangeKind::Parent)));
    found.into_iter().map(|(path, kind)| Change { path, kind }).collect()
}
