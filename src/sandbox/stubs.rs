//! Creates mount points that an image lacks for one command, and removes them without a trace.
//!
//! Two commands can be active there meanwhile: one of another stage, in a cache that both share, and afterwards the
//! command itself, which may have moved the parent directories or replaced them by symbolic links. So every step goes
//! from an open directory to a name in it, never through a link. The directory of a stub is kept open, so that no path
//! is resolved twice.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::SandboxError;
use crate::fs::{Root, sys};

/// The type of a stub, which depends on what is mounted on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StubKind {
    /// An empty directory, mode 0755.
    Directory,
    /// An empty file.
    File,
}

/// How long a stub exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Until the command ends.
    Command,
    /// Permanently, as with BuildKit. In a shared directory it may already be the mount point of another command, whose
    /// mount would be removed with it.
    Lasting,
}

/// Mount points that were created for one command; removed when dropped at the latest.
#[derive(Debug, Default)]
pub(super) struct Stubs {
    /// In order of creation.
    created: Vec<Stub>,
}

#[derive(Debug)]
struct Stub {
    parent: File,
    name: OsString,
    kind: StubKind,
    /// The path at creation, for messages.
    place: PathBuf,
}

impl Stubs {
    /// Creates `path` below `root`, with missing parents. No component of it may be a symbolic link.
    pub(super) fn create(
        &mut self,
        root: &Root,
        path: &Path,
        kind: StubKind,
        lifetime: Lifetime,
    ) -> Result<(), SandboxError> {
        let mut names: Vec<&OsStr> = path.iter().collect();
        let Some(last) = names.pop() else { return Ok(()) };
        let mut place = root.path().to_owned();
        let mut directory =
            open_directory(root, OsStr::new(".")).map_err(SandboxError::errno("open", place.clone()))?;
        for name in names {
            let next = match open_directory(&directory, name) {
                Err(Errno::NOENT) => {
                    self.make((&directory, &place), name, StubKind::Directory, lifetime)?;
                    open_directory(&directory, name)
                }
                answer => answer,
            };
            place.push(name);
            directory = next.map_err(SandboxError::errno("open", place.clone()))?;
        }
        self.make((&directory, &place), last, kind, lifetime)
    }

    /// Creates one stub, unless another command has created the same meanwhile.
    fn make(
        &mut self,
        (parent, path): (&File, &Path),
        name: &OsStr,
        kind: StubKind,
        lifetime: Lifetime,
    ) -> Result<(), SandboxError> {
        let place = path.join(name);
        let before = modification_time(parent).map_err(SandboxError::errno("look at", path))?;
        let made = match kind {
            StubKind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)),
            StubKind::File => {
                sys::open_at(parent, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o644).map(drop)
            }
        };
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(errno) => return Err(SandboxError::errno("create", place)(errno)),
        }
        if kind == StubKind::Directory {
            // Independent of the umask: it stays in the image if the command puts something into it.
            open_directory(parent, name)
                .map_err(std::io::Error::from)
                .and_then(|made| made.set_permissions(Permissions::from_mode(0o755)))
                .map_err(SandboxError::io("set the mode of", place.as_path()))?;
        }
        if lifetime == Lifetime::Lasting {
            return Ok(());
        }
        set_modification_time(parent, before).map_err(SandboxError::errno("set the time of", path))?;
        let parent = parent.try_clone().map_err(SandboxError::io("open", path))?;
        self.created.push(Stub { parent, name: name.to_owned(), kind, place });
        Ok(())
    }

    /// Removes the stubs that the command did not change.
    pub(super) fn remove(&mut self) -> Result<(), SandboxError> {
        while let Some(stub) = self.created.pop() {
            stub.remove().map_err(SandboxError::errno("remove", stub.place.as_path()))?;
        }
        Ok(())
    }
}

fn open_directory(directory: impl std::os::fd::AsFd, name: &OsStr) -> rustix::io::Result<File> {
    sys::open_at(directory, name, OFlags::RDONLY | OFlags::DIRECTORY, 0).map(File::from)
}

