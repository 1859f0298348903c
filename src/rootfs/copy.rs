//! Copies a tree, for a stage that starts from a different one.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

use crate::diag::interrupt;
use crate::fs::{self, Descent, FileKind, Status, Step, Walk, sys};

use super::attributes::Attributes;
use super::error::RootfsError;
use super::file::{CHUNK, MadeFile, NewFile, write_content};
use super::index::ContentHash;
use super::tree::Tree;

/// Bytes that are copied between checks for an interrupt.
const PIECE: usize = 64 * 1024 * 1024;

impl Tree {
    /// Copies the tree to a new directory: content (with shared blocks if the file system supports it), holes, hard
    /// links, attributes including those in the record, and times. The copy has the same baseline, so a snapshot of it
    /// has the same result. Sockets are left out.
    ///
    /// # Errors
    /// The directory exists, a file cannot be read or written, or the build was asked to stop.
    pub fn copy_to(&self, path: impl Into<PathBuf>) -> Result<Self, RootfsError> {
        let mut copy = Self::create(path)?;
        copy.index = self.index.clone();
        copy.layers = self.layers;
        copy.metadata_only.clone_from(&self.metadata_only);
        let root = Path::new("");
        let from = self.open_directory(root)?;
        let to = copy.open_directory(root)?;
        let mut copying = Copying::new(self, &mut copy);
        copying.all(from.as_fd(), to.as_fd())?;
        let refresh = copying.links;
        let status = Status::of(&from).map_err(|errno| self.error("look at", root, errno))?;
        let attributes = self.attributes_at(from.as_fd(), OsStr::new("."), &status);
        let attributes = attributes.map_err(|errno| self.error("read attributes of", root, errno))?;
        copy.set_attributes(root, &attributes)?;
        copy.stamp_links(&refresh)?;
        copy.index.set_complete();
        Ok(copy)
    }

    /// Updates the entries of files with several names, whose inodes changed with each further name.
    fn stamp_links(&mut self, links: &HashMap<(u64, u64), Vec<Copied>>) -> Result<(), RootfsError> {
        for Copied { path, unchanged } in links.values().flatten() {
            let looked = self.root().parent(path).and_then(|(directory, name)| Status::at(directory, &name));
            let status = looked.map_err(|errno| self.error("look at", path, errno))?;
            self.stamp(path, &status, *unchanged);
        }
        Ok(())
    }

    /// Updates the baseline's entry of a copied file. It is trusted only if the source was as in its baseline.
    fn stamp(&mut self, path: &Path, status: &Status, unchanged: bool) {
        if let Some(entry) = self.index.get_mut(path) {
            entry.restamp(status);
            if !unchanged {
                entry.distrust();
            }
        }
    }
}

/// A copied name, and whether the source's file was as in its baseline.
struct Copied {
    path: PathBuf,
    unchanged: bool,
}

/// A directory that is being filled.
struct BegunDirectory {
    /// Its final attributes.
    attributes: Attributes,
    /// Whether the source's directory was as in its baseline.
    unchanged: bool,
}

struct Copying<'a> {
    from: &'a Tree,
    to: &'a mut Tree,
    /// The names of each file that has several, by the source's inode.
    links: HashMap<(u64, u64), Vec<Copied>>,
    /// Whether files can share blocks, as far as known.
    may_share: bool,
    buffer: Vec<u8>,
}

impl<'a> Copying<'a> {
    fn new(from: &'a Tree, to: &'a mut Tree) -> Self {
        Self { from, to, links: HashMap::new(), may_share: true, buffer: vec![0; CHUNK] }
    }

