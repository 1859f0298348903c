//! Reads and sets the attributes of a merged directory while its entries are exchanged.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use super::calls;
use super::directory::Directory;
use crate::fs::Timestamp;
use crate::sandbox::SandboxError;

/// Mode, owner, modification time and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DirectoryMetadata {
    mode: u32,
    uid: u32,
    gid: u32,
    seconds: i64,
    nanoseconds: u32,
    xattrs: BTreeMap<Bytes, Bytes>,
}

/// The SELinux label belongs to the path, not to the image.
const PLACE_BOUND: &[u8] = b"security.selinux";

impl DirectoryMetadata {
    /// Reads the attributes of an open directory.
    pub(super) fn of(directory: &Directory) -> Result<Self, SandboxError> {
        Self::read_open(directory).map_err(directory.own_error("read the attributes of"))
    }

    /// Reads the attributes of the directory `path`.
    pub(super) fn read(path: &Path) -> Result<Self, SandboxError> {
        Self::of(&Directory::open(path)?)
    }

    /// Returns the attributes of a directory that the image lacks: owned by root, mode 0755, the same time.
    pub(super) fn plain(self) -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, xattrs: BTreeMap::new(), ..self }
    }

    /// Sets the attributes of an open directory.
    pub(super) fn apply_to(&self, directory: &Directory) -> Result<(), SandboxError> {
        self.apply_to_open(directory).map_err(directory.own_error("set the attributes of"))
    }

    /// Sets the attributes of the directory `path`.
    pub(super) fn apply(&self, path: &Path) -> Result<(), SandboxError> {
        self.apply_to(&Directory::open(path)?)
    }

    fn read_open(directory: &Directory) -> rustix::io::Result<Self> {
        let status = calls::status_of(directory)?;
        let Timestamp { seconds, nanoseconds } = status.modified;
        let mut xattrs = BTreeMap::new();
        for name in calls::xattrs(directory)? {
            if name == PLACE_BOUND {
                continue;
            }
            match calls::xattr(directory, &name) {
                Ok(value) => {
                    xattrs.insert(Bytes(name), Bytes(value));
                }
                Err(Errno::NODATA | Errno::PERM | Errno::NOTSUP) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Self { mode: status.mode, uid: status.uid, gid: status.gid, seconds, nanoseconds, xattrs })
    }

    fn apply_to_open(&self, directory: &Directory) -> rustix::io::Result<()> {
        let now = Self::read_open(directory)?;
        if (now.uid, now.gid) != (self.uid, self.gid) {
            calls::change_owner(directory, self.uid, self.gid)?;
        }
        // A change of owner may clear bits of the mode.
        if now.mode != self.mode || (now.uid, now.gid) != (self.uid, self.gid) {
            calls::change_mode(directory, self.mode)?;
        }
        for (name, value) in &self.xattrs {
            if now.xattrs.get(name) != Some(value) {
                tolerate(directory, name, calls::set_xattr(directory, &name.0, &value.0))?;
            }
        }
        for name in now.xattrs.keys().filter(|name| !self.xattrs.contains_key(*name)) {
            tolerate(directory, name, calls::remove_xattr(directory, &name.0))?;
        }
        calls::set_modified(directory, Timestamp { seconds: self.seconds, nanoseconds: self.nanoseconds })
    }
}

/// Ignores failures for attributes that a container may not set.
fn tolerate(directory: &Directory, name: &Bytes, result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::PERM | Errno::NOTSUP | Errno::NODATA) => {
            tracing::debug!(
                "extended attribute {} of {} is left unchanged",
                String::from_utf8_lossy(&name.0),
                directory.path().display()
            );
            Ok(())
        }
        other => other,
    }
}
