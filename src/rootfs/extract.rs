//! Unpacks a layer into a tree (OCI image specification, layer.md), and records the baseline.
//!
//! A member's name is its path in the image: a leading slash and `.` are ignored, `..` must not leave the root.
//! Symbolic links in the path come from the image and are followed inside the root, as the kernel would in a container.
//! Whatever is in the way of a member is replaced, except a directory by a directory. Whiteouts hide files of lower
//! layers, never files of their own layer, in any order.

mod whiteout;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use crate::diag::interrupt;
use crate::fs::{self, FileKind, Status, Timestamp, sys};

use super::archive::{Member, MemberKind, Reader};
use super::attributes::Attributes;
use super::budget::path_size;
use super::error::{MemberError, RootfsError};
use super::index::{ContentHash, Entry};
use super::tree::Tree;
use super::writers::{Content, Job, LARGEST, WriteError, Writers, Written};

/// The most members of a layer. The largest known images have a few hundred thousand.
const MAX_MEMBERS: u64 = 10_000_000;
/// The most bytes of a name: the kernel's limit for a path.
const MAX_NAME: usize = 4096;
/// Bytes that a directory's time takes in addition to its path, with its share of the map's nodes.
const EACH_TIME: usize = 90;
/// The prefix of whiteouts.
const WHITEOUT: &[u8] = b".wh.";

/// The result of unpacking a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerSummary {
    /// The members of the archive, including whiteouts.
    pub members: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// Paths of lower layers that whiteouts removed; a directory counts as one.
    pub removed: u64,
}

impl Tree {
    /// Unpacks an uncompressed layer into the tree and adds it to the baseline. The stream is read to its end, also
    /// after the archive's end, so that a digest computed from it covers all of it. `layer` names it in errors.
    ///
    /// After an error the tree is incomplete and must be removed.
    ///
    /// # Errors
    /// The archive cannot be read; a member leads out of the root, links to a missing file or cannot be written; the
    /// build was asked to stop.
    pub fn apply_layer(&mut self, layer: &str, tar: impl Read) -> Result<LayerSummary, RootfsError> {
        self.layers += 1;
        let archive_error = |source| RootfsError::Layer { layer: layer.to_owned(), source };
        let member_error = |name: &[u8], source| match interrupt::check() {
            Err(interrupted) => interrupted.into(),
            Ok(()) => RootfsError::Member {
                layer: layer.to_owned(),
                member: String::from_utf8_lossy(name).into_owned(),
                source,
            },
        };
        let mut reader = Reader::new(tar);
        let mut extraction = Extraction {
            tree: self,
            parent: None,
            times: BTreeMap::new(),
            touched: HashSet::new(),
            absent_links: HashMap::new(),
            remembered: 0,
            summary: LayerSummary::default(),
            writers: Writers::default(),
            failed: None,
        };
        while let Some(member) = reader.next_member().map_err(archive_error)? {
            interrupt::check()?;
            extraction.summary.members += 1;
            if extraction.summary.members > MAX_MEMBERS {
                return Err(RootfsError::TooManyMembers { layer: layer.to_owned(), limit: MAX_MEMBERS });
            }
            extraction.unpack(&member, &mut reader).map_err(|source| match extraction.failed.take() {
                Some(earlier) => member_error(earlier.as_os_str().as_bytes(), source),
                None => member_error(&member.name, source),
            })?;
            extraction.check_memory().map_err(|source| member_error(&member.name, source))?;
        }
        reader.finish().map_err(archive_error)?;
        extraction.settle().map_err(|(path, source)| member_error(path.as_os_str().as_bytes(), source))
    }
}

/// A directory that members are unpacked into.
struct Parent {
    /// The path as members name it.
    asked: PathBuf,
    /// The path without links.
    path: PathBuf,
    directory: Arc<OwnedFd>,
}

pub(super) struct Extraction<'a> {
    pub(super) tree: &'a mut Tree,
    /// The directory of the last member; the next one is mostly in the same directory.
    parent: Option<Rc<Parent>>,
    /// Directories whose time is set when nothing changes it any more.
    times: BTreeMap<PathBuf, Timestamp>,
    /// Inodes with several names, of which one was changed: the entries of the others must be updated.
    pub(super) touched: HashSet<(u64, u64)>,
    /// Attributes from hard links to omitted files, by identity.
    pub(super) absent_links: HashMap<(u64, u64), Attributes>,
    /// Bytes of memory that `times` and `absent_links` take, roughly.
    pub(super) remembered: usize,
    pub(super) summary: LayerSummary,
    /// Files of this layer that are being written. Until then, the index has them as absent.
    writers: Writers,
    /// The file that could not be written, if an error is about a file.
    failed: Option<PathBuf>,
}

