//! The index of a tree: the state of every path when it was last written or compared.
//!
//! It is the baseline of a snapshot. It is built while layers are unpacked, so that no walk is needed before the first
//! step. It takes about 280 bytes for each path, and counts them, because the authors of layers choose names and
//! attributes.

use std::collections::{BTreeMap, HashSet, btree_map};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::fs::xattr::Xattrs;
use crate::fs::{FileKind, Status, Timestamp};

use super::attributes::Attributes;
use super::budget::{path_size, xattrs_size};

/// The largest granularity of file times: a second change within this time may not change the time. Kernels tick every
/// 10 ms at the slowest; this is twice as long.
const TICK_MILLISECONDS: u32 = 20;

/// Bytes that a path takes in addition to its name: the entry, and its share of the map's nodes, which are two thirds
/// full.
const EACH: usize = 190;

/// The hash of a file's content or of a symbolic link's target (XXH3, 128 bits). It is fast, and a collision only
/// affects the image of its own author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ContentHash([u64; 2]);

impl ContentHash {
    /// Returns the hash of the content.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from(xxhash_rust::xxh3::xxh3_128(bytes))
    }
}

impl From<u128> for ContentHash {
    fn from(hash: u128) -> Self {
        let [low, high] = [hash & u128::from(u64::MAX), hash >> 64];
        Self([u64::try_from(high).unwrap_or_default(), u64::try_from(low).unwrap_or_default()])
    }
}

/// Computes a [`ContentHash`] step by step.
#[derive(Clone, Default)]
pub struct ContentHasher(Xxh3);

impl std::fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentHasher")
    }
}

impl ContentHasher {
    /// Starts without content.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the hash of all bytes.
    pub fn finish(&self) -> ContentHash {
        self.0.digest128().into()
    }
}

/// A path of the index: the image's attributes, and the status by which the file is recognized as unchanged. It is
/// packed, because there is one for every file of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    xattrs: Option<Box<Xattrs>>,
    device: u64,
    inode: u64,
    /// The size; for a device node, its numbers.
    size: u64,
    content: ContentHash,
    mtime: PackedTime,
    changed: PackedTime,
    uid: u32,
    gid: u32,
    layer: u32,
    mode: u16,
    kind: Kind,
    linked: bool,
}

/// [`FileKind`] without device numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

/// A [`Timestamp`] with an alignment of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PackedTime {
    seconds: [u32; 2],
    nanoseconds: u32,
}

impl From<Timestamp> for PackedTime {
    fn from(time: Timestamp) -> Self {
        let [a, b, c, d, e, f, g, h] = time.seconds.to_ne_bytes();
        let seconds = [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])];
        Self { seconds, nanoseconds: time.nanoseconds }
    }
}

impl From<PackedTime> for Timestamp {
    fn from(time: PackedTime) -> Self {
        let [[a, b, c, d], [e, f, g, h]] = time.seconds.map(u32::to_ne_bytes);
        Self { seconds: i64::from_ne_bytes([a, b, c, d, e, f, g, h]), nanoseconds: time.nanoseconds }
    }
}

/// The device of files that are not on disk.
const NOWHERE: u64 = u64::MAX;

impl Entry {
    /// Returns an entry for the current state of a file.
    pub(crate) fn new(attributes: Attributes, status: &Status, content: ContentHash, layer: u32) -> Self {
        let Attributes { kind, mode, uid, gid, mtime, xattrs } = attributes;
        let numbers = |major: u32, minor: u32| u64::from(major) << 32 | u64::from(minor);
        let (kind, size) = match kind {
            FileKind::File => (Kind::File, status.size),
            FileKind::Directory => (Kind::Directory, status.size),
            FileKind::Symlink => (Kind::Symlink, status.size),
            FileKind::CharDevice { major, minor } => (Kind::CharDevice, numbers(major, minor)),
            FileKind::BlockDevice { major, minor } => (Kind::BlockDevice, numbers(major, minor)),
            FileKind::Fifo => (Kind::Fifo, 0),
            FileKind::Socket => (Kind::Socket, 0),
        };
        Self {
            xattrs: (!xattrs.is_empty()).then(|| Box::new(xattrs)),
            device: status.device,
            inode: status.inode,
            size,
            content,
            mtime: mtime.into(),
            changed: status.changed.into(),
            uid,
            gid,
            layer,
            mode: u16::try_from(mode & 0o7777).unwrap_or(0),
            kind,
            linked: is_linked(status),
        }
    }

    /// Returns an entry for a regular file that is not on disk. All its names share the `number`.
    pub(crate) fn absent(attributes: Attributes, size: u64, content: ContentHash, number: u64, layer: u32) -> Self {
        let Attributes { kind: _, mode, uid, gid, mtime: modified, .. } = attributes;
        let never = Timestamp::from_seconds(i64::MIN);
        let status = Status {
            kind: FileKind::File,
            mode,
            uid,
            gid,
            size,
            modified,
            changed: never,
            born: never,
            device: NOWHERE,
            inode: number,
            link_count: 1,
        };
        Self::new(attributes, &status, content, layer)
    }