impl Stub {
    fn remove(&self) -> rustix::io::Result<()> {
        let name = self.name.as_os_str();
        let before = modification_time(&self.parent)?;
        let removed = match self.kind {
            StubKind::Directory => rustix::fs::unlinkat(&self.parent, name, AtFlags::REMOVEDIR),
            StubKind::File => match rustix::fs::statat(&self.parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile && found.st_size == 0 => {
                    rustix::fs::unlinkat(&self.parent, name, AtFlags::empty())
                }
                Ok(_) => return Ok(()),
                Err(errno) => Err(errno),
            },
        };
        match removed {
            Ok(()) => set_modification_time(&self.parent, before),
            // The command used it, so it belongs to the image now; or the command removed it.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(
                "{error}: {}",
                std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
            );
        }
    }
}

/// Returns the time at which entries of a directory were last created or removed.
pub(super) fn modification_time(directory: &File) -> rustix::io::Result<Timespec> {
    let stat = rustix::fs::fstat(directory)?;
    Ok(Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or(0) })
}

/// Sets that time to one that was read before this program created or removed an entry there.
pub(super) fn set_modification_time(directory: &File, time: Timespec) -> rustix::io::Result<()> {
    let untouched = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    rustix::fs::futimens(directory, &Timestamps { last_access: untouched, last_modification: time })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(path: &Path) -> Root {
        Root::open(path).unwrap()
    }

    /// Another command may do this at any time in a directory that both share: the class of CVE-2024-23651.
    #[test]
    fn a_directory_that_turns_into_a_link_leads_nowhere() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (real, link) = (root.path().join("a"), root.path().join("b"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    let exchange = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(rustix::fs::CWD, &real, rustix::fs::CWD, &link, exchange).unwrap();
                }
            });
            for number in 0..2000 {
                let mut stubs = Stubs::default();
                let path = PathBuf::from(format!("a/{number}/deep"));
                match stubs.create(&opened(root.path()), &path, StubKind::Directory, Lifetime::Lasting) {
                    Ok(()) => {}
                    Err(SandboxError::File(crate::fs::Error { source, .. })) => {
                        assert!(matches!(source.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR)), "{source}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        let real = if real.is_symlink() { link } else { real };
        assert_ne!(std::fs::read_dir(real).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_place_of_the_directory_above_leads_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("a")).unwrap();
        for name in ["directory", "file"] {
            std::fs::create_dir_all(elsewhere.path().join("directory")).unwrap();
            std::fs::write(elsewhere.path().join("file"), "").unwrap();
            let kind = if name == "file" { StubKind::File } else { StubKind::Directory };
            let mut stubs = Stubs::default();
            stubs.create(&opened(root.path()), &Path::new("a").join(name), kind, Lifetime::Command).unwrap();
            std::fs::rename(root.path().join("a"), root.path().join("moved")).unwrap();
            std::os::unix::fs::symlink(elsewhere.path(), root.path().join("a")).unwrap();
            stubs.remove().unwrap();
            assert!(elsewhere.path().join(name).exists());
            assert!(!root.path().join("moved").join(name).exists());
            std::fs::remove_file(root.path().join("a")).unwrap();
            std::fs::rename(root.path().join("moved"), root.path().join("a")).unwrap();
        }
    }

    #[test]
    fn stubs_that_the_command_used_stay() {
        let root = tempfile::tempdir().unwrap();
        let mut stubs = Stubs::default();
        let opened = opened(root.path());
        stubs.create(&opened, Path::new("new/deep"), StubKind::Directory, Lifetime::Command).unwrap();
        stubs.create(&opened, Path::new("file"), StubKind::File, Lifetime::Command).unwrap();
        std::fs::write(root.path().join("new/made"), "").unwrap();
        std::fs::write(root.path().join("file"), "x").unwrap();
        stubs.remove().unwrap();
        assert!(root.path().join("new/made").exists() && root.path().join("file").exists());
        assert!(!root.path().join("new/deep").exists());
    }
}
