//! Fuzz targets: mountinfo, a supervisor's reports, and own-root's journal.

use std::path::Path;

use super::message::Report;
pub(crate) use super::own_root::fuzzing::journal;

/// Parses any mountinfo. If `/` has a mount, every path has one.
pub(crate) fn mountinfo(input: &[u8]) {
    let mounts = super::mountinfo::parse(input);
    if mounts.iter().any(|mount| mount.mount_point == Path::new("/")) {
        assert!(super::mountinfo::mount_of(&mounts, Path::new("/proc/self")).is_some());
    }
}

/// Parses any line of the socket as a report, or rejects it.
pub(crate) fn report(input: &[u8]) {
    drop(serde_json::from_slice::<Report>(input));
}