impl Extraction<'_> {
    fn unpack(&mut self, member: &Member, content: &mut impl Read) -> Result<(), MemberError> {
        let path = normalized(&member.name)?;
        let Some(name) = path.file_name() else { return self.unpack_root(member) };
        let above = path.parent().unwrap_or(Path::new(""));
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            self.finish_files()?;
            return self.whiteout(above, name, hidden);
        }
        let Some(parent) = self.parent(above, true)? else { return Err(not_directory(above)) };
        let path = parent.path.join(name);
        self.keep_time(&parent.path);
        let directory = parent.directory.as_fd();
        if self.writers.is_pending(&path) {
            self.finish_files()?;
        }
        let mut attributes = attributes_of(member);
        let layer = self.tree.layers;
        let entry = match &member.kind {
            MemberKind::HardLink(target) => {
                self.finish_files()?;
                return self.hard_link(target, &path, directory, name, attributes);
            }
            MemberKind::Directory => {
                self.clear_for_directory(&path, directory, name)?;
                attributes.kind = FileKind::Directory;
                self.note_time(&path, attributes.mtime);
                let status = self.tree.make_directory(directory, name, &attributes).map_err(io("create directory"))?;
                Entry::new(attributes, &status, ContentHash::default(), layer)
            }
            MemberKind::File => match self.omit(&path, directory, name, &attributes, content)? {
                Some(entry) => entry,
                None => {
                    self.clear_for_file(&path, directory, name)?;
                    return self.write_file(path, &parent.directory, name, attributes, content);
                }
            },
            MemberKind::Symlink(target) => {
                self.clear_for_file(&path, directory, name)?;
                attributes.kind = FileKind::Symlink;
                attributes.mode = super::attributes::SYMLINK_MODE;
                let status = self
                    .tree
                    .make_symlink(directory, name, OsStr::from_bytes(target), &attributes)
                    .map_err(io("create symbolic link"))?;
                Entry::new(attributes, &status, ContentHash::of(target), layer)
            }
            MemberKind::CharDevice { .. } | MemberKind::BlockDevice { .. } | MemberKind::Fifo => {
                self.clear_for_file(&path, directory, name)?;
                let status = self.tree.make_special(directory, name, &attributes).map_err(io("create special file"))?;
                Entry::new(attributes, &status, ContentHash::default(), layer)
            }
        };
        self.tree.index.insert(path, entry);
        Ok(())
    }

    fn check_memory(&self) -> Result<(), MemberError> {
        match self.tree.has_room(self.remembered) {
            true => Ok(()),
            false => Err(MemberError::TooMuchMetadata { limit: self.tree.metadata_limit }),
        }
    }

    /// Records the final time of a directory.
    fn note_time(&mut self, directory: &Path, time: Timestamp) {
        if self.times.insert(directory.to_owned(), time).is_none() {
            self.remembered += path_size(directory, EACH_TIME);
        }
    }

    fn unpack_root(&mut self, member: &Member) -> Result<(), MemberError> {
        if member.kind != MemberKind::Directory {
            return Err(MemberError::Root);
        }
        self.note_time(Path::new(""), member.mtime);
        self.tree
            .set_attributes(Path::new(""), &Attributes { kind: FileKind::Directory, ..attributes_of(member) })
            .map_err(|error| match error {
                RootfsError::Io(fs::Error { verb, source, .. }) => MemberError::Io { verb, source },
                _ => MemberError::Root,
            })
    }

    /// Makes a regular file: a small one at some time before [`Extraction::finish_files`] returns, a large one at once.
    fn write_file(
        &mut self,
        path: PathBuf,
        directory: &Arc<OwnedFd>,
        name: &OsStr,
        attributes: Attributes,
        content: &mut impl Read,
    ) -> Result<(), MemberError> {
        let write_error = |source| MemberError::Io { verb: "write file", source };
        let layer = self.tree.layers;
        let mut bytes = self.writers.buffer();
        let limit = u64::try_from(LARGEST).unwrap_or(u64::MAX);
        content.by_ref().take(limit).read_to_end(&mut bytes).map_err(write_error)?;
        if bytes.len() == LARGEST {
            let whole = io::Cursor::new(&bytes).chain(content);
            let (status, hash) =
                self.tree.make_file(directory.as_fd(), name, &attributes, whole).map_err(write_error)?;
            self.summary.bytes += status.size;
            self.tree.index.insert(path, Entry::new(attributes, &status, hash, layer));
            self.writers.give_back(bytes);
            return Ok(());
        }
        let (size, mode) = (u64::try_from(bytes.len()).unwrap_or(u64::MAX), self.tree.mode_on_disk(&attributes));
        self.summary.bytes += size;
        self.tree.index.insert(path.clone(), Entry::absent(attributes.clone(), size, ContentHash::default(), 0, layer));
        let (directory, name) = (Arc::clone(directory), name.to_owned());
        let job = Job { path, directory, name, attributes, mode, content: Content::Bytes(bytes) };
        let written = self.writers.write(job).map_err(write_error)?;
        self.note_written(written)
    }

    /// Waits for files that are being written. Required before one of them is changed, or something depends on them.
    fn finish_files(&mut self) -> Result<(), MemberError> {
        let written = self.writers.wait().map_err(|source| MemberError::Io { verb: "write file", source })?;
        self.note_written(written)
    }

    fn note_written(&mut self, written: Vec<Written>) -> Result<(), MemberError> {
        for Written { path, attributes, made } in written {
            match made {
                Ok(made) => {
                    let (status, hash) = self.tree.note_file(&attributes, made);
                    self.tree.index.insert(path, Entry::new(attributes, &status, hash, self.tree.layers));
                }
                Err(WriteError::Open { source, .. } | WriteError::Write(source)) => {
                    self.failed = Some(path);
                    return Err(MemberError::Io { verb: "write file", source });
                }
            }
        }
        Ok(())
    }

    /// Returns a member's directory, following links inside the root. Missing directories are made with `create`;
    /// otherwise the result is `None`.
    fn parent(&mut self, asked: &Path, create: bool) -> Result<Option<Rc<Parent>>, MemberError> {
        if let Some(parent) = self.parent.as_ref().filter(|parent| parent.asked == asked) {
            return Ok(Some(Rc::clone(parent)));
        }
        let known = |tree: &Tree, path: &Path| tree.index.get(path).map(|entry| entry.kind());
        // The index only has paths without links, so a directory in it is already resolved.
        let path = if asked.as_os_str().is_empty() || known(self.tree, asked) == Some(FileKind::Directory) {
            asked.to_owned()
        } else {
            self.tree.find(asked, true).map_err(io("resolve"))?
        };
        let mut missing = Vec::new();
        for above in path.ancestors().filter(|path| !path.as_os_str().is_empty()) {
            match known(self.tree, above) {
                // A parent of a directory in the index is a directory.
                Some(FileKind::Directory) => break,
                Some(_) if create => return Err(not_directory(above)),
                None if create => missing.push(above),
                _ => return Ok(None),
            }
        }
        for directory in missing.into_iter().rev() {
            self.implied_directory(directory)?;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let directory = self.tree.root().open_at(&path, flags).map_err(io("open directory"))?;
        let parent = Rc::new(Parent { asked: asked.to_owned(), path, directory: Arc::new(directory) });
        self.parent = Some(Rc::clone(&parent));
        Ok(Some(parent))
    }

    /// Makes a directory for which no layer has a member. Its time is fixed, because nothing else in an image depends
    /// on the clock.
    fn implied_directory(&mut self, path: &Path) -> Result<(), MemberError> {
        let attributes = Attributes::new(FileKind::Directory, 0o755);
        if let Some(above) = path.parent() {
            self.keep_time(above);
        }
        self.note_time(path, attributes.mtime);
        let (directory, name) = self.tree.root().parent(path).map_err(io("open directory"))?;
        let status = self.tree.make_directory(directory.as_fd(), &name, &attributes).map_err(io("create directory"))?;
        let entry = Entry::new(attributes, &status, ContentHash::default(), self.tree.layers);
        self.tree.index.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Restores a directory's time, which is that of its last member, after unpacking into it.
    fn keep_time(&mut self, directory: &Path) {
        if !self.times.contains_key(directory)
            && let Some(entry) = self.tree.index.get(directory)
        {
            let time = entry.mtime();
            self.note_time(directory, time);
        }
    }

    /// Removes a file that is in the way of a directory.
    fn clear_for_directory(&mut self, path: &Path, directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), MemberError> {
        match self.tree.index.get(path) {
            Some(entry) if !entry.is_directory() => {
                self.forget(path);
                absent_is_fine(rustix::fs::unlinkat(directory, name, AtFlags::empty())).map_err(io("replace"))
            }
            _ => Ok(()),
        }
    }

    /// Removes a directory that is in the way of a file. A file in the way is replaced when the new one is made.
    pub(super) fn clear_for_file(
        &mut self,
        path: &Path,
        directory: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), MemberError> {
        match self.tree.index.get(path) {
            Some(entry) if entry.is_directory() => {
                // Some of them may be about to be written into it.
                self.finish_files()?;
                absent_is_fine(fs::remove_at(directory, name)).map_err(io("replace"))?;
                self.forget(path);
            }
            Some(_) => self.forget(path),
            None => {}
        }
        Ok(())
    }

    /// Removes a path and everything below it from the index.
    fn forget(&mut self, path: &Path) {
        // The directory of the last member may be below the path.
        self.parent = None;
        let linked = |(_, entry): (&Path, &Entry)| entry.linked().then(|| entry.identity());
        self.touched.extend(self.tree.index.below(path).filter_map(linked));
        self.tree.index.remove_below(path);
        if let Some(entry) = self.tree.index.remove(path).filter(|entry| entry.linked()) {
            self.touched.insert(entry.identity());
        }
    }

    fn hard_link(
        &mut self,
        target: &[u8],
        path: &Path,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        mut attributes: Attributes,
    ) -> Result<(), MemberError> {
        let missing = || MemberError::LinkTarget { target: String::from_utf8_lossy(target).into_owned() };
        let wanted = normalized(target)?;
        let Some(from_name) = wanted.file_name() else { return Err(missing()) };
        let above = wanted.parent().unwrap_or(Path::new(""));
        let kept = self.parent.clone();
        let Some(from) = self.parent(above, false)? else { return Err(missing()) };
        self.parent = kept;
        let existing = from.path.join(from_name);
        let Some(entry) = self.tree.index.get(&existing).cloned() else { return Err(missing()) };
        if entry.is_directory() {
            return Err(missing());
        }
        if existing == path {
            return Ok(());
        }
        // Removing a directory would remove the file with it.
        if existing.starts_with(path) {
            return Err(missing());
        }
        // The member describes the one inode all names share. Extended attributes that it does not repeat stay.
        let before = entry.attributes();
        attributes.kind = before.kind;
        attributes.xattrs =
            before.xattrs.iter().map(|(name, value)| (name.clone(), value.clone())).chain(attributes.xattrs).collect();
        drop_unheld(&mut attributes);
        if before.kind == FileKind::Symlink {
            attributes.mode = before.mode;
        }
        if entry.is_absent() {
            return self.link_absent(&entry, path, directory, name, attributes);
        }
        self.clear_for_file(path, directory, name)?;
        let linked = self.tree.make_hard_link(from.directory.as_fd(), from_name, directory, name);
        linked.map_err(io("create hard link"))?;
        let status = if attributes == before {
            Status::at(directory, name).map_err(io("look at"))?
        } else {
            self.tree.apply_attributes(directory, name, &attributes, false).map_err(io("set attributes"))?
        };
        self.touched.insert((status.device, status.inode));
        let linked = Entry::new(attributes, &status, entry.content(), self.tree.layers);
        self.tree.index.insert(path.to_owned(), linked);
        Ok(())
    }

    /// Sets the times of directories, and updates entries whose inode changed under a different name.
    fn settle(mut self) -> Result<LayerSummary, (PathBuf, MemberError)> {
        let settled = self.finish_files().and_then(|()| self.set_times()).and_then(|()| self.refresh_touched());
        settled.map_err(|error| (self.failed.take().unwrap_or_default(), error))?;
        self.tree.index.set_complete();
        Ok(self.summary)
    }

    fn set_times(&mut self) -> Result<(), MemberError> {
        for (path, time) in std::mem::take(&mut self.times) {
            let is_root = path.as_os_str().is_empty();
            if !is_root && self.tree.index.get(&path).is_none_or(|entry| !entry.is_directory()) {
                continue;
            }
            let (directory, name) = self.tree.root().parent(&path).map_err(io("open directory"))?;
            match sys::set_modified_at(&directory, &name, time) {
                // The time is out of the file system's range; nothing depends on a directory's time.
                Err(Errno::INVAL | Errno::PERM) => {}
                answer => answer.map_err(io("set time of directory"))?,
            }
            let status = Status::at(&directory, &name).map_err(io("look at directory"))?;
            if let Some(entry) = self.tree.index.get_mut(&path) {
                entry.set_mtime(status.modified);
                entry.restamp(&status);
            }
        }
        Ok(())
    }

    fn refresh_touched(&mut self) -> Result<(), MemberError> {
        if self.touched.is_empty() {
            return Ok(());
        }
        let touched: Vec<PathBuf> = self
            .tree
            .index
            .iter()
            .filter(|(_, entry)| self.touched.contains(&entry.identity()))
            .map(|(path, _)| path.to_owned())
            .collect();
        for path in touched {
            if let Some(entry) = self.tree.index.get(&path).filter(|entry| entry.is_absent()) {
                if let Some(attributes) = self.absent_links.get(&entry.identity()) {
                    let refreshed = entry.with_attributes(attributes.clone(), entry.layer());
                    self.tree.index.insert(path, refreshed);
                    self.check_memory()?;
                }
                continue;
            }
            let (directory, name) = self.tree.root().parent(&path).map_err(io("open directory"))?;
            let status = Status::at(&directory, &name).map_err(io("look at"))?;
            let attributes =
                self.tree.attributes_at(directory.as_fd(), &name, &status).map_err(io("read attributes"))?;
            if let Some(entry) = self.tree.index.get(&path) {
                let refreshed = Entry::new(attributes, &status, entry.content(), entry.layer());
                self.tree.index.insert(path, refreshed);
            }
            self.check_memory()?;
        }
        Ok(())
    }
}

pub(super) fn io<E: Into<io::Error>>(verb: &'static str) -> impl Fn(E) -> MemberError {
    move |source| MemberError::Io { verb, source: source.into() }
}

fn not_directory(path: &Path) -> MemberError {
    MemberError::NotDirectory { path: path.display().to_string() }
}

pub(super) fn absent_is_fine(answer: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match answer {
        Err(Errno::NOENT) => Ok(()),
        answer => answer,
    }
}

fn attributes_of(member: &Member) -> Attributes {
    let kind = match member.kind {
        MemberKind::File | MemberKind::HardLink(_) => FileKind::File,
        MemberKind::Directory => FileKind::Directory,
        MemberKind::Symlink(_) => FileKind::Symlink,
        MemberKind::CharDevice { major, minor } => FileKind::CharDevice { major, minor },
        MemberKind::BlockDevice { major, minor } => FileKind::BlockDevice { major, minor },
        MemberKind::Fifo => FileKind::Fifo,
    };
    let Member { mode, uid, gid, mtime, .. } = *member;
    let mut attributes = Attributes { kind, mode, uid, gid, mtime, xattrs: member.xattrs.clone() };
    drop_unheld(&mut attributes);
    attributes
}

/// Drops attributes that no file system supports for this kind: programs set attributes on regular files and
/// directories.
/// containerd drops them as well.
fn drop_unheld(attributes: &mut Attributes) {
    if !matches!(attributes.kind, FileKind::File | FileKind::Directory) {
        attributes.xattrs.retain(|name, _| !name.as_bytes().starts_with(b"user."));
    }
}

/// Returns the path of an archive's name, relative to the root.
fn normalized(name: &[u8]) -> Result<PathBuf, MemberError> {
    if name.len() > MAX_NAME {
        return Err(MemberError::NameTooLong { length: name.len(), limit: MAX_NAME });
    }
    let mut path = PathBuf::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if path.pop() => {}
            b".." => return Err(MemberError::Escapes { path: String::from_utf8_lossy(name).into_owned() }),
            component => path.push(OsString::from_vec(component.to_vec())),
        }
    }
    Ok(path)
}
