//! Detects changes of a cache mount's directory from metadata alone.
//!
//! No file is read: a change shows in the inode number, size or times, and no program can set the change time (ctime).
//! A change can only be missed if it happens in the same clock tick as the first survey and keeps size and modification
//! time; the next build's changes export it then.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::diag::interrupt;
use crate::fs::{self, FileKind, Status, Step, Walk};
use crate::rootfs::{Change, ChangeKind, ContentHash, ContentHasher, Tree};

use super::error::CacheArchiveError;

/// The state of a directory. Two surveys are equal if nothing below the directory changed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// The number of files, directories and links.
    pub entries: u64,
    /// Bytes of the files; a file with several names counts once.
    pub bytes: u64,
    fingerprint: ContentHash,
}

/// Surveys everything below a directory.
///
/// # Errors
/// A file cannot be inspected, or the build was asked to stop.
pub fn survey(directory: &Path) -> Result<Survey, CacheArchiveError> {
    let mut hasher = ContentHasher::new();
    let (mut entries, mut bytes) = (0, 0);
    let mut linked = HashSet::new();
    walk(&Tree::open(directory)?, &mut |path, status| {
        entries += 1;
        let is_first = status.link_count <= 1 || linked.insert((status.device, status.inode));
        if status.kind == FileKind::File && is_first {
            bytes += status.size;
        }
        let name = path.as_os_str().as_bytes();
        hasher.update(&(name.len() as u64).to_ne_bytes());
        hasher.update(name);
        let Status { mode, uid, gid, size, inode, device, modified, changed, .. } = *status;
        for number in [mode, uid, gid, modified.nanoseconds, changed.nanoseconds] {
            hasher.update(&number.to_ne_bytes());
        }
        for number in [size, inode, device] {
            hasher.update(&number.to_ne_bytes());
        }
        for number in [modified.seconds, changed.seconds] {
            hasher.update(&number.to_ne_bytes());
        }
    })?;
    Ok(Survey { entries, bytes, fingerprint: hasher.finish() })
}

/// Returns everything in a tree that its archive contains, in the order of a layer. Sockets are left out, which no
/// archive can hold, and device nodes, which are not allowed in a cache mount.
pub(super) fn contents(tree: &Tree) -> Result<Vec<Change>, CacheArchiveError> {
    let mut found = Vec::new();
    walk(tree, &mut |path, status| match status.kind {
        FileKind::File | FileKind::Directory | FileKind::Symlink | FileKind::Fifo => {
            found.push(Change { path: path.to_owned(), kind: ChangeKind::Added });
        }
        FileKind::CharDevice { .. } | FileKind::BlockDevice { .. } | FileKind::Socket => {
            tracing::debug!("{}: not archived: it is a device or a socket", path.display());
        }
    })?;
    Ok(found)
}

/// Visits every path below a tree's root: directories before their entries, siblings by the bytes of their names.
fn walk(tree: &Tree, visit: &mut dyn FnMut(&Path, &Status)) -> Result<(), CacheArchiveError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let failed = |errno| fs::Error::new("open directory", tree.path(), errno);
    let directory = tree.root().open_at(Path::new(""), flags).map_err(failed)?;
    let mut walk = Walk::new(tree.path(), PathBuf::new(), directory.as_fd())?;
    while let Some(step) = walk.step()? {
        interrupt::check()?;
        let Step::Name(name) = step else { continue };
        let path = walk.path().join(&name);
        let status = Status::at(walk.directory(), &name)
            .map_err(|errno| fs::Error::new("look at", tree.path().join(&path), errno))?;
        visit(&path, &status);
        if status.kind == FileKind::Directory {
            walk.enter(&name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn filled() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        fs::write(directory.path().join("a/b/file"), "12345").unwrap();
        fs::hard_link(directory.path().join("a/b/file"), directory.path().join("linked")).unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join("link")).unwrap();
        directory
    }

    #[test]
    fn entries_and_bytes_are_counted() {
        let found = survey(filled().path()).unwrap();
        assert_eq!((found.entries, found.bytes), (5, 5), "a file with two names counts once");
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(survey(empty.path()).map(|found| (found.entries, found.bytes)).unwrap(), (0, 0));
        assert!(survey(&empty.path().join("missing")).is_err());
    }

    /// A name, a change, and whether a survey shows it.
    type Change = (&'static str, fn(&Path), bool);

    #[test]
    fn writes_show_and_reads_do_not() {
        let deeds: &[Change] = &[
            ("nothing", |_| {}, false),
            ("read", |path| drop(fs::read(path.join("a/b/file")).unwrap()), false),
            ("list", |path| assert_eq!(fs::read_dir(path.join("a")).unwrap().count(), 1), false),
            (
                "the directory's own mode",
                |path| fs::set_permissions(path, PermissionsExt::from_mode(0o700)).unwrap(),
                false,
            ),
            ("append", |path| fs::write(path.join("a/b/file"), "123456").unwrap(), true),
            ("new file", |path| fs::write(path.join("a/new"), "").unwrap(), true),
            ("new directory", |path| fs::create_dir(path.join("new")).unwrap(), true),
            ("removal", |path| fs::remove_file(path.join("link")).unwrap(), true),
            ("rename", |path| fs::rename(path.join("link"), path.join("other")).unwrap(), true),
            ("mode", |path| fs::set_permissions(path.join("linked"), PermissionsExt::from_mode(0o600)).unwrap(), true),
            (
                "time",
                |path| {
                    let file = fs::File::options().write(true).open(path.join("linked")).unwrap();
                    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(1)).unwrap();
                },
                true,
            ),
            (
                "a different file of the same size and time",
                |path| {
                    let time = fs::metadata(path.join("linked")).unwrap().modified().unwrap();
                    fs::write(path.join("new"), "54321").unwrap();
                    fs::File::options().write(true).open(path.join("new")).unwrap().set_modified(time).unwrap();
                    fs::rename(path.join("new"), path.join("linked")).unwrap();
                },
                true,
            ),
            (
                "a different target of a link",
                |path| {
                    fs::remove_file(path.join("link")).unwrap();
                    std::os::unix::fs::symlink("another", path.join("link")).unwrap();
                },
                true,
            ),
        ];
        for (name, deed, shows) in deeds {
            let directory = filled();
            let before = survey(directory.path()).unwrap();
            deed(directory.path());
            assert_eq!(survey(directory.path()).unwrap() != before, *shows, "{name}");
        }
    }
}
