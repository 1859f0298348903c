//! Extended attributes of a name in an open directory, as far as images carry them.
//!
//! Layers of BuildKit only have `security.capability`. `user.` attributes are carried as well, because a base image may
//! have them, and a change of the file's mode should not drop them. All others belong to the machine, not to the image:
//! SELinux labels, ACLs, and marks of overlay file systems.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{OFlags, XattrFlags};
use rustix::io::{Errno, Result};

use super::sys;

/// Names and values of extended attributes.
pub type Xattrs = BTreeMap<OsString, Vec<u8>>;

/// The attribute for file capabilities. Changing the owner or content removes it.
pub const CAPABILITY: &str = "security.capability";

/// The kernel's limit for a list of names and for a value.
const MAX_SIZE: usize = 64 * 1024;

/// Reports whether images carry attributes of this name.
pub fn is_carried(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name == CAPABILITY.as_bytes()
        || (name.starts_with(b"user.")
            && ![&b"user.overlay."[..], b"user.fuseoverlayfs.", b"user.containers.", b"user.rootlesscontainers"]
                .iter()
                .any(|prefix| name.starts_with(prefix)))
}

/// Returns only the file capabilities among `xattrs`, the single attribute in layers of BuildKit.
pub fn capability_alone(xattrs: &Xattrs) -> Xattrs {
    xattrs.iter().filter(|(name, _)| *name == CAPABILITY).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Returns the carried attributes of `name` in `directory`, without following a symbolic link. Empty if the file system
/// has none.
///
/// # Errors
/// The kernel's error.
pub fn read_at(directory: impl AsFd, name: &OsStr) -> Result<Xattrs> {
    let path = sys::descriptor_path(&directory, Some(name));
    let listed = query(|buffer| rustix::fs::llistxattr(&path, buffer));
    match listed {
        Ok(list) => collect(&list, |attribute| query(|buffer| rustix::fs::lgetxattr(&path, attribute, buffer))),
        Err(Errno::NOTSUP) => Ok(Xattrs::new()),
        // Without /proc, the directory has no path.
        Err(Errno::NOENT | Errno::NOTDIR) => {
            let file = sys::open_at(directory, name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?;
            read_of(file)
        }
        Err(errno) => Err(errno),
    }
}

/// Returns the carried attributes of an open file.
///
/// # Errors
/// The kernel's error.
pub fn read_of(file: impl AsFd) -> Result<Xattrs> {
    match query(|buffer| rustix::fs::flistxattr(&file, buffer)) {
        Ok(list) => collect(&list, |attribute| query(|buffer| rustix::fs::fgetxattr(&file, attribute, buffer))),
        Err(Errno::NOTSUP) => Ok(Xattrs::new()),
        Err(errno) => Err(errno),
    }
}

/// Sets one attribute of `name` in `directory`.
///
/// # Errors
/// The kernel's error.
pub fn set_at(directory: impl AsFd, name: &OsStr, attribute: &OsStr, value: &[u8]) -> Result<()> {
    let path = sys::descriptor_path(&directory, Some(name));
    match rustix::fs::lsetxattr(&path, attribute, value, XattrFlags::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => {
            let file = sys::open_at(directory, name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?;
            rustix::fs::fsetxattr(file, attribute, value, XattrFlags::empty())
        }
        answer => answer,
    }
}

/// Removes an attribute of `name` in `directory`, if it exists.
///
/// # Errors
/// The kernel's error.
pub fn remove_at(directory: impl AsFd, name: &OsStr, attribute: &OsStr) -> Result<()> {
    match rustix::fs::lremovexattr(sys::descriptor_path(&directory, Some(name)), attribute) {
        Err(Errno::NODATA) => Ok(()),
        answer => answer,
    }
}

fn collect(list: &[u8], value: impl Fn(&OsStr) -> Result<Vec<u8>>) -> Result<Xattrs> {
    let mut found = Xattrs::new();
    for name in list.split(|byte| *byte == 0).map(OsStr::from_bytes).filter(|name| is_carried(name)) {
        match value(name) {
            Ok(value) => {
                found.insert(name.to_owned(), value);
            }
            // Removed between the two calls.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

/// Most files have no attributes, so the short buffer is nearly always enough.
fn query(call: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut short = [0_u8; 256];
    match call(&mut short) {
        Ok(size) => Ok(short.get(..size).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {
            let mut long = vec![0_u8; MAX_SIZE];
            let size = call(&mut long)?;
            long.truncate(size);
            Ok(long)
        }
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Root;

    #[test]
    fn only_the_images_own_attributes_are_carried() {
        for (name, carried) in [
            ("security.capability", true),
            ("user.note", true),
            ("user.overlay.opaque", false),
            ("security.selinux", false),
            ("trusted.overlay.opaque", false),
            ("system.posix_acl_access", false),
        ] {
            assert_eq!(is_carried(OsStr::new(name)), carried, "{name}");
        }
    }

    #[test]
    fn attributes_are_set_read_and_removed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(directory.path().join("file"), "x").expect("file");
        let root = Root::open(directory.path()).expect("root");
        let (file, note) = (OsStr::new("file"), OsStr::new("user.note"));
        assert_eq!(read_at(&root, file), Ok(Xattrs::new()));
        if let Err(errno) = set_at(&root, file, note, b"long enough to need the larger buffer".repeat(20).as_slice()) {
            assert_eq!(errno, Errno::NOTSUP);
            return;
        }
        assert_eq!(read_at(&root, file).expect("read").get(note).map(Vec::len), Some(740));
        remove_at(&root, file, note).expect("removed");
        remove_at(&root, file, note).expect("removed twice");
        assert_eq!(read_at(&root, file), Ok(Xattrs::new()));
    }
}
