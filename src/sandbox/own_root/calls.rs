//! Makes the system calls of an exchange, each on a name in an open directory and never on a path.
//!
//! Tests make any of them fail, or this and all following calls, as if the process had been killed there: see `faults`.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::{Errno, Result};

use crate::fs::{Status, Timestamp, sys};

#[cfg(test)]
use super::faults::point;

/// A point at which tests inject failures. Does nothing outside of tests.
#[cfg(not(test))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "in tests it fails")]
fn point(_call: &'static str) -> Result<()> {
    Ok(())
}

/// The kernel's limit for a list of attribute names and for a value.
const MAX_XATTR: usize = 64 * 1024;

/// Opens a directory for reading: an `O_PATH` descriptor could neither be listed nor given attributes without `/proc`.
pub(super) fn open_directory(at: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    point("openat directory")?;
    sys::open_at(at, name, OFlags::RDONLY | OFlags::DIRECTORY, 0)
}

/// Opens the name as `O_PATH`, which takes no permission to read it.
pub(super) fn pin(at: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    point("openat path")?;
    sys::open_at(at, name, OFlags::PATH, 0)
}

pub(super) fn open_file(at: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    point("openat")?;
    sys::open_at(at, name, OFlags::RDONLY | OFlags::NONBLOCK, 0)
}

pub(super) fn open_to_write(at: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    point("openat write")?;
    sys::open_at(at, name, OFlags::RDWR | OFlags::NONBLOCK, 0)
}

pub(super) fn create(at: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    point("openat create")?;
    sys::open_at(at, name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, 0o600)
}

/// Reads the rest of a file, up to `most` bytes.
pub(super) fn read(file: impl AsFd, most: usize) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while content.len() < most {
        point("read")?;
        let length = match rustix::io::read(&file, &mut buffer) {
            Err(Errno::INTR) => continue,
            answer => answer?,
        };
        if length == 0 {
            break;
        }
        content.extend_from_slice(buffer.get(..length).unwrap_or_default());
    }
    content.truncate(most);
    Ok(content)
}

/// Overwrites existing bytes of a file.
pub(super) fn overwrite(file: impl AsFd, bytes: &[u8], offset: u64) -> Result<()> {
    write_at(file, bytes, offset, "pwrite")
}

/// Writes at the end of a file.
pub(super) fn append(file: impl AsFd, bytes: &[u8], length: u64) -> Result<()> {
    write_at(file, bytes, length, "pwrite at the end")
}

fn write_at(file: impl AsFd, mut bytes: &[u8], mut offset: u64, call: &'static str) -> Result<()> {
    while !bytes.is_empty() {
        point(call)?;
        let written = match rustix::io::pwrite(&file, bytes, offset) {
            Err(Errno::INTR) => continue,
            Ok(0) => return Err(Errno::IO),
            answer => answer?,
        };
        bytes = bytes.get(written..).unwrap_or_default();
        offset += u64::try_from(written).unwrap_or_default();
    }
    Ok(())
}

pub(super) fn set_length(file: impl AsFd, length: u64) -> Result<()> {
    point("ftruncate")?;
    rustix::fs::ftruncate(file, length)
}

pub(super) fn make_directory(at: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    point("mkdirat")?;
    rustix::fs::mkdirat(at, name, Mode::from_raw_mode(mode))
}

pub(super) fn rename(from: impl AsFd, old: &OsStr, to: impl AsFd, new: &OsStr) -> Result<()> {
    point("renameat")?;
    rustix::fs::renameat(from, old, to, new)
}

pub(super) fn unlink(at: impl AsFd, name: &OsStr) -> Result<()> {
    point("unlinkat")?;
    rustix::fs::unlinkat(at, name, AtFlags::empty())
}

pub(super) fn remove_directory(at: impl AsFd, name: &OsStr) -> Result<()> {
    point("unlinkat directory")?;
    rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)
}

/// Removes `name` with everything below it.
pub(super) fn remove_tree(at: impl AsFd, name: &OsStr) -> Result<()> {
    point("unlinkat tree")?;
    crate::fs::remove_at(at, name)
}

pub(super) fn symlink(target: &Path, at: impl AsFd, name: &OsStr) -> Result<()> {
    point("symlinkat")?;
    rustix::fs::symlinkat(target, at, name)
}

pub(super) fn read_link(at: impl AsFd, name: &OsStr) -> Result<CString> {
    point("readlinkat")?;
    rustix::fs::readlinkat(at, name, Vec::new())
}

pub(super) fn status_at(at: impl AsFd, name: &OsStr) -> Result<Status> {
    point("statx")?;
    Status::at(at, name)
}

pub(super) fn status_of(file: impl AsFd) -> Result<Status> {
    point("statx")?;
    Status::of(file)
}

pub(super) fn names(directory: impl AsFd) -> Result<Vec<OsString>> {
    point("getdents")?;
    sys::names(directory)
}

pub(super) fn change_owner(file: impl AsFd, uid: u32, gid: u32) -> Result<()> {
    point("fchown")?;
    rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

pub(super) fn change_mode(file: impl AsFd, mode: u32) -> Result<()> {
    point("fchmod")?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
}

pub(super) fn set_modified(file: impl AsFd, time: Timestamp) -> Result<()> {
    point("futimens")?;
    sys::set_modified(file, time)
}

pub(super) fn xattrs(file: impl AsFd) -> Result<Vec<Vec<u8>>> {
    point("flistxattr")?;
    let mut names = vec![0_u8; MAX_XATTR];
    let length = match rustix::fs::flistxattr(file, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno),
    };
    let names = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    Ok(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

pub(super) fn xattr(file: impl AsFd, name: &[u8]) -> Result<Vec<u8>> {
    point("fgetxattr")?;
    let mut value = vec![0_u8; MAX_XATTR];
    let length = rustix::fs::fgetxattr(file, name, value.as_mut_slice())?;
    value.truncate(length);
    Ok(value)
}

pub(super) fn set_xattr(file: impl AsFd, name: &[u8], value: &[u8]) -> Result<()> {
    point("fsetxattr")?;
    rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
}

pub(super) fn remove_xattr(file: impl AsFd, name: &[u8]) -> Result<()> {
    point("fremovexattr")?;
    rustix::fs::fremovexattr(file, name)
}
