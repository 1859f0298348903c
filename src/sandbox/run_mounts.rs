//! The mounts of `RUN --mount`, laid over the root in the child's own mount namespace.
//!
//! A bind keeps the flags of its source (a cache may hold programs, also set-user-id ones, as with BuildKit); memory is
//! nosuid and nodev; a file of a secret is on a tmpfs that is nosuid, nodev and noexec, and nowhere else.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, unmount};
use rustix::process::{Gid, Uid};

use super::message::{Failure, FileContent, MountSpec, Shown};
use super::{mounts, raw};

/// Lays `specs` in their order. `scratch` is an empty directory outside the root.
pub(super) fn lay(specs: &[MountSpec], scratch: &Path, note: &mut dyn FnMut(String)) -> Result<(), Failure> {
    let has_files = specs.iter().any(|spec| matches!(spec.shown, Shown::File { .. }));
    if has_files {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", scratch, "tmpfs", flags, Some(c"mode=700"))
            .map_err(Failure::step("mount a tmpfs for the files of RUN --mount"))?;
    }
    // What lies in memory stays writable until the mount points in it are made.
    let mut read_only_memory = Vec::new();
    for (number, spec) in specs.iter().enumerate() {
        let cannot = format!("mount over {}", spec.target.display());
        create_mount_point(spec).map_err(Failure::io(cannot.clone()))?;
        match &spec.shown {
            Shown::Bind { source } => bind(source, spec, &cannot)?,
            Shown::Memory { size } => {
                let size = size.map(|size| format!(",size={size}")).unwrap_or_default();
                let data = CString::new(format!("mode=1777{size}"))
                    .map_err(|_| Failure::step(cannot.clone())(Errno::INVAL))?;
                mount("tmpfs", &spec.target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(data.as_c_str()))
                    .map_err(Failure::step(cannot))?;
                if spec.read_only {
                    let opened = rustix::fs::open(&spec.target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
                    read_only_memory.push(opened.map_err(Failure::step(format!("open {}", spec.target.display())))?);
                }
            }
            Shown::File { content, mode, uid, gid } => {
                let source = scratch.join(number.to_string());
                write_file(&source, content, *mode, (*uid, *gid), note).map_err(Failure::io(cannot.clone()))?;
                bind(&source, spec, &cannot)?;
            }
        }
    }
    for opened in read_only_memory {
        // By descriptor: a later mount may hide the path.
        let path = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        mounts::remount_read_only(&path).map_err(Failure::step("make a tmpfs read-only"))?;
    }
    if has_files {
        // The binds keep it.
        unmount(scratch, UnmountFlags::DETACH).map_err(Failure::step("unmount the tmpfs for files"))?;
    }
    Ok(())
}

/// Below what was mounted just now (`/dev`, memory) the first process could create nothing.
fn create_mount_point(spec: &MountSpec) -> std::io::Result<()> {
    if spec.target.symlink_metadata().is_ok() {
        return Ok(());
    }
    let (directory, file) = if spec.is_directory {
        (Some(spec.target.as_path()), None)
    } else {
        (spec.target.parent(), Some(&spec.target))
    };
    if let Some(directory) = directory {
        std::fs::create_dir_all(directory)?;
    }
    file.map_or(Ok(()), |file| File::create_new(file).map(drop))
}

fn bind(source: &Path, spec: &MountSpec, cannot: &str) -> Result<(), Failure> {
    let bound = match mount_bind(source, &spec.target) {
        // In a user namespace what is mounted below the source cannot be left out.
        Err(Errno::INVAL) => mount_bind_recursive(source, &spec.target),
        result => result,
    };
    bound.map_err(Failure::step(cannot))?;
    if spec.read_only {
        raw::set_read_only_recursively(&spec.target)
            .or_else(|_| mounts::remount_read_only(&spec.target))
            .map_err(Failure::step(format!("make {} read-only", spec.target.display())))?;
    }
    Ok(())
}

fn write_file(
    path: &Path,
    content: &FileContent,
    mode: u32,
    (uid, gid): (u32, u32),
    note: &mut dyn FnMut(String),
) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&content.0)?;
    match rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
        Ok(()) => {}
        // No process can have an id that is not mapped: commands run as root then, who may read every file here, or as
        // somebody whose file it is not.
        Err(Errno::INVAL | Errno::PERM) => {
            note(format!("a file of RUN --mount belongs to root: {uid}:{gid} cannot be had here"));
        }
        Err(errno) => return Err(errno.into()),
    }
    // A change of owner may clear bits of the mode.
    file.set_permissions(Permissions::from_mode(mode & 0o7777))
}
