//! Makes, changes and removes files of a tree.
//!
//! Callers name a path. Layers and copies, which make many files in one directory, hold it open and name the file in it
//! (`make_*`). Attributes are set last, and those that the disk does not accept are recorded.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::diag::interrupt;
use crate::fs::xattr;
use crate::fs::{self, FileKind, Status, sys};

use super::attributes::Attributes;
use super::error::RootfsError;
use super::file::{CHUNK, MadeFile, NewFile, held_or_recorded, replacing, set_xattrs};
use super::index::ContentHash;
use super::tree::{Tree, xattrs_at};

impl Tree {
    /// Makes a directory, or sets the attributes of an existing one. Its parent must exist. Files made in it later
    /// change its time; [`Tree::set_attributes`] sets it again.
    ///
    /// # Errors
    /// A file of a different kind is in the way, or the directory cannot be made.
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
        self.apply_attributes(directory, name, attributes, true)
    }

    /// Makes a regular file from `content`, and returns the content's hash. A file, link or special file of that name
    /// is replaced, not written to, so that its hard links keep their content. A directory is an error.
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
            match interrupt::check() {
                Err(interrupted) => RootfsError::from(interrupted),
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

    /// Records the attributes of a new file that the disk did not accept.
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

    /// Makes a symbolic link to `target`, which need not exist. Files in the way are replaced as for a regular file.
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
        self.apply_attributes(directory, name, attributes, false)
    }

    /// Makes `new` a hard link to `existing`. Files in the way are replaced as for a regular file. If the last
    /// component of `existing` is a symbolic link, the link itself is linked.
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

    /// Makes a device node or named pipe of the kind `attributes.kind`. If devices are not permitted, an empty file is
    /// a placeholder and the record has the kind. Files in the way are replaced as for a regular file.
    ///
    /// # Errors
    /// The kind is not one of a special file, a directory is in the way, or the node cannot be made.
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
        self.apply_attributes(directory, name, attributes, false)
    }

    /// Removes the file at `path`, with everything below it; a link is not followed. It may be missing.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove(&mut self, path: &Path) -> Result<(), RootfsError> {
        let removed = self.root().parent(path).and_then(|(directory, name)| fs::remove_at(directory, &name));
        match removed {
            Err(Errno::NOENT | Errno::NOTDIR) | Ok(()) => Ok(()),
            Err(errno) => Err(self.error("remove", path, errno)),
        }
    }

    /// Sets mode, owner, time and exactly these extended attributes of the file at `path`; a link is not followed. The
    /// kind does not change. Unsupported attributes are recorded.
    ///
    /// # Errors
    /// The file does not exist, or an attribute was refused although it is supported.
    pub fn set_attributes(&mut self, path: &Path, attributes: &Attributes) -> Result<(), RootfsError> {
        let set = self.root().parent(path).and_then(|(directory, name)| {
            let status = Status::at(&directory, &name)?;
            let kind = self.plain_attributes(&status).kind;
            self.apply_attributes(directory.as_fd(), &name, &Attributes { kind, ..attributes.clone() }, true)
        });
        set.map_err(|errno| self.error("set attributes of", path, errno))?;
        Ok(())
    }

    /// Sets attributes in an order that preserves them: a change of the owner clears set-id bits and capabilities, and
    /// none of the others changes the time. `existed` says that the file may have other extended attributes.
    pub(super) fn apply_attributes(
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
        self.finish_attributes(directory, name, attributes)
    }

    /// Returns the mode on disk: if permissions bind this process, the file's own and the bits needed to read it and to
    /// write below it. The difference is recorded.
    pub(super) fn mode_on_disk(&self, attributes: &Attributes) -> u32 {
        match attributes.kind {
            FileKind::Directory if self.respects_permissions => attributes.mode | 0o700,
            FileKind::File if self.respects_permissions => attributes.mode | 0o400,
            _ => attributes.mode,
        }
    }

    fn finish_attributes(
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

    /// Runs `make`, and again after removing a file in the way.
    fn replacing<T>(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        let (made, replaced) = replacing(directory, name, || make(directory, name))?;
        if let Some(replaced) = replaced {
            self.records.forget(&replaced);
        }
        Ok(made)
    }
}