    /// Copies everything below `from`.
    fn all(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), RootfsError> {
        let tree = self.from;
        let mut walk = Walk::new(tree.path(), PathBuf::new(), from)?;
        let mut target = Descent::new(to, OFlags::PATH);
        // The directories from the start of the walk to the current one.
        let mut begun = Vec::new();
        while let Some(step) = walk.step()? {
            interrupt::check()?;
            match step {
                Step::Name(name) => {
                    let path = walk.path().join(&name);
                    let made = self.child(walk.directory(), target.directory(), &name, &path)?;
                    let Some(directory) = made else { continue };
                    walk.enter(&name)?;
                    target.enter(&name).map_err(|errno| self.to.error("open directory", &path, errno))?;
                    begun.push(directory);
                }
                Step::Left(name) => {
                    let path = walk.path().join(&name);
                    target.leave().map_err(|errno| self.to.error("go back from directory", &path, errno))?;
                    if let Some(directory) = begun.pop() {
                        self.finish_directory(target.directory(), &name, &path, &directory)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Copies one file. A directory that still has to be filled is returned.
    fn child(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<Option<BegunDirectory>, RootfsError> {
        let status = Status::at(from, name).map_err(|errno| self.from.error("look at", path, errno))?;
        let attributes = self
            .from
            .attributes_at(from, name, &status)
            .map_err(|errno| self.from.error("read attributes of", path, errno))?;
        let baseline = self.from.index.get(path);
        let unchanged = baseline.is_some_and(|entry| entry.is_stamped(&status) && !self.from.index.is_fresh(entry));
        if status.link_count > 1 && status.kind != FileKind::Directory {
            let names = self.links.entry((status.device, status.inode)).or_default();
            let copied = Copied { path: path.to_owned(), unchanged };
            if let Some(first) = names.first().map(|first| first.path.clone()) {
                names.push(copied);
                self.to.create_hard_link(&first, path)?;
                return Ok(None);
            }
            names.push(copied);
        }
        let made = match attributes.kind {
            FileKind::Directory => {
                let made = self.to.make_directory(to, name, &attributes);
                made.map_err(|errno| self.to.error("create directory", path, errno))?;
                return Ok(Some(BegunDirectory { attributes, unchanged }));
            }
            FileKind::Socket => return Ok(None),
            FileKind::File => self.file(from, to, name, path, &attributes, status.size)?,
            FileKind::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())
                    .map_err(|errno| self.from.error("read link", path, errno))?;
                let target: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(target.to_bytes());
                self.to
                    .make_symlink(to, name, target, &attributes)
                    .map_err(|errno| self.to.error("create symbolic link", path, errno))?
            }
            FileKind::CharDevice { .. } | FileKind::BlockDevice { .. } | FileKind::Fifo => self
                .to
                .make_special(to, name, &attributes)
                .map_err(|errno| self.to.error("create special file", path, errno))?,
        };
        self.to.stamp(path, &made, unchanged);
        Ok(None)
    }

    /// Sets the attributes of a directory again, because making its entries changed its time.
    fn finish_directory(
        &mut self,
        to: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        BegunDirectory { attributes, unchanged }: &BegunDirectory,
    ) -> Result<(), RootfsError> {
        let made = self.to.apply_attributes(to, name, attributes, true);
        let made = made.map_err(|errno| self.to.error("set attributes of", path, errno))?;
        self.to.stamp(path, &made, *unchanged);
        Ok(())
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        attributes: &Attributes,
        size: u64,
    ) -> Result<Status, RootfsError> {
        let source = sys::open_at(from, name, OFlags::RDONLY | OFlags::NONBLOCK, 0)
            .map_err(|errno| self.from.error("open", path, errno))?;
        let new = NewFile { directory: to, name, attributes, mode: self.to.mode_on_disk(attributes) };
        let (target, replaced) = new.create().map_err(|errno| self.to.error("create", path, errno))?;
        self.content(source.into(), &target, size).map_err(|source| match interrupt::check() {
            Err(interrupted) => RootfsError::from(interrupted),
            Ok(()) => fs::Error::new("copy", self.from.path().join(path), source).into(),
        })?;
        let finished = new.finish(&target);
        let (status, missing_xattrs) = finished.map_err(|errno| self.to.error("set attributes of", path, errno))?;
        let made = MadeFile { status, hash: ContentHash::default(), missing_xattrs, replaced };
        Ok(self.to.note_file(attributes, made).0)
    }

    /// Copies a file's content into an empty file, with shared blocks if the file system supports it.
    fn content(&mut self, mut source: File, target: &File, size: u64) -> io::Result<()> {
        if self.may_share {
            match rustix::fs::ioctl_ficlone(target, &source) {
                Ok(()) => return Ok(()),
                // The same applies to the other files.
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS) => self.may_share = false,
                Err(_) => {}
            }
        }
        // Asking for holes costs more than reading a small file.
        if size <= self.buffer.len() as u64 {
            return write_content(&mut source, target, &mut self.buffer).map(drop);
        }
        copy_content(source, target, size, &mut self.buffer)
    }
}

/// Copies `size` bytes into an empty file, in the kernel if possible, otherwise through memory.
fn copy_content(source: File, target: &File, size: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        // Holes are preserved. A file system that does not know them reports everything as data.
        let data = match rustix::fs::seek(&source, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        let hole = rustix::fs::seek(&source, SeekFrom::Hole(data)).unwrap_or(size);
        if !copy_range(&source, target, data, hole)? {
            return copy_through_memory(source, target, buffer);
        }
        at = hole;
    }
    rustix::fs::ftruncate(target, size)?;
    Ok(())
}

/// Returns whether the kernel could copy the range.
fn copy_range(source: &File, target: &File, start: u64, end: u64) -> io::Result<bool> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let piece = usize::try_from(end - read_at).unwrap_or(PIECE).min(PIECE);
        match rustix::fs::copy_file_range(source, Some(&mut read_at), target, Some(&mut write_at), piece) {
            // The file became shorter; the caller truncates to the final size.
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
        interrupt::check()?;
    }
    Ok(true)
}

fn copy_through_memory(mut source: File, mut target: &File, buffer: &mut [u8]) -> io::Result<()> {
    io::Seek::rewind(&mut source)?;
    io::Seek::rewind(&mut target)?;
    write_content(&mut source, target, buffer)?;
    Ok(())
}
