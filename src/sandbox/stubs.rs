//! Mount points that an image lacks: created for one command, and gone afterwards without a trace.
//!
//! The command may have moved the directories above them, or put symbolic links in their place. So the directory each
//! one was made in is kept open, and no path is walked a second time.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::SandboxError;

/// What is mounted on a stub decides what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StubKind {
    /// An empty directory, mode 0755.
    Directory,
    /// An empty file.
    File,
}

/// Mount points that were created for one command; removed when dropped at the latest.
#[derive(Debug, Default)]
pub(super) struct Stubs {
    /// In the order they were made.
    created: Vec<Stub>,
}

#[derive(Debug)]
struct Stub {
    parent: File,
    /// As it was when it was made: its last component is the name in `parent`.
    place: PathBuf,
    kind: StubKind,
}

impl Stubs {
    /// Creates `place` and the directories above it that are missing. No component of it may be a symbolic link.
    pub(super) fn create(&mut self, place: &Path, kind: StubKind) -> Result<(), SandboxError> {
        let Some(parent) = place.parent() else { return Ok(()) };
        if parent.symlink_metadata().is_err() {
            self.create(parent, StubKind::Directory)?;
        }
        let parent_file = File::open(parent).map_err(SandboxError::io("open", parent))?;
        let before = modification_time(&parent_file).map_err(SandboxError::errno("look at", parent))?;
        let made = match kind {
            StubKind::Directory => DirBuilder::new().mode(0o755).create(place),
            StubKind::File => File::create_new(place).map(drop),
        };
        made.map_err(SandboxError::io("create", place))?;
        if kind == StubKind::Directory {
            // Whatever the umask is: it stays in the image when the command puts something into it.
            rustix::fs::chmod(place, Mode::from_raw_mode(0o755))
                .map_err(SandboxError::errno("set the mode of", place))?;
        }
        set_modification_time(&parent_file, before).map_err(SandboxError::errno("set the time of", parent))?;
        self.created.push(Stub { parent: parent_file, place: place.to_owned(), kind });
        Ok(())
    }

    /// Removes what the command left as it was.
    pub(super) fn remove(&mut self) -> Result<(), SandboxError> {
        while let Some(stub) = self.created.pop() {
            stub.remove().map_err(SandboxError::errno("remove", stub.place.as_path()))?;
        }
        Ok(())
    }
}

impl Stub {
    fn remove(&self) -> rustix::io::Result<()> {
        let Some(name) = self.place.file_name() else { return Ok(()) };
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
            // The command made use of it, so it is the image's now; or the command removed it itself.
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

/// When entries were last made or removed in a directory.
pub(super) fn modification_time(directory: &File) -> rustix::io::Result<Timespec> {
    let stat = rustix::fs::fstat(directory)?;
    Ok(Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or(0) })
}

/// Sets that time to one asked for before this program made or removed something there.
pub(super) fn set_modification_time(directory: &File, time: Timespec) -> rustix::io::Result<()> {
    let untouched = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    rustix::fs::futimens(directory, &Timestamps { last_access: untouched, last_modification: time })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            stubs.create(&root.path().join("a").join(name), kind).unwrap();
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
    fn what_the_command_made_of_them_stays() {
        let root = tempfile::tempdir().unwrap();
        let mut stubs = Stubs::default();
        stubs.create(&root.path().join("new/deep"), StubKind::Directory).unwrap();
        stubs.create(&root.path().join("file"), StubKind::File).unwrap();
        std::fs::write(root.path().join("new/made"), "").unwrap();
        std::fs::write(root.path().join("file"), "x").unwrap();
        stubs.remove().unwrap();
        assert!(root.path().join("new/made").exists() && root.path().join("file").exists());
        assert!(!root.path().join("new/deep").exists());
    }
}
