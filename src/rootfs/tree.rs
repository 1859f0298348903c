//! The tree and its lookups.

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
    /// The number of layers applied.
    pub(super) layers: u32,
    /// True if this process has to respect permissions: it is not root, or its capabilities are dropped.
    pub(super) respects_permissions: bool,
    /// A buffer for content. It is reused, because clearing a new one would cost more than most files.
    pub(super) buffer: Vec<u8>,
    /// Set if regular files of layers are omitted.
    pub(super) metadata_only: Option<MetadataOnly>,
    /// The most bytes of memory for names and attributes.
    pub(super) metadata_limit: usize,
}

/// The state of a metadata-only tree.
#[derive(Debug, Clone)]
pub(super) struct MetadataOnly {
    /// Regular files that are written nevertheless.
    pub(super) kept: &'static [&'static str],
    /// The number of omitted files, which is the number of the last one.
    pub(super) absent: u64,
}

impl Tree {
    /// Makes an empty tree: a new directory at `path` with mode 0755, owned by root if possible.
    ///
    /// # Errors
    /// The directory exists or cannot be made.
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

    /// Opens an existing directory as a tree without an index: everything in it counts as new.
    ///
    /// # Errors
    /// The path is not a directory or cannot be opened.
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

    /// Returns the same tree after it was renamed to `path`: everything in it counts as new, and its records are kept.
    ///
    /// # Errors
    /// The directory does not exist or cannot be opened.
    pub fn moved_to(self, path: impl Into<PathBuf>) -> Result<Self, RootfsError> {
        Ok(Self { root: Root::open(path)?, index: Index::default(), ..self })
    }

    /// Returns the path of the tree.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Returns the directory that lookups do not leave.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Reports whether names and attributes, with `more` bytes of the caller, are within the memory limit.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.index.memory().saturating_add(self.records.memory()).saturating_add(more) <= self.metadata_limit
    }

    /// Fails if the names and attributes of the files exceed the memory limit ([`metadata_limit`]). `more` is the
    /// memory that the caller uses for them.
    ///
    /// # Errors
    /// They exceed the limit.
    pub fn check_metadata(&self, more: usize) -> Result<(), RootfsError> {
        if self.has_room(more) {
            return Ok(());
        }
        Err(RootfsError::TooMuchMetadata { path: self.path().to_owned(), limit: self.metadata_limit })
    }

    /// Returns the baseline of a snapshot.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Resolves the symbolic links in `path` within the tree, in the last component only with `follow_last`. Missing
    /// components are kept.
    ///
    /// # Errors
    /// Too many links, or a component is not a directory.
    pub fn resolve(&self, path: &Path, follow_last: bool) -> Result<PathBuf, RootfsError> {
        self.find(path, follow_last).map_err(|errno| self.error("resolve", path, errno))
    }

    pub(super) fn find(&self, path: &Path, follow_last: bool) -> rustix::io::Result<PathBuf> {
        let found = self.root.resolve(path, follow_last)?;
        self.check_way(&found)?;
        Ok(found)
    }

    /// Returns the file at `path`; a link in the last component is not followed. Returns `None` if it is missing, also
    /// if a parent is missing or a file.
    ///
    /// # Errors
    /// The file's status cannot be read.
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

    /// Returns the node of a file with a known status; extended attributes only with `with_xattrs`.
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

    /// Returns the attributes in the image of a file with a known status: those on disk, corrected by the record.
    pub(crate) fn attributes_at(
        &self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        status: &Status,
    ) -> rustix::io::Result<Attributes> {
        Ok(self.records.apply(status, xattrs_at(directory, name, status.kind)?))
    }

    /// Returns them without the extended attributes, which cost two more system calls.
    pub(crate) fn plain_attributes(&self, status: &Status) -> Attributes {
        self.records.apply(status, Xattrs::new())
    }

    /// Returns the names in a directory, sorted by their bytes. A link to a directory is followed.
    ///
    /// # Errors
    /// The path is not a directory or cannot be read.
    pub fn list(&self, path: &Path) -> Result<Vec<OsString>, RootfsError> {
        self.root
            .open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(sys::names)
            .map_err(|errno| self.error("list", path, errno))
    }

    /// Opens a regular file for reading. A link in the last component is followed; other kinds of files are refused.
    ///
    /// # Errors
    /// The file does not exist, cannot be opened, or is not a regular file.
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

/// Returns the extended attributes that images carry, which only files and directories have.
pub(super) fn xattrs_at(directory: BorrowedFd<'_>, name: &OsStr, kind: FileKind) -> rustix::io::Result<Xattrs> {
    match kind {
        FileKind::File | FileKind::Directory => xattr::read_at(directory, name),
        _ => Ok(Xattrs::new()),
    }
}
