//! System calls on a name inside an open directory: never a path, so nothing on the way can be exchanged.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RawDir, SeekFrom, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::{Errno, Result};

use super::{FileKind, Status, Timestamp};

/// Bytes of names that the kernel gives at a time.
const NAMES: usize = 16 * 1024;

/// Opens `name` in `directory`, never through a symbolic link, closed on exec.
///
/// # Errors
/// The kernel's answer; `ELOOP` when `name` is a symbolic link and `O_PATH` was not asked for.
pub fn open_at(directory: impl AsFd, name: &OsStr, flags: OFlags, mode: u32) -> Result<OwnedFd> {
    rustix::fs::openat(directory, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::from_raw_mode(mode))
}

/// Changes owner and group of `name` itself.
///
/// # Errors
/// The kernel's answer; `EINVAL` for an id the user namespace does not map.
pub fn chown_at(directory: impl AsFd, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
    rustix::fs::chownat(directory, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)
}

/// Changes the mode of `name`, which must not be a symbolic link.
///
/// # Errors
/// The kernel's answer, or `ELOOP` for a symbolic link.
pub fn chmod_at(directory: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    // fchmodat(2) knows no "do not follow"; the file is pinned first and changed through its descriptor's name.
    let file = open_at(&directory, name, OFlags::PATH, 0)?;
    if Status::of(&file)?.kind == FileKind::Symlink {
        return Err(Errno::LOOP);
    }
    match rustix::fs::chmod(descriptor_path(&file, None), Mode::from_raw_mode(mode)) {
        // Without /proc there is only the name; it was no link a moment ago.
        Err(Errno::NOENT | Errno::NOTDIR) => {
            rustix::fs::chmodat(directory, name, Mode::from_raw_mode(mode), AtFlags::empty())
        }
        answer => answer,
    }
}

/// Sets the modification time of `name` itself and leaves the access time alone.
///
/// # Errors
/// The kernel's answer.
pub fn set_modified_at(directory: impl AsFd, name: &OsStr, time: Timestamp) -> Result<()> {
    rustix::fs::utimensat(directory, name, &modified(time), AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets the modification time of an open file and leaves the access time alone.
///
/// # Errors
/// The kernel's answer.
pub fn set_modified(file: impl AsFd, time: Timestamp) -> Result<()> {
    rustix::fs::futimens(file, &modified(time))
}

fn modified(time: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) },
    }
}

/// Whether permissions of files do not bind this thread (`CAP_DAC_OVERRIDE`). If that cannot be found out, they do.
pub fn overrides_permissions() -> bool {
    let capabilities = rustix::thread::capabilities(None);
    capabilities.is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::DAC_OVERRIDE))
}

/// The names in an open directory, sorted by their bytes, without `.` and `..`.
///
/// # Errors
/// The kernel's answer.
pub fn names(directory: impl AsFd) -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    // Whoever listed it before left it at its end.
    rustix::fs::seek(&directory, SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); NAMES];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The name `/proc` gives an open file, or an entry of an open directory. Calls that take only a path but must reach
/// exactly this file use it.
pub(super) fn descriptor_path(file: impl AsFd, name: Option<&OsStr>) -> PathBuf {
    let mut path = String::from("/proc/self/fd/");
    // Writing to a String cannot fail.
    if write!(path, "{}", file.as_fd().as_raw_fd()).is_err() {
        path.clear();
    }
    let mut path = PathBuf::from(path);
    if let Some(name) = name {
        path.push(name);
    }
    path
}
