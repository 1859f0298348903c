//! The attributes of files in an image.

use std::ffi::OsString;

use crate::fs::xattr::Xattrs;
use crate::fs::{FileKind, Status, Timestamp};

/// The mode of symbolic links; Linux has no other.
pub(crate) const SYMLINK_MODE: u32 = 0o777;

/// Kind, mode, owner, time and extended attributes of a file, as in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// The kind of the file.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits (07777); without meaning for a symbolic link.
    pub mode: u32,
    /// The owner, an id in the image.
    pub uid: u32,
    /// The group, an id in the image.
    pub gid: u32,
    /// The time of the last change of the content.
    pub mtime: Timestamp,
    /// The extended attributes that images carry.
    pub xattrs: Xattrs,
}

impl Attributes {
    /// Returns the attributes of a file of root with this mode and the time 1970.
    pub fn new(kind: FileKind, mode: u32) -> Self {
        Self { kind, mode, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: Xattrs::new() }
    }

    /// Returns the attributes on disk, with extended attributes that were read separately.
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

/// A file of the tree, as the image has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The attributes in the image.
    pub attributes: Attributes,
    /// The size of the content in bytes; for a link, of its target.
    pub size: u64,
    /// The target of a symbolic link.
    pub link_target: Option<OsString>,
    /// Device and inode number: paths with the same identity are hard links of one file.
    pub identity: (u64, u64),
    /// The number of hard links.
    pub link_count: u64,
}
