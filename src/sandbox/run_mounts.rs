//! Makes the mounts of `RUN --mount` over the root, in the child's own mount namespace.
//!
//! A bind mount keeps the flags of its source, because a cache may hold programs, even set-user-id ones, as with
//! BuildKit; device nodes in it do not work. Memory is nosuid and nodev. A secret's file is only on a tmpfs that is
//! nosuid, nodev and noexec.
//!
//! A mount point can be in a cache that another command is changing. So it is opened below the root, which no link
//! leads out of, and the mount is made on the open directory or file, even if its name now leads elsewhere.

use std::ffi::{CString, OsStr};
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, unmount};
use rustix::process::{Gid, Uid};

use super::message::{Failure, FileContent, MountSpec, MountedContent};
use super::mount_flags::restrict;
use crate::fs::{Root, sys};

/// Mounts `specs` over `root`, in their order. `scratch` is an empty directory outside of the root.
pub(super) fn mount_all(
    specs: &[MountSpec],
    root: &Path,
    scratch: &Path,
    note: &mut dyn FnMut(String),
) -> Result<(), Failure> {
    if specs.is_empty() {
        return Ok(());
    }
    let has_files = specs.iter().any(|spec| matches!(spec.shown, MountedContent::File { .. }));
    if has_files {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", scratch, "tmpfs", flags, Some(c"mode=700"))
            .map_err(Failure::step("mount a tmpfs for the files of RUN --mount"))?;
    }
    let root =
        Root::open(root).map_err(|error| Failure::io(format!("open {}", root.display()))(error.kind().into()))?;
    // A tmpfs stays writable until the mount points in it are created.
    let mut read_only_memory = Vec::new();
    for (number, spec) in specs.iter().enumerate() {
        let cannot = || format!("mount over {}", spec.target.display());
        let inside = spec.target.strip_prefix(root.path()).unwrap_or(&spec.target);
        if spec.is_later {
            make_mount_point(&root, inside, spec.is_directory).map_err(Failure::step(cannot()))?;
        }
        let point = open(&root, inside).map_err(Failure::step(cannot()))?;
        match &spec.shown {
            MountedContent::Bind { source } => {
                let source = open_source(source).map_err(Failure::step(cannot()))?;
                bind(&root, &source, &point, inside, spec.read_only).map_err(Failure::step(cannot()))?;
            }
            MountedContent::Memory { size } => {
                let size = size.map(|size| format!(",size={size}")).unwrap_or_default();
                let data =
                    CString::new(format!("mode=1777{size}")).map_err(|_| Failure::step(cannot())(Errno::INVAL))?;
                let flags = MountFlags::NOSUID | MountFlags::NODEV;
                mount("tmpfs", path_of(&point), "tmpfs", flags, Some(data.as_c_str()))
                    .map_err(Failure::step(cannot()))?;
                if spec.read_only {
                    read_only_memory.push(open(&root, inside).map_err(Failure::step(cannot()))?);
                }
            }
            MountedContent::File { content, mode, uid, gid } => {
                let source = scratch.join(number.to_string());
                write_file(&source, content, *mode, (*uid, *gid), note).map_err(Failure::io(cannot()))?;
                let source = open_source(&source).map_err(Failure::step(cannot()))?;
                bind(&root, &source, &point, inside, spec.read_only).map_err(Failure::step(cannot()))?;
            }
        }
    }
    for opened in read_only_memory {
        restrict(&path_of(&opened), MountFlags::RDONLY).map_err(Failure::step("make a tmpfs read-only"))?;
    }
    if has_files {
        // The bind mounts keep it alive.
        unmount(scratch, UnmountFlags::DETACH).map_err(Failure::step("unmount the tmpfs for files"))?;
    }
    Ok(())
}

/// Returns a path to the open file, independent of where its own path leads now.
fn path_of(opened: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()))
}

fn open(root: &Root, path: &Path) -> rustix::io::Result<OwnedFd> {
    root.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)
}

fn open_source(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Creates a mount point in an earlier mount (`/dev`, memory), where the first process could not. No link is followed
/// there.
fn make_mount_point(root: &Root, path: &Path, is_directory: bool) -> rustix::io::Result<()> {
    let mut names: Vec<&OsStr> = path.iter().collect();
    let file = if is_directory { None } else { names.pop() };
    let into = |directory: &OwnedFd, name: &OsStr| sys::open_at(directory, name, OFlags::PATH | OFlags::DIRECTORY, 0);
    let mut directory = root.open_at(Path::new("."), OFlags::PATH | OFlags::DIRECTORY)?;
    for name in names {
        directory = match into(&directory, name) {
            Err(Errno::NOENT) => {
                rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755))?;
                into(&directory, name)?
            }
            answer => answer?,
        };
    }
    let Some(name) = file else { return Ok(()) };
    match sys::open_at(&directory, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o644) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Bind mounts `source` at `point`, which was opened at `path`.
fn bind(root: &Root, source: &OwnedFd, point: &OwnedFd, path: &Path, read_only: bool) -> rustix::io::Result<()> {
    let (from, to) = (path_of(source), path_of(point));
    match mount_bind(&from, &to) {
        // In a user namespace the mounts below the source cannot be left out.
        Err(Errno::INVAL) => mount_bind_recursive(&from, &to)?,
        result => result?,
    }
    // The descriptor of the mount point is below the new mount. Only its path leads to the mount itself.
    let shown = open(root, path)?;
    let identity = |opened: &OwnedFd| rustix::fs::fstat(opened.as_fd()).map(|found| (found.st_dev, found.st_ino));
    if identity(&shown)? != identity(source)? {
        // Another command has exchanged a directory on the path.
        return Err(Errno::AGAIN);
    }
    let flags = if read_only { MountFlags::RDONLY | MountFlags::NODEV } else { MountFlags::NODEV };
    restrict(&path_of(&shown), flags)
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
        // The id is not mapped, so no process can have it. Commands run as root, who may read every file here, or as a
        // user who is not the owner.
        Err(Errno::INVAL | Errno::PERM) => {
            note(format!("a file of RUN --mount belongs to root: {uid}:{gid} is not mapped"));
        }
        Err(errno) => return Err(errno.into()),
    }
    // A change of owner may clear bits of the mode.
    file.set_permissions(Permissions::from_mode(mode & 0o7777))
}
