//! The tree and the operations within it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::fs::xattr::{self, Xattrs};
use crate::fs::{self, FileKind, Root, Status, Timestamp, sys};

use super::attributes::{Attributes, Node};
use super::change::{Change, ChangeKind};
use super::error::{RootfsError, check_interrupt};
use super::file::{CHUNK, MadeFile, NewFile, held_or_recorded, make_way, set_xattrs};
use super::index::{ContentHash, Entry, Index};
use super::record::Records;
use super::skeleton::Skeleton;

/// A directory that becomes an image's root.
#[derive(Debug)]
pub struct Tree {
    root: Root,
    pub(super) index: Index,
    pub(super) records: Records,
    /// Number of layers applied.
    pub(super) layers: u32,
    /// Permissions bind this process, as they do an ordinary user and a root whose capabilities the pod drops.
    is_bound: bool,
    /// Where content passes through. Kept, because clearing a new one would cost more than most files.
    pub(super) buffer: Vec<u8>,
    /// Present if regular files of layers are left out.
    pub(super) skeleton: Option<Skeleton>,
}

impl Tree {
    /// Makes an empty tree: a new directory at `path` with mode 0755, owned by root as far as that can be had.
    ///
    /// # Errors
    /// The directory exists already or cannot be made.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, RootfsError> {
        let path = path.into();
        std::fs::create_dir(&path).map_err(|source| fs::Error::new("create directory", &path, source))?;
        let mut tree = Self::open(path)?;
        let mut attributes = Attributes::new(FileKind::Directory, 0o755);
        attributes.mtime = Timestamp::now();
        tree.set_attributes(Path::new(""), &attributes)?;
        tree.index.set_complete();
        Ok(tree)
    }

    /// Looks at an existing directory as a tree, without an index: everything in it counts as new.
    ///
    /// # Errors
    /// It is not a directory or cannot be opened.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, RootfsError> {
        let root = Root::open(path)?;
        Ok(Self {
            root,
            index: Index::default(),
            records: Records::default(),
            layers: 0,
            is_bound: !sys::overrides_permissions(),
            buffer: Vec::new(),
            skeleton: None,
        })
    }

    /// The same tree, renamed to `path` meanwhile: everything in it counts as new, and what its file system cannot hold is
    /// still known.
    ///
    /// # Errors
    /// There is no directory, or it cannot be opened.
    pub fn moved_to(self, path: impl Into<PathBuf>) -> Result<Self, RootfsError> {
        Ok(Self { root: Root::open(path)?, index: Index::default(), ..self })
    }

    /// Where the tree is.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The directory that no lookup leaves.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The baseline a snapshot compares with.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The path that `path` leads to when the symbolic links in it are followed within the tree, the last component only
    /// if `follow_last`. Components that do not exist are kept.
    ///
    /// # Errors
    /// A circle of links, or a way that leads through something that is no directory.
    pub fn resolve(&self, path: &Path, follow_last: bool) -> Result<PathBuf, RootfsError> {
        self.find(path, follow_last).map_err(|errno| self.error("resolve", path, errno))
    }

    pub(super) fn find(&self, path: &Path, follow_last: bool) -> rustix::io::Result<PathBuf> {
        let found = self.root.resolve(path, follow_last)?;
        self.check_way(&found)?;
        Ok(found)
    }

    /// What is at `path`; a link as last component is not followed. `None` if nothing is there, also when the way there
    /// does not exist or leads through a file.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn node(&self, path: &Path) -> Result<Option<Node>, RootfsError> {
        let found = self.root.parent(path).and_then(|(directory, name)| self.node_at(directory.as_fd(), &name));
        match found {
            Ok(node) => Ok(Some(node)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(self.absent_node(path)),
            Err(errno) => Err(self.error("look at", path, errno)),
        }
    }

    fn node_at(&self, directory: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Node> {
        self.node_of(directory, name, &Status::at(directory, name)?, true)
    }

    /// The node of a file whose status is known; without extended attributes unless `with_xattrs`.
    pub(super) fn node_of(
        &self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        status: &Status,
        with_xattrs: bool,
    ) -> rustix::io::Result<Node> {
        let link_target = match status.kind {
            FileKind::Symlink => {
                Some(OsString::from_vec(rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes()))
            }
            _ => None,
        };
        Ok(Node {
            attributes: match with_xattrs {
                true => self.attributes_at(directory, name, status)?,
                false => self.plain_attributes(status),
            },
            size: status.size,
            link_target,
            identity: (status.device, status.inode),
            link_count: status.link_count,
        })
    }

    /// What the image says of a file whose status is known: the disk's attributes with the record applied.
    pub(crate) fn attributes_at(
        &self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        status: &Status,
    ) -> rustix::io::Result<Attributes> {
        Ok(self.records.apply(status, xattrs_at(directory, name, status.kind)?))
    }

    /// The same without the extended attributes, which cost two more system calls.
    pub(crate) fn plain_attributes(&self, status: &Status) -> Attributes {
        self.records.apply(status, Xattrs::new())
    }

    /// The names in a directory, sorted by their bytes. A link to a directory is followed.
    ///
    /// # Errors
    /// It is not a directory or cannot be read.
    pub fn list(&self, path: &Path) -> Result<Vec<OsString>, RootfsError> {
        self.root
            .open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(sys::names)
            .map_err(|errno| self.error("list", path, errno))
    }

    /// Opens a regular file for reading. A link as last component is followed; anything but a regular file is refused.
    ///
    /// # Errors
    /// It does not exist, cannot be opened, or is not a regular file.
    pub fn open_file(&self, path: &Path) -> Result<File, RootfsError> {
        // Without NONBLOCK, opening a named pipe would wait for a writer.
        let opened = self.root.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK).and_then(|file| {
            match self.plain_attributes(&Status::of(&file)?).kind {
                FileKind::File => Ok(File::from(file)),
                FileKind::Directory => Err(Errno::ISDIR),
                _ => Err(Errno::INVAL),
            }
        });
        opened.map_err(|errno| self.error("open", path, errno))
    }

    /// Makes a directory, or gives the attributes to one that is there. Its parent must exist. Files made in it later move
    /// its time; [`Tree::set_attributes`] sets it again.
    ///
    /// # Errors
    /// Something else is in the way, or the directory cannot be made.
    pub fn create_directory(&mut self, path: &Path, attributes: &Attributes) -> Result<(), RootfsError> {
        let (directory, name) = self.parent_of(path)?;
        if self.absent(path).is_some() {
            return Err(self.error("create directory", path, Errno::EXIST));
        }
        self.make_directory(directory.as_fd(), &name, attributes)
            .map_err(|errno| self.error("create directory", path, errno))?;
        Ok(())
    }

    pub(super) fn make_directory(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        attributes: &Attributes,
    ) -> rustix::io::Result<Status> {
        match rustix::fs::mkdirat(directory, name, Mode::RWXU) {
            Err(Errno::EXIST) if Status::at(directory, name)?.kind == FileKind::Directory => {}
            answer => answer?,
        }
        self.dress(directory, name, attributes, true)
    }

    /// Makes a regular file with what `content` gives. A file, link or special file of that name is replaced – not
    /// written into, so that its hard links keep their content –; a directory is an error. Gives the content's hash.
    ///
    /// # Errors
    /// A directory is in the way, the content cannot be read, or the file cannot be written.
    pub fn create_file(
        &mut self,
        path: &Path,
        attributes: &Attributes,
        content: impl Read,
    ) -> Result<ContentHash, RootfsError> {
        let (directory, name) = self.parent_of(path)?;
        let (_, hash) = self.make_file(directory.as_fd(), &name, attributes, content).map_err(|source| {
            match check_interrupt() {
                Err(interrupted) => interrupted,
                Ok(()) => fs::Error::new("write", self.shown(path), source).into(),
            }
        })?;
        Ok(hash)
    }

    pub(super) fn make_file(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        attributes: &Attributes,
        mut content: impl Read,
    ) -> io::Result<(Status, ContentHash)> {
        self.buffer.resize(CHUNK, 0);
        let new = NewFile { directory, name, attributes, mode: self.mode_on_disk(attributes) };
        let made = new.make(&mut content, &mut self.buffer)?;
        Ok(self.note_file(attributes, made))
    }

    /// Records what the disk does not show of a file that was made.
    pub(super) fn note_file(&mut self, attributes: &Attributes, made: MadeFile) -> (Status, ContentHash) {
        let MadeFile { status, hash, missing_xattrs, replaced } = made;
        if let Some(replaced) = replaced {
            self.records.forget(&replaced);
        }
        self.records.note(attributes, &status, missing_xattrs);
        (status, hash)
    }

    pub(super) fn make_empty_file(&mut self, directory: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.replacing(directory, name, |directory, name| sys::open_at(directory, name, flags, 0o600))
    }

    /// Makes a symbolic link that holds `target`, whatever that leads to. What it replaces is as for a file.
    ///
    /// # Errors
    /// A directory is in the way, or the link cannot be made.
    pub fn create_symlink(&mut self, path: &Path, target: &OsStr, attributes: &Attributes) -> Result<(), RootfsError> {
        let (directory, name) = self.parent_of(path)?;
        self.make_symlink(directory.as_fd(), &name, target, attributes)
            .map_err(|errno| self.error("create symbolic link", path, errno))?;
        Ok(())
    }

    pub(super) fn make_symlink(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        target: &OsStr,
        attributes: &Attributes,
    ) -> rustix::io::Result<Status> {
        self.replacing(directory, name, |directory, name| rustix::fs::symlinkat(target, directory, name))?;
        self.dress(directory, name, attributes, false)
    }

    /// Gives the file `existing` the further name `new`. What it replaces is as for a file. A symbolic link as last
    /// component of `existing` is itself linked.
    ///
    /// # Errors
    /// `existing` is missing or a directory, a directory is in the way, or the link cannot be made.
    pub fn create_hard_link(&mut self, existing: &Path, new: &Path) -> Result<(), RootfsError> {
        let (from, from_name) = self.parent_of(existing)?;
        let (to, to_name) = self.parent_of(new)?;
        let same = match (Status::at(&from, &from_name), Status::at(&to, &to_name)) {
            (Ok(one), Ok(two)) => (one.device, one.inode) == (two.device, two.inode),
            (Err(errno), _) => return Err(self.error("link to", existing, errno)),
            _ => false,
        };
        if same {
            return Ok(());
        }
        self.make_hard_link(from.as_fd(), &from_name, to.as_fd(), &to_name)
            .map_err(|errno| self.error("create hard link", new, errno))
    }

    pub(super) fn make_hard_link(
        &mut self,
        from: BorrowedFd<'_>,
        from_name: &OsStr,
        to: BorrowedFd<'_>,
        to_name: &OsStr,
    ) -> rustix::io::Result<()> {
        self.replacing(to, to_name, |to, to_name| rustix::fs::linkat(from, from_name, to, to_name, AtFlags::empty()))
    }

    /// Makes a device node or named pipe as `attributes.kind` says. Where devices are not permitted an empty file stands for
    /// it and the record says what it is. What it replaces is as for a file.
    ///
    /// # Errors
    /// The kind is not a special file's, a directory is in the way, or the node cannot be made.
    pub fn create_special(&mut self, path: &Path, attributes: &Attributes) -> Result<(), RootfsError> {
        let (directory, name) = self.parent_of(path)?;
        self.make_special(directory.as_fd(), &name, attributes)
            .map_err(|errno| self.error("create special file", path, errno))?;
        Ok(())
    }

    pub(super) fn make_special(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        attributes: &Attributes,
    ) -> rustix::io::Result<Status> {
        let (kind, device) = match attributes.kind {
            FileKind::CharDevice { major, minor } => (FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
            FileKind::BlockDevice { major, minor } => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
            FileKind::Fifo => (FileType::Fifo, 0),
            FileKind::File | FileKind::Directory | FileKind::Symlink | FileKind::Socket => return Err(Errno::INVAL),
        };
        let made = self.replacing(directory, name, |directory, name| {
            rustix::fs::mknodat(directory, name, kind, Mode::RUSR | Mode::WUSR, device)
        });
        match made {
            Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => drop(self.make_empty_file(directory, name)?),
            answer => answer?,
        }
        self.dress(directory, name, attributes, false)
    }

    /// Removes what is at `path`, with everything below it; a link is not followed. That nothing is there is fine.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(&mut self, path: &Path) -> Result<(), RootfsError> {
        let removed = self.root.parent(path).and_then(|(directory, name)| fs::remove_at(directory, &name));
        match removed {
            Err(Errno::NOENT | Errno::NOTDIR) | Ok(()) => Ok(()),
            Err(errno) => Err(self.error("remove", path, errno)),
        }
    }

    /// Gives mode, owner, time and exactly these extended attributes to what is at `path`; a link is not followed. The
    /// kind is not changed. What the file system cannot hold goes to the record.
    ///
    /// # Errors
    /// Nothing is there, or an attribute was refused for another reason than that it cannot be held.
    pub fn set_attributes(&mut self, path: &Path, attributes: &Attributes) -> Result<(), RootfsError> {
        let set = self.root.parent(path).and_then(|(directory, name)| {
            let status = Status::at(&directory, &name)?;
            let kind = self.plain_attributes(&status).kind;
            self.dress(directory.as_fd(), &name, &Attributes { kind, ..attributes.clone() }, true)
        });
        set.map_err(|errno| self.error("set attributes of", path, errno))?;
        Ok(())
    }

    /// Applies attributes to a file in the order in which they survive: an owner's change takes set-id bits and capabilities,
    /// and anything else moves no time. `existed` says that extended attributes may be there that are not wanted.
    pub(super) fn dress(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        attributes: &Attributes,
        existed: bool,
    ) -> rustix::io::Result<Status> {
        let Attributes { uid, gid, xattrs, .. } = attributes;
        held_or_recorded(sys::chown_at(directory, name, *uid, *gid))?;
        if attributes.kind != FileKind::Symlink {
            held_or_recorded(sys::chmod_at(directory, name, self.mode_on_disk(attributes)))?;
        }
        if existed {
            for attribute in xattrs_at(directory, name, attributes.kind)?.keys() {
                if !xattrs.contains_key(attribute) {
                    held_or_recorded(xattr::remove_at(directory, name, attribute))?;
                }
            }
        }
        self.finish_dressing(directory, name, attributes)
    }

    /// The mode that a file gets: where permissions bind, its own, and what it takes to read it and to write below it. The
    /// difference is recorded.
    pub(super) fn mode_on_disk(&self, attributes: &Attributes) -> u32 {
        match attributes.kind {
            FileKind::Directory if self.is_bound => attributes.mode | 0o700,
            FileKind::File if self.is_bound => attributes.mode | 0o400,
            _ => attributes.mode,
        }
    }

    fn finish_dressing(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        attributes: &Attributes,
    ) -> rustix::io::Result<Status> {
        let missing = set_xattrs(directory, name, &attributes.xattrs)?;
        held_or_recorded(sys::set_modified_at(directory, name, attributes.mtime))?;
        let status = Status::at(directory, name)?;
        self.records.note(attributes, &status, missing);
        Ok(status)
    }

    /// Runs `make`, and once more after removing the file that is in its way.
    fn replacing<T>(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        match make(directory, name) {
            Err(Errno::EXIST) => {
                if let Some(replaced) = make_way(directory, name)? {
                    self.records.forget(&replaced);
                }
                make(directory, name)
            }
            answer => answer,
        }
    }

    pub(super) fn parent_of(&self, path: &Path) -> Result<(OwnedFd, OsString), RootfsError> {
        self.root.parent(path).map_err(|errno| self.error("reach", path, self.check_way(path).err().unwrap_or(errno)))
    }

    pub(crate) fn error(&self, verb: &'static str, path: &Path, errno: Errno) -> RootfsError {
        fs::Error::new(verb, self.shown(path), errno).into()
    }

    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        self.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Makes the changes of a written layer part of the baseline. `hashes` are those of the regular files' content.
    ///
    /// # Errors
    /// A changed path cannot be looked at any more.
    pub fn absorb(&mut self, changes: &[Change], hashes: &HashMap<PathBuf, ContentHash>) -> Result<(), RootfsError> {
        self.layers += 1;
        for Change { path, kind } in changes {
            check_interrupt()?;
            if *kind == ChangeKind::Removed {
                self.index.remove_below(path);
                self.index.remove(path);
                continue;
            }
            let entry = self.entry(path, hashes.get(path)).map_err(|errno| self.error("look at", path, errno))?;
            if !entry.is_directory() {
                self.index.remove_below(path);
            }
            self.index.insert(path.clone(), entry);
        }
        self.refresh_links()?;
        self.index.set_complete();
        Ok(())
    }

    /// Which names are one file may have changed for names that are no change themselves: a file replaced by its equal, or
    /// the last name left of several. What a later compare makes of them depends on the inodes being right.
    fn refresh_links(&mut self) -> Result<(), RootfsError> {
        let linked = self.index.iter().filter(|(_, entry)| entry.linked());
        let moved: Vec<(PathBuf, Option<Status>)> = linked
            .filter_map(|(path, entry)| {
                let status = self.root.parent(path).and_then(|(directory, name)| Status::at(directory, &name)).ok();
                (!status.is_some_and(|status| entry.is_stamped(&status))).then(|| (path.to_owned(), status))
            })
            .collect();
        for (path, status) in moved {
            if let (Some(entry), Some(status)) = (self.index.get_mut(&path), status) {
                entry.restamp(&status);
                // Only the compare looked at the content, perhaps of part of the tree.
                entry.distrust();
            }
        }
        check_interrupt()
    }

    fn entry(&self, path: &Path, hash: Option<&ContentHash>) -> rustix::io::Result<Entry> {
        let (directory, name) = self.root.parent(path)?;
        let status = Status::at(&directory, &name)?;
        let attributes = self.attributes_at(directory.as_fd(), &name, &status)?;
        let (content, trusted) = match (status.kind, hash) {
            (FileKind::Symlink, _) => {
                (ContentHash::of(rustix::fs::readlinkat(&directory, &name, Vec::new())?.to_bytes()), true)
            }
            (_, Some(hash)) => (*hash, true),
            (FileKind::File, None) => (ContentHash::default(), self.is_placeholder(&status)),
            _ => (ContentHash::default(), true),
        };
        let mut entry = Entry::new(attributes, &status, content, self.layers);
        if !trusted {
            entry.distrust();
        }
        Ok(entry)
    }

    /// Whether an empty file on the disk stands for something else.
    fn is_placeholder(&self, status: &Status) -> bool {
        self.plain_attributes(status).kind != status.kind
    }

    /// Takes a new change time for a path whose inode the build itself renamed away and back: the baseline goes along if it
    /// has the change time `before` and the disk now shows `after`. Otherwise something else touched the file, and the next
    /// compare looks closely.
    pub fn restamp(&mut self, path: &Path, before: Timestamp, after: Timestamp) {
        let status = self.root.parent(path).and_then(|(directory, name)| Status::at(directory, &name));
        if let (Ok(status), Some(entry)) = (status, self.index.get_mut(path))
            && entry.identity() == (status.device, status.inode)
            && entry.changed() == before
            && status.changed == after
        {
            entry.restamp(&status);
        }
    }
}

/// Extended attributes exist on files and directories only, as far as images carry them.
fn xattrs_at(directory: BorrowedFd<'_>, name: &OsStr, kind: FileKind) -> rustix::io::Result<Xattrs> {
    match kind {
        FileKind::File | FileKind::Directory => xattr::read_at(directory, name),
        _ => Ok(Xattrs::new()),
    }
}
