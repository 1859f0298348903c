//! Fuzz targets: mountinfo, what a supervisor reports, and own-root's journal.

use std::path::Path;

use super::message::Report;
pub(crate) use super::own_root::fuzzing::journal;

/// Any mountinfo is read; every path has a mount where `/` has one.
pub(crate) fn mountinfo(input: &[u8]) {
    let mounts = super::mountinfo::parse(input);
    if mounts.iter().any(|mount| mount.mount_point == Path::new("/")) {
        assert!(super::mountinfo::mount_of(&mounts, Path::new("/proc/self")).is_some());
    }
}

/// Any line of the socket is a report, or is none.
pub(crate) fn report(input: &[u8]) {
    drop(serde_json::from_slice::<Report>(input));
}
