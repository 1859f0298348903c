//! The tree, and how it is looked into.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::fs::xattr::{self, Xattrs};
use crate::fs::{self, FileKind, Root, Status, Timestamp, sys};

use super::attributes::{Attributes, Node};
use super::budget::metadata_limit;
use super::error::RootfsError;
use super::index::Index;
use super::record::Records;

/// A directory that becomes an image's root.
#[derive(Debug)]
pub struct Tree {
    root: Root,
    pub(super) index: Index,
    pub(super) records: Records,
    /// Number of layers applied.
    pub(super) layers: u32,
    /// Permissions bind this process, as they do an ordinary user and a root whose capabilities the pod drops.
    pub(super) respects_permissions: bool,
    /// Where content passes through. Kept, because clearing a new one would cost more than most files.
    pub(super) buffer: Vec<u8>,
    /// Present if regular files of layers are left out.
    pub(super) metadata_only: Option<Skeleton>,
    /// Bytes of memory that names and attributes may take.
    pub(super) metadata_limit: usize,
}

/// What makes a tree a metadata_only (`metadata_only`).
#[derive(Debug, Clone)]
pub(super) struct Skeleton {
    /// Regular files that are unpacked all the same.
    pub(super) kept: &'static [&'static str],
    /// How many files were left out: the number of the last one.
    pub(super) absent: u64,
}

impl Tree {
    /// Makes an empty tree: a new directory at `path` with mode 0755, owned by root as far as that can be had.
    ///
    /// # Errors
    /// The directory exists already or cannot be made.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, RootfsError> {
        let path = path.into();
        fs::gated::create_dir(&path).map_err(|source| fs::Error::new("create directory", &path, source))?;
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
            respects_permissions: !sys::overrides_permissions(),
            buffer: Vec::new(),
            metadata_only: None,
            metadata_limit: metadata_limit(),
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

    /// Whether names and attributes, with `more` bytes that are remembered beside the tree, take no more memory than they may.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.index.memory().saturating_add(self.records.memory()).saturating_add(more) <= self.metadata_limit
    }

    /// Fails where the names and attributes of the files take more memory than they may ([`metadata_limit`]). `more`: bytes of
    /// memory that the caller remembers of them.
    ///
    /// # Errors
    /// They do.
    pub fn check_metadata(&self, more: usize) -> Result<(), RootfsError> {
        if self.has_room(more) {
            return Ok(());
        }
        Err(RootfsError::TooMuchMetadata { path: self.path().to_owned(), limit: self.metadata_limit })
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

    pub(super) fn parent_of(&self, path: &Path) -> Result<(OwnedFd, OsString), RootfsError> {
        self.root.parent(path).map_err(|errno| self.error("reach", path, self.check_way(path).err().unwrap_or(errno)))
    }

    pub(crate) fn error(&self, verb: &'static str, path: &Path, errno: Errno) -> RootfsError {
        fs::Error::new(verb, self.shown(path), errno).into()
    }

    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        self.path().join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Extended attributes exist on files and directories only, as far as images carry them.
pub(super) fn xattrs_at(directory: BorrowedFd<'_>, name: &OsStr, kind: FileKind) -> rustix::io::Result<Xattrs> {
    match kind {
        FileKind::File | FileKind::Directory => xattr::read_at(directory, name),
        _ => Ok(Xattrs::new()),
    }
}
