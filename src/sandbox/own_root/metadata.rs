//! The attributes of a directory that stays while its entries are exchanged.

use std::ffi::CString;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Mode, owner, modification time and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DirectoryMetadata {
    mode: u32,
    uid: u32,
    gid: u32,
    seconds: i64,
    nanoseconds: i64,
    xattrs: Vec<(CString, Vec<u8>)>,
}

/// The label of SELinux belongs to the place, not to the image.
const PLACE_BOUND: &[u8] = b"security.selinux";

impl DirectoryMetadata {
    /// Reads those of the directory `path`.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::lstat(path)?;
        Ok(Self {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            seconds: stat.st_mtime,
            nanoseconds: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            xattrs: read_xattrs(path)?,
        })
    }

    /// Those of a directory that an image lacks: root's, mode 0755, otherwise as it is.
    pub(super) fn plain(self) -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, xattrs: Vec::new(), ..self }
    }

    /// Gives them to the directory `path`.
    pub(super) fn apply(&self, path: &Path) -> io::Result<()> {
        let now = Self::read(path)?;
        if (now.uid, now.gid) != (self.uid, self.gid) {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        // A change of owner may clear bits of the mode.
        if now.mode != self.mode || (now.uid, now.gid) != (self.uid, self.gid) {
            rustix::fs::chmod(path, Mode::from_raw_mode(self.mode))?;
        }
        for (name, value) in &self.xattrs {
            if !now.xattrs.iter().any(|(have, is)| have == name && is == value) {
                tolerate(path, name, rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()))?;
            }
        }
        for (name, _) in &now.xattrs {
            if !self.xattrs.iter().any(|(wanted, _)| wanted == name) {
                tolerate(path, name, rustix::fs::lremovexattr(path, name))?;
            }
        }
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds },
        };
        Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// Attributes that a container may not set are not worth failing for.
fn tolerate(path: &Path, name: &CString, result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::PERM | Errno::NOTSUP | Errno::NODATA) => {
            tracing::debug!("extended attribute {name:?} of {} stays as it is", path.display());
            Ok(())
        }
        other => Ok(other?),
    }
}

fn read_xattrs(path: &Path) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let mut names = vec![0_u8; 64 * 1024];
    let length = match rustix::fs::llistxattr(path, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let mut xattrs = Vec::new();
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0) {
        if name.is_empty() || name == PLACE_BOUND {
            continue;
        }
        let name = CString::new(name)?;
        let mut value = vec![0_u8; 64 * 1024];
        match rustix::fs::lgetxattr(path, &name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                xattrs.push((name, value));
            }
            Err(Errno::NODATA | Errno::PERM | Errno::NOTSUP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(xattrs)
}
