//! System calls on a name in an open directory. They use no paths, so no component can be replaced meanwhile.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RawDir, SeekFrom, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::{Errno, Result};

use super::{FileKind, Status, Timestamp};

/// Bytes of names that are read at a time.
const NAMES: usize = 16 * 1024;

/// Opens `name` in `directory` with close-on-exec. A symbolic link is not followed.
///
/// # Errors
/// The kernel's error; `ELOOP` if `name` is a symbolic link and `flags` do not contain `O_PATH`.
pub fn open_at(directory: impl AsFd, name: &OsStr, flags: OFlags, mode: u32) -> Result<OwnedFd> {
    rustix::fs::openat(directory, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::from_raw_mode(mode))
}

/// Changes owner and group of `name` itself.
///
/// # Errors
/// The kernel's error; `EINVAL` for an id that the user namespace does not map.
pub fn chown_at(directory: impl AsFd, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
    rustix::fs::chownat(directory, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)
}

/// Changes the mode of `name`, which must not be a symbolic link.
///
/// # Errors
/// The kernel's error, or `ELOOP` for a symbolic link.
pub fn chmod_at(directory: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    // fchmodat(2) cannot refuse links. So the file is opened, and changed by its descriptor's path.
    let file = open_at(&directory, name, OFlags::PATH, 0)?;
    if Status::of(&file)?.kind == FileKind::Symlink {
        return Err(Errno::LOOP);
    }
    match rustix::fs::chmod(descriptor_path(&file, None), Mode::from_raw_mode(mode)) {
        // Without /proc, the name must be used. A moment ago it was not a link.
        Err(Errno::NOENT | Errno::NOTDIR) => {
            rustix::fs::chmodat(directory, name, Mode::from_raw_mode(mode), AtFlags::empty())
        }
        answer => answer,
    }
}

/// Sets the modification time of `name` itself. The access time is not changed.
///
/// # Errors
/// The kernel's error.
pub fn set_modified_at(directory: impl AsFd, name: &OsStr, time: Timestamp) -> Result<()> {
    rustix::fs::utimensat(directory, name, &modified(time), AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets the modification time of an open file. The access time is not changed.
///
/// # Errors
/// The kernel's error.
pub fn set_modified(file: impl AsFd, time: Timestamp) -> Result<()> {
    rustix::fs::futimens(file, &modified(time))
}

fn modified(time: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) },
    }
}

/// Reports whether this thread ignores permissions of files (`CAP_DAC_OVERRIDE`). Returns `false` if that is unknown.
pub fn overrides_permissions() -> bool {
    let capabilities = rustix::thread::capabilities(None);
    capabilities.is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::DAC_OVERRIDE))
}

/// Returns the names in an open directory, sorted by their bytes, without `.` and `..`.
///
/// # Errors
/// The kernel's error.
pub fn names(directory: impl AsFd) -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    // An earlier listing left the offset at its end.
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

/// Returns the path in `/proc` of an open file, or of an entry of an open directory, for system calls that take a path
/// but must use exactly this file.
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
