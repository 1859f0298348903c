//! Makes one regular file in any tree.
//!
//! It uses as few system calls as possible, because most files of an image are small: a file that gets its owner and
//! mode when it is made, as nearly all do, is made, written, given its time, and its status is read.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::diag::interrupt;
use crate::fs::xattr::{self, Xattrs};
use crate::fs::{FileKind, Status, sys};

use super::attributes::Attributes;
use super::index::{ContentHash, ContentHasher};

/// Bytes that are read or written at a time.
pub(super) const CHUNK: usize = 128 * 1024;
/// The mode bits with which a file may be made; a change of the owner clears the others.
const PERMISSIONS: u32 = 0o777;

/// A file to make.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewFile<'a> {
    /// The directory.
    pub(super) directory: BorrowedFd<'a>,
    /// The name in it.
    pub(super) name: &'a OsStr,
    /// The attributes in the image.
    pub(super) attributes: &'a Attributes,
    /// The mode on disk.
    pub(super) mode: u32,
}

/// A file that was made.
#[derive(Debug)]
pub(super) struct MadeFile {
    /// The status on disk.
    pub(super) status: Status,
    /// The hash of the content.
    pub(super) hash: ContentHash,
    /// Extended attributes that the file system did not accept.
    pub(super) missing_xattrs: Xattrs,
    /// The file that it replaced, if that had no other name.
    pub(super) replaced: Option<Status>,
}

impl NewFile<'_> {
    /// Makes the file from `content`, through `buffer`, which is not empty. A file in the way is replaced, a directory
    /// is not.
    pub(super) fn make(&self, content: &mut impl Read, buffer: &mut [u8]) -> io::Result<MadeFile> {
        let (file, replaced) = self.create()?;
        let hash = write_content(content, &file, buffer)?;
        let (status, missing_xattrs) = self.finish(&file)?;
        Ok(MadeFile { status, hash, missing_xattrs, replaced })
    }

    /// Makes the file from bytes in memory.
    pub(super) fn make_of(&self, content: &[u8]) -> io::Result<MadeFile> {
        let (file, replaced) = self.create()?;
        write_bytes(content, &file)?;
        let (status, missing_xattrs) = self.finish(&file)?;
        Ok(MadeFile { status, hash: ContentHash::of(content), missing_xattrs, replaced })
    }

    /// Makes an empty file, and returns the replaced file if that had no other name.
    pub(super) fn create(&self) -> rustix::io::Result<(File, Option<Status>)> {
        let Self { directory, name, mode, .. } = *self;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        replacing(directory, name, || sys::open_at(directory, name, flags, mode & PERMISSIONS).map(File::from))
    }

    /// Sets owner, mode, attributes and time of the written file. Returns its status, and the attributes that the file
    /// system did not accept.
    pub(super) fn finish(&self, file: &File) -> rustix::io::Result<(Status, Xattrs)> {
        let Attributes { uid, gid, mtime, ref xattrs, .. } = *self.attributes;
        held_or_recorded(sys::set_modified(file, mtime))?;
        let status = Status::of(file)?;
        let is_owned = (status.uid, status.gid) == (uid, gid);
        if is_owned && status.mode == self.mode && xattrs.is_empty() {
            return Ok((status, Xattrs::new()));
        }
        // A change of the owner clears set-id bits and capabilities, so it comes first. None of these changes the time.
        if !is_owned {
            held_or_recorded(rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))?;
        }
        held_or_recorded(rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode)))?;
        let missing = set_xattrs(self.directory, self.name, xattrs)?;
        Ok((Status::of(file)?, missing))
    }
}

/// Runs `make`, and again after removing a file in the way; a directory is an error. Also returns the status of the
/// removed file if it had no other name.
pub(super) fn replacing<T>(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    make: impl Fn() -> rustix::io::Result<T>,
) -> rustix::io::Result<(T, Option<Status>)> {
    match make() {
        Err(Errno::EXIST) => {
            let status = Status::at(directory, name)?;
            if status.kind == FileKind::Directory {
                return Err(Errno::EXIST);
            }
            rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
            Ok((make()?, (status.link_count <= 1).then_some(status)))
        }
        answer => Ok((answer?, None)),
    }
}

/// Sets extended attributes, and returns those that the file system does not support.
pub(super) fn set_xattrs(directory: BorrowedFd<'_>, name: &OsStr, xattrs: &Xattrs) -> rustix::io::Result<Xattrs> {
    let mut missing = Xattrs::new();
    for (attribute, value) in xattrs.iter().filter(|(attribute, _)| xattr::is_carried(attribute)) {
        if !held_or_recorded(xattr::set_at(directory, name, attribute, value))? {
            missing.insert(attribute.clone(), value.clone());
        }
    }
    Ok(missing)
}

/// Returns whether the file system accepted an attribute. An unsupported one is recorded; other errors are returned.
pub(super) fn held_or_recorded(answer: rustix::io::Result<()>) -> rustix::io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::OVERFLOW) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Copies `content` into an empty file and hashes it. Runs of zeros become holes, so that a small layer cannot fill a
/// disk with zeros. A file that fits into `buffer`, which is not empty, is written at once.
pub(super) fn write_content(content: &mut impl Read, file: &File, buffer: &mut [u8]) -> io::Result<ContentHash> {
    let mut hasher = ContentHasher::new();
    let mut size = 0_u64;
    let mut hole = false;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match content.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let chunk = &buffer[..filled];
        if chunk.is_empty() {
            break;
        }
        hasher.update(chunk);
        hole = write_chunk(chunk, filled == buffer.len(), file)?;
        size += u64::try_from(filled).unwrap_or(u64::MAX);
        if filled < buffer.len() {
            break;
        }
        interrupt::check()?;
    }
    if hole {
        rustix::fs::ftruncate(file, size)?;
    }
    Ok(hasher.finish())
}

/// Writes content in memory in the same way.
fn write_bytes(content: &[u8], file: &File) -> io::Result<()> {
    let mut hole = false;
    for chunk in content.chunks(CHUNK) {
        hole = write_chunk(chunk, chunk.len() == CHUNK, file)?;
    }
    if hole {
        rustix::fs::ftruncate(file, u64::try_from(content.len()).unwrap_or(u64::MAX))?;
    }
    Ok(())
}

/// Writes a chunk; zeros that fill the whole buffer become a hole. Returns whether it was one.
fn write_chunk(chunk: &[u8], is_full: bool, mut file: &File) -> io::Result<bool> {
    let hole = is_full && chunk.iter().all(|byte| *byte == 0);
    if hole {
        let size = i64::try_from(chunk.len()).unwrap_or(i64::MAX);
        rustix::fs::seek(file, rustix::fs::SeekFrom::Current(size))?;
    } else {
        file.write_all(chunk)?;
    }
    Ok(hole)
}