    /// Returns the entry of an absent file with other attributes, or for a name in a different layer.
    pub(crate) fn with_attributes(&self, attributes: Attributes, layer: u32) -> Self {
        Self::absent(attributes, self.size, self.content, self.inode, layer)
    }

    /// Reports whether the file is not on disk.
    pub(crate) fn is_absent(&self) -> bool {
        self.device == NOWHERE
    }

    /// Returns the attributes in the image.
    pub fn attributes(&self) -> Attributes {
        Attributes {
            kind: self.kind(),
            mode: self.mode(),
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime(),
            xattrs: self.xattrs.as_deref().cloned().unwrap_or_default(),
        }
    }

    /// Returns the kind of the file.
    pub fn kind(&self) -> FileKind {
        let numbers = || (u32::try_from(self.size >> 32), u32::try_from(self.size & u64::from(u32::MAX)));
        match (self.kind, numbers()) {
            (Kind::Directory, _) => FileKind::Directory,
            (Kind::Symlink, _) => FileKind::Symlink,
            (Kind::CharDevice, (Ok(major), Ok(minor))) => FileKind::CharDevice { major, minor },
            (Kind::BlockDevice, (Ok(major), Ok(minor))) => FileKind::BlockDevice { major, minor },
            (Kind::Fifo, _) => FileKind::Fifo,
            (Kind::Socket, _) => FileKind::Socket,
            (Kind::File | Kind::CharDevice | Kind::BlockDevice, _) => FileKind::File,
        }
    }

    /// Reports whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    pub(crate) fn mode(&self) -> u32 {
        self.mode.into()
    }

    pub(crate) fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    pub(crate) fn mtime(&self) -> Timestamp {
        self.mtime.into()
    }

    /// Returns the size of the content; of a link, of its target.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn set_mtime(&mut self, mtime: Timestamp) {
        self.mtime = mtime.into();
    }

    /// Returns the hash of the content or of the link's target.
    pub(crate) fn content(&self) -> ContentHash {
        self.content
    }

    /// Returns the number of the layer that last wrote the path.
    pub(crate) fn layer(&self) -> u32 {
        self.layer
    }

    /// Reports whether the file had other names.
    pub(crate) fn linked(&self) -> bool {
        self.linked
    }

    /// Reports whether a file or link has this size; other kinds have none.
    pub(crate) fn has_size(&self, size: u64) -> bool {
        !matches!(self.kind, Kind::File | Kind::Symlink) || self.size == size
    }

    /// Reports whether the extended attributes are equal.
    pub(crate) fn has_xattrs(&self, xattrs: &Xattrs) -> bool {
        self.xattrs.as_deref().map_or(xattrs.is_empty(), |own| own == xattrs)
    }

    fn xattrs_size(&self) -> usize {
        self.xattrs.as_deref().map_or(0, xattrs_size)
    }

    /// Returns the identity, which names of one file share.
    pub(crate) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Returns the change time on disk.
    pub(crate) fn changed(&self) -> Timestamp {
        self.changed.into()
    }

    /// Updates the inode, its change time and whether it has other names; nothing else changes.
    pub(crate) fn restamp(&mut self, status: &Status) {
        self.device = status.device;
        self.inode = status.inode;
        self.changed = status.changed.into();
        self.linked = is_linked(status);
    }

    /// Makes the next comparison read the file's content, because the entry was never compared with the disk.
    pub(crate) fn distrust(&mut self) {
        self.changed = Timestamp::from_seconds(i64::MIN).into();
    }

    /// Reports whether the file on disk is the same inode and unchanged.
    pub(crate) fn is_stamped(&self, status: &Status) -> bool {
        (self.device, self.inode, self.changed) == (status.device, status.inode, status.changed.into())
    }
}

fn is_linked(status: &Status) -> bool {
    status.kind != FileKind::Directory && status.link_count > 1
}

/// The baseline: every path of the tree except the root.
#[derive(Debug, Clone, Default)]
pub struct Index {
    entries: BTreeMap<Box<Path>, Entry>,
    /// Bytes of memory that the entries take, roughly.
    memory: usize,
    complete: Timestamp,
}

