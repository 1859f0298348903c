//! Records attributes that the file system below a tree does not accept.
//!
//! In a user namespace that maps one id, every `chown` to a different id fails; device nodes and file capabilities may
//! be refused anywhere. The image must still have them. So the wanted attributes are stored by inode, because a renamed
//! file keeps its owner, together with the status on disk. The record is valid while the disk has that status;
//! attributes that a program changed since are taken from the disk.

use std::collections::HashMap;

use crate::fs::xattr::{CAPABILITY, Xattrs};
use crate::fs::{FileKind, Status, Timestamp};

use super::attributes::Attributes;
use super::budget::xattrs_size;

/// Bytes that a record takes in addition to attributes: itself, and its share of a map that is half full.
const EACH: usize = 600;

/// An inode that differs from a later one with the same number, if the file system records birth times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Inode {
    device: u64,
    number: u64,
    born: Timestamp,
}

impl From<&Status> for Inode {
    fn from(status: &Status) -> Self {
        Self { device: status.device, number: status.inode, born: status.born }
    }
}

/// The wanted attributes of a file, and the status on disk after setting them.
#[derive(Debug, Clone)]
struct Record {
    wanted: Attributes,
    shown: Status,
    /// Attributes of `wanted` that the disk did not accept.
    missing_xattrs: Xattrs,
}

/// The records of a tree.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    by_inode: HashMap<Inode, Record>,
    /// Bytes of memory that their attributes take, roughly.
    xattrs: usize,
}

impl Records {
    /// Returns the bytes of memory that they take, roughly.
    pub(super) fn memory(&self) -> usize {
        self.by_inode.len() * EACH + self.xattrs
    }

    fn remove(&mut self, inode: &Inode) {
        if let Some(removed) = self.by_inode.remove(inode) {
            self.xattrs = self.xattrs.saturating_sub(xattrs_size(&removed.missing_xattrs));
        }
    }

    /// Records the attributes of `wanted` that `status` lacks, or removes the record if it lacks none.
    pub(crate) fn note(&mut self, wanted: &Attributes, status: &Status, missing_xattrs: Xattrs) {
        let shown = Attributes::shown(status, Xattrs::new());
        let held = shown.kind == wanted.kind
            && (shown.mode == wanted.mode || shown.kind == FileKind::Symlink)
            && (shown.uid, shown.gid) == (wanted.uid, wanted.gid)
            && shown.mtime == wanted.mtime
            && missing_xattrs.is_empty();
        let inode = Inode::from(status);
        self.remove(&inode);
        if !held {
            self.xattrs += xattrs_size(&missing_xattrs);
            let wanted = Attributes { xattrs: Xattrs::new(), ..wanted.clone() };
            self.by_inode.insert(inode, Record { wanted, shown: *status, missing_xattrs });
        }
    }

    /// Returns the attributes of a file: those of the record that are still valid, otherwise those on disk.
    pub(crate) fn apply(&self, status: &Status, xattrs: Xattrs) -> Attributes {
        let mut attributes = Attributes::shown(status, xattrs);
        // Nearly all trees have no records.
        if self.by_inode.is_empty() {
            return attributes;
        }
        let Some(Record { wanted, shown, missing_xattrs }) = self.by_inode.get(&Inode::from(status)) else {
            return attributes;
        };
        let untouched = shown.size == status.size && shown.modified == status.modified;
        if shown.kind == status.kind && (shown.kind == wanted.kind || untouched) {
            attributes.kind = wanted.kind;
        }
        if shown.mode == status.mode && shown.kind != FileKind::Symlink {
            attributes.mode = wanted.mode;
        }
        if shown.uid == status.uid {
            attributes.uid = wanted.uid;
        }
        if shown.gid == status.gid {
            attributes.gid = wanted.gid;
        }
        if shown.modified == status.modified {
            attributes.mtime = wanted.mtime;
        }
        // The kernel removes capabilities when content or owner change; so does the record.
        let keeps_capability = untouched && (shown.uid, shown.gid) == (status.uid, status.gid);
        for (name, value) in missing_xattrs {
            if name != CAPABILITY || keeps_capability {
                attributes.xattrs.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        attributes
    }

    /// Removes the record of a file.
    pub(crate) fn forget(&mut self, status: &Status) {
        if !self.by_inode.is_empty() {
            self.remove(&Inode::from(status));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            kind: FileKind::File,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            modified: Timestamp::from_seconds(7),
            changed: Timestamp::from_seconds(9),
            born: Timestamp::from_seconds(9),
            device: 1,
            inode: 2,
            link_count: 1,
        }
    }

    fn wanted() -> Attributes {
        let mut wanted = Attributes::new(FileKind::CharDevice { major: 1, minor: 3 }, 0o4755);
        wanted.uid = 1000;
        wanted.gid = 50;
        wanted.mtime = Timestamp::from_seconds(7);
        wanted
    }

    fn capability() -> Xattrs {
        Xattrs::from([(CAPABILITY.into(), vec![1])])
    }

    #[test]
    fn the_record_holds_while_the_disk_shows_the_same() {
        let mut records = Records::default();
        records.note(&wanted(), &status(), capability());
        let expected = Attributes { xattrs: capability(), ..wanted() };
        assert_eq!(records.apply(&status(), Xattrs::new()), expected);
    }

    #[test]
    fn what_a_program_changed_wins_one_by_one() {
        let mut records = Records::default();
        records.note(&wanted(), &status(), capability());
        let chowned = records.apply(&Status { uid: 5, ..status() }, Xattrs::new());
        assert_eq!((chowned.uid, chowned.gid, chowned.mode), (5, 50, 0o4755));
        assert!(chowned.xattrs.is_empty(), "a change of owner takes the capability");
        let written =
            records.apply(&Status { size: 4, modified: Timestamp::from_seconds(10), ..status() }, Xattrs::new());
        assert_eq!((written.kind, written.uid), (FileKind::File, 1000), "a device that was written to is a file");
        assert_eq!(written.mtime, Timestamp::from_seconds(10));
        let another = records.apply(&Status { born: Timestamp::from_seconds(11), ..status() }, Xattrs::new());
        assert_eq!(another.uid, 0, "another file that got the same inode number");
    }

    #[test]
    fn what_the_disk_shows_needs_no_record() {
        let mut records = Records::default();
        records.note(&wanted(), &status(), Xattrs::new());
        records.note(&Attributes::shown(&status(), Xattrs::new()), &status(), Xattrs::new());
        assert_eq!(records.apply(&Status { inode: 2, ..status() }, Xattrs::new()).uid, 0);
        assert!(records.by_inode.is_empty());
    }
}
