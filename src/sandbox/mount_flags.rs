//! Changes the flags of existing mounts.

use std::path::Path;

use rustix::fs::StatVfsMountFlags;
use rustix::mount::{MountFlags, mount_remount};

use super::raw;

/// Makes the mount at `target` and those below it read-only, without device nodes, or both.
pub(super) fn restrict(target: &Path, flags: MountFlags) -> rustix::io::Result<()> {
    let (read_only, no_devices) = (flags.contains(MountFlags::RDONLY), flags.contains(MountFlags::NODEV));
    raw::restrict_mounts(target, read_only, no_devices).or_else(|_| remount(target, flags))
}

/// Adds flags by a remount, as kernels before 5.12 need it. Flags that the container locked must be passed again.
pub(super) fn remount(target: &Path, flags: MountFlags) -> rustix::io::Result<()> {
    let now = rustix::fs::statvfs(target)?.f_flag;
    let kept = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let flags = kept
        .iter()
        .filter(|(have, _)| now.contains(*have))
        .fold(MountFlags::BIND | flags, |flags, (_, keep)| flags | *keep);
    mount_remount(target, flags, c"")
}
