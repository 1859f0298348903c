//! The status of files, in one type for all system calls.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, StatxFlags, StatxTimestamp};
use rustix::io::{Errno, Result};

/// A point in time: seconds since 1970, possibly negative, and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000, counted forward also before 1970.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Returns a time in whole seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// Returns the current time, by the clock from which file systems take their times.
    pub fn now() -> Self {
        // A clock before 1970 results in the epoch.
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self { seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nanoseconds: now.subsec_nanos() }
    }

    /// Returns the time `milliseconds` earlier.
    #[must_use]
    pub fn minus_milliseconds(self, milliseconds: u32) -> Self {
        let total = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds)
            - i128::from(milliseconds) * 1_000_000;
        Self {
            seconds: i64::try_from(total.div_euclid(1_000_000_000)).unwrap_or(i64::MIN),
            nanoseconds: u32::try_from(total.rem_euclid(1_000_000_000)).unwrap_or(0),
        }
    }
}

impl From<StatxTimestamp> for Timestamp {
    fn from(time: StatxTimestamp) -> Self {
        Self { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
    }
}

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket; layers cannot hold one.
    Socket,
}

/// The status of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The kind, with the numbers of a device.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits (07777).
    pub mode: u32,
    /// The owner in this process's user namespace.
    pub uid: u32,
    /// The group in this process's user namespace.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// The time of the last change of the content.
    pub modified: Timestamp,
    /// The time of the last change of content or attributes; programs cannot set it.
    pub changed: Timestamp,
    /// The creation time of the inode; zero if the file system does not record it.
    pub born: Timestamp,
    /// The device of the file.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Number of names.
    pub link_count: u64,
}

impl Status {
    /// Returns the status of `name` in `directory`, without following a symbolic link.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn at(directory: impl AsFd, name: &OsStr) -> Result<Self> {
        Self::query(directory, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Returns the status of an open file.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn of(file: impl AsFd) -> Result<Self> {
        Self::query(file, OsStr::new(""), AtFlags::EMPTY_PATH)
    }

    fn query(directory: impl AsFd, name: &OsStr, flags: AtFlags) -> Result<Self> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        match rustix::fs::statx(&directory, name, flags | AtFlags::NO_AUTOMOUNT, wanted) {
            Ok(found) => Ok(Self {
                kind: file_kind(
                    FileType::from_raw_mode(found.stx_mode.into()),
                    found.stx_rdev_major,
                    found.stx_rdev_minor,
                ),
                mode: u32::from(found.stx_mode) & 0o7777,
                uid: found.stx_uid,
                gid: found.stx_gid,
                size: found.stx_size,
                modified: found.stx_mtime.into(),
                changed: found.stx_ctime.into(),
                born: if found.stx_mask & StatxFlags::BTIME.bits() == 0 {
                    Timestamp::default()
                } else {
                    found.stx_btime.into()
                },
                device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
                link_count: found.stx_nlink.into(),
            }),
            // Old seccomp profiles refuse statx.
            Err(Errno::NOSYS | Errno::PERM) => {
                let found = rustix::fs::statat(&directory, name, flags)?;
                let device = found.st_rdev;
                Ok(Self {
                    kind: file_kind(
                        FileType::from_raw_mode(found.st_mode),
                        rustix::fs::major(device),
                        rustix::fs::minor(device),
                    ),
                    mode: found.st_mode & 0o7777,
                    uid: found.st_uid,
                    gid: found.st_gid,
                    size: u64::try_from(found.st_size).unwrap_or(0),
                    modified: timestamp(found.st_mtime, found.st_mtime_nsec),
                    changed: timestamp(found.st_ctime, found.st_ctime_nsec),
                    born: Timestamp::default(),
                    device: found.st_dev,
                    inode: found.st_ino,
                    link_count: found.st_nlink,
                })
            }
            Err(errno) => Err(errno),
        }
    }
}

fn timestamp(seconds: i64, nanoseconds: u64) -> Timestamp {
    Timestamp { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) }
}

fn file_kind(kind: FileType, major: u32, minor: u32) -> FileKind {
    match kind {
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::CharacterDevice => FileKind::CharDevice { major, minor },
        FileType::BlockDevice => FileKind::BlockDevice { major, minor },
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::RegularFile | FileType::Unknown => FileKind::File,
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn time_goes_back_over_the_second_and_before_1970() {
        let time = Timestamp { seconds: 5, nanoseconds: 10_000_000 };
        assert_eq!(time.minus_milliseconds(20), Timestamp { seconds: 4, nanoseconds: 990_000_000 });
        assert_eq!(
            Timestamp::from_seconds(0).minus_milliseconds(1),
            Timestamp { seconds: -1, nanoseconds: 999_000_000 }
        );
    }
}
