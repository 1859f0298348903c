//! What an image says about a file, apart from its content.

use std::ffi::OsString;

use crate::fs::xattr::Xattrs;
use crate::fs::{FileKind, Status, Timestamp};

/// A symbolic link's mode; Linux knows no other.
pub(crate) const SYMLINK_MODE: u32 = 0o777;

/// Kind, mode, owner, time and extended attributes of a file, as they stand in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// What it is.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits (07777); of no meaning for a symbolic link.
    pub mode: u32,
    /// Owner, as the image numbers users.
    pub uid: u32,
    /// Group, as the image numbers groups.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Extended attributes that images carry.
    pub xattrs: Xattrs,
}

impl Attributes {
    /// A file of root's, made at the epoch, with this mode.
    pub fn new(kind: FileKind, mode: u32) -> Self {
        Self { kind, mode, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: Xattrs::new() }
    }

    /// What the kernel shows, with the extended attributes read beside it.
    pub(crate) fn shown(status: &Status, xattrs: Xattrs) -> Self {
        Self {
            kind: status.kind,
            mode: if status.kind == FileKind::Symlink { SYMLINK_MODE } else { status.mode },
            uid: status.uid,
            gid: status.gid,
            mtime: status.modified,
            xattrs,
        }
    }
}

/// A file of the tree, the record applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What the image says of it.
    pub attributes: Attributes,
    /// Size of the content in bytes; of a link, of its target.
    pub size: u64,
    /// Where a symbolic link points.
    pub link_target: Option<OsString>,
    /// Device and inode number: names with the same identity are hard links of one file.
    pub identity: (u64, u64),
    /// Number of hard links.
    pub link_count: u64,
}
