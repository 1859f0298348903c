//! Fuzz targets: archives of cache mounts and contexts, and an image's user database.

use super::cache_mounts::archive;
use super::copy::{UnpackLimits, unpack_context};
use super::users;
use crate::fuzzing::{Scratch, parts};
use crate::rootfs::Tree;

const LIMITS: UnpackLimits = UnpackLimits { entries: 200, bytes: 4 << 20 };

/// Unpacks arbitrary bytes as the archive of a cache mount.
pub(crate) fn cache_archive(input: &[u8]) {
    Scratch::new().work_in("cache", |directory| drop(archive::unpack(directory, input, LIMITS)));
}

/// Unpacks arbitrary bytes, compressed or not, as the archive of a build context.
pub(crate) fn context_archive(input: &[u8]) {
    Scratch::new().work_in("context", |directory| {
        let mut tree = Tree::create(directory).expect("tree");
        drop(unpack_context(input, &mut tree, LIMITS, "fuzzed"));
    });
}

/// Looks a user up in arbitrary `/etc/passwd` and `/etc/group`: three parts with zero bytes between them.
pub(crate) fn accounts(input: &[u8]) {
    let [user, passwd, group] = parts(input);
    let Ok(user) = std::str::from_utf8(user) else { return };
    let scratch = Scratch::new();
    let tree = Tree::create(scratch.path().join("root")).expect("tree");
    scratch.file("root/etc/passwd", passwd);
    scratch.file("root/etc/group", group);
    drop(users::resolve_user(&tree, user));
}