impl Index {
    /// Returns the entry of a path without symbolic links.
    pub fn get(&self, path: &Path) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Returns all entries: parents before children, siblings by the bytes of their names.
    pub fn iter(&self) -> Entries<'_> {
        self.below(Path::new(""))
    }

    /// Returns the bytes of the regular files on disk; a file with several names counts once.
    pub fn content_size(&self) -> u64 {
        let mut linked = HashSet::new();
        let present = self.entries.values().filter(|entry| entry.kind == Kind::File && !entry.is_absent());
        present.filter(|entry| !entry.linked || linked.insert(entry.identity())).map(Entry::size).sum()
    }

    /// Returns the number of paths.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Reports whether there are no paths.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the bytes of memory that it takes, roughly.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    pub(crate) fn insert(&mut self, path: PathBuf, entry: Entry) {
        let (path_size, added) = (path_size(&path, EACH), entry.xattrs_size());
        self.memory += added;
        match self.entries.insert(path.into_boxed_path(), entry) {
            Some(replaced) => self.memory = self.memory.saturating_sub(replaced.xattrs_size()),
            None => self.memory += path_size,
        }
    }

    /// Returns the entry of a path for changes, except of its extended attributes.
    pub(crate) fn get_mut(&mut self, path: &Path) -> Option<&mut Entry> {
        self.entries.get_mut(path)
    }

    pub(crate) fn remove(&mut self, path: &Path) -> Option<Entry> {
        let removed = self.entries.remove(path)?;
        self.memory = self.memory.saturating_sub(path_size(path, EACH) + removed.xattrs_size());
        Some(removed)
    }

    /// Returns the paths below `path`, parents before children.
    pub(crate) fn below(&self, path: &Path) -> Entries<'_> {
        // Paths below a directory follow it directly, because paths are compared component by component.
        let end = after_descendants(path);
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let start = if path.as_os_str().is_empty() { Bound::Unbounded } else { Bound::Excluded(path) };
        Entries(self.entries.range::<Path, _>((start, end)))
    }

    /// Returns the paths after `path` and everything below it.
    pub(crate) fn after(&self, path: &Path) -> Entries<'_> {
        let start = after_descendants(path).unwrap_or_default();
        Entries(self.entries.range::<Path, _>((Bound::Included(start.as_path()), Bound::Unbounded)))
    }

    /// Removes the paths below `path`.
    pub(crate) fn remove_below(&mut self, path: &Path) {
        let below: Vec<PathBuf> = self.below(path).map(|(path, _)| path.to_owned()).collect();
        for path in below {
            self.remove(&path);
        }
    }

    /// Records that the baseline now equals the disk.
    pub(crate) fn set_complete(&mut self) {
        self.complete = Timestamp::now();
    }

    /// Reports whether an equal status proves nothing, because the file changed in the same tick of the clock in which
    /// the baseline was completed.
    pub(crate) fn is_fresh(&self, entry: &Entry) -> bool {
        Timestamp::from(entry.changed) >= self.complete.minus_milliseconds(TICK_MILLISECONDS)
    }
}

/// Paths and entries in the order of the index.
#[derive(Debug, Clone)]
pub struct Entries<'a>(btree_map::Range<'a, Box<Path>, Entry>);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a Path, &'a Entry);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(path, entry)| (path.as_ref(), entry))
    }
}

impl DoubleEndedIterator for Entries<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(path, entry)| (path.as_ref(), entry))
    }
}

/// Returns the first path after everything below `path`; `None` for the root.
fn after_descendants(path: &Path) -> Option<PathBuf> {
    // The smallest name greater than `name` is `name` with a zero byte appended, which no file name contains.
    let mut name = path.file_name()?.to_owned();
    name.push("\0");
    Some(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(paths: &[&str]) -> Index {
        let status = Status {
            kind: FileKind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            modified: Timestamp::default(),
            changed: Timestamp::default(),
            born: Timestamp::default(),
            device: 0,
            inode: 0,
            link_count: 1,
        };
        let mut index = Index::default();
        for path in paths {
            let attributes = Attributes::shown(&status, Xattrs::new());
            index.insert(PathBuf::from(path), Entry::new(attributes, &status, ContentHash::default(), 0));
        }
        index
    }

    fn below(index: &Index, path: &str) -> Vec<String> {
        index.below(Path::new(path)).map(|(path, _)| path.display().to_string()).collect()
    }

    #[test]
    fn descendants_are_a_range() {
        let mut index = index(&["a", "a b", "a/b", "a/b/c", "a/b.d", "a-", "b", "a/b!"]);
        assert_eq!(below(&index, "a"), ["a/b", "a/b/c", "a/b!", "a/b.d"]);
        assert_eq!(below(&index, "a/b"), ["a/b/c"]);
        assert_eq!(below(&index, "").len(), 8);
        assert_eq!(below(&index, "c").len(), 0);
        let after = |path: &str| index.after(Path::new(path)).map(|(path, _)| path.to_owned()).collect::<Vec<_>>();
        assert_eq!(after("a"), ["a b", "a-", "b"].map(PathBuf::from));
        assert_eq!(after("a/b"), ["a/b!", "a/b.d", "a b", "a-", "b"].map(PathBuf::from));
        index.remove_below(Path::new("a"));
        assert_eq!(below(&index, ""), ["a", "a b", "a-", "b"]);
    }

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<(Box<Path>, Entry)>() <= 104, "{}", size_of::<(Box<Path>, Entry)>());
    }

    #[test]
    fn pieces_hash_like_the_whole() {
        let mut hasher = ContentHasher::new();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.finish(), ContentHash::of(b"abc"));
    }
}
