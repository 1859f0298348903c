//! Removes trees without following links and within limits on memory and descriptors.
//!
//! The tree may be hostile: links out of it, directories without permissions, nesting deeper than a path, a stack or
//! the descriptor table allows.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, OFlags};
use rustix::io::{Errno, Result};

use super::{Descent, Error, Root, sys};

/// The depth of directories that are removed in parallel.
const PARALLEL_DEPTH: usize = 3;
/// The most directories that are removed in parallel, because the parent of each is held open. The rest is removed by
/// one thread.
const MAX_PARALLEL: usize = 256;
/// More threads only wait for each other in the file system's journal.
const MAX_THREADS: usize = 4;
/// The number of names that are read from a directory at a time.
const BATCH: usize = 4096;

/// Removes a file, link or directory tree. It is an error if it does not exist.
///
/// # Errors
/// A file or directory cannot be removed.
pub fn remove_dir_all(path: impl AsRef<Path>) -> std::result::Result<(), Error> {
    Removal::new(path.as_ref())?.run()
}

/// A removal that uses no path: the parent directory is open.
pub(super) struct Removal {
    parent: Root,
    name: OsString,
    path: PathBuf,
}

impl Removal {
    pub(super) fn new(path: &Path) -> std::result::Result<Self, Error> {
        let (directory, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if parent.as_os_str().is_empty() => (Path::new("."), name),
            (Some(parent), Some(name)) => (parent, name),
            _ => return Err(Error::new("remove", path, Errno::INVAL)),
        };
        Ok(Self { parent: Root::open(directory)?, name: name.to_owned(), path: path.to_owned() })
    }

    pub(super) fn run(self) -> std::result::Result<(), Error> {
        remove_in_parallel(&self.parent, &self.name)
            .and_then(|()| remove_at(self.parent, &self.name))
            .map_err(|errno| Error::new("remove", self.path, errno))
    }
}

/// Removes most of a large tree with several threads. The caller removes the rest.
fn remove_in_parallel(parent: &Root, name: &OsStr) -> Result<()> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    if threads == 1 || !is_directory(parent.as_fd(), name) {
        return Ok(());
    }
    let mut directories = Vec::new();
    list_at_depth(parent.as_fd(), name, PARALLEL_DEPTH, &mut directories)?;
    let directories = Mutex::new(directories.into_iter());
    thread::scope(|scope| {
        let work = || {
            loop {
                let next = directories.lock().next();
                let Some((directory, name)) = next else { return Ok(()) };
                remove_at(directory.as_fd(), &name)?;
            }
        };
        let started: Vec<_> = (1..threads).map(|_| thread::Builder::new().spawn_scoped(scope, work)).collect();
        let mut result = work();
        // If no more threads can be started, the existing ones do the work.
        for thread in started.into_iter().flatten() {
            result = result.and(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        result
    })
}

/// Returns the directories `depth` levels below `name`, each with its open parent.
fn list_at_depth(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    depth: usize,
    found: &mut Vec<(Arc<OwnedFd>, OsString)>,
) -> Result<()> {
    let directory = Arc::new(open_directory(parent, name)?);
    for entry in rustix::fs::Dir::read_from(directory.as_fd())? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if entry.file_type() != rustix::fs::FileType::Directory || name == "." || name == ".." {
            continue;
        }
        if found.len() >= MAX_PARALLEL {
            return Ok(());
        }
        if depth > 1 {
            list_at_depth(directory.as_fd(), name, depth - 1, found)?;
        } else {
            found.push((Arc::clone(&directory), name.to_owned()));
        }
    }
    Ok(())
}

/// Removes `name` from `directory`, with everything below it.
///
/// # Errors
/// The kernel's error for the first file that could not be removed.
pub fn remove_at(directory: impl AsFd, name: &OsStr) -> Result<()> {
    match unlink(directory.as_fd(), name) {
        Err(Errno::ISDIR) => remove_tree(directory.as_fd(), name),
        answer => answer,
    }
}

fn unlink(directory: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        // Linux returns EISDIR, as POSIX allows; a few file systems return EPERM.
        Err(Errno::PERM) if is_directory(directory, name) => Err(Errno::ISDIR),
        answer => answer,
    }
}

fn is_directory(directory: BorrowedFd<'_>, name: &OsStr) -> bool {
    sys::open_at(directory, name, OFlags::PATH | OFlags::DIRECTORY, 0).is_ok()
}

fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let mut descent = Descent::new(parent, OFlags::RDONLY);
    descent.push(open_directory(parent, name)?)?;
    let mut names: Vec<OsString> = vec![name.to_owned()];
    while let Some(name) = names.last() {
        if let Some(inner) = empty_of_files(descent.directory())? {
            let opened = open_directory(descent.directory(), &inner)?;
            descent.push(opened)?;
            names.push(inner);
        } else {
            descent.leave()?;
            rustix::fs::unlinkat(descent.directory(), name, AtFlags::REMOVEDIR)?;
            names.pop();
        }
    }
    Ok(())
}

/// Unlinks the files of a directory. Returns one of its directories, or `None` when it is empty.
fn empty_of_files(directory: BorrowedFd<'_>) -> Result<Option<OsString>> {
    loop {
        let mut batch: Vec<OsString> = Vec::new();
        for entry in rustix::fs::Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                batch.push(OsStr::from_bytes(name).to_owned());
            }
            if batch.len() >= BATCH {
                break;
            }
        }
        if batch.is_empty() {
            return Ok(None);
        }
        for name in batch {
            match unlink(directory, &name) {
                Err(Errno::ISDIR) => return Ok(Some(name)),
                Err(Errno::NOENT) => {}
                answer => answer?,
            }
        }
    }
}

/// Opens a directory to empty it. Its owner may lack permissions for it.
fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let opened = match sys::open_at(parent, name, flags, 0) {
        Err(Errno::ACCESS) => {
            sys::chmod_at(parent, name, 0o700)?;
            sys::open_at(parent, name, flags, 0)?
        }
        opened => opened?,
    };
    // Reading may be allowed although removing entries is not. The owner adds the permissions, unless the process
    // overrides them.
    if !sys::overrides_permissions() {
        rustix::fs::fchmod(&opened, rustix::fs::Mode::RWXU)?;
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn trees_are_removed_and_targets_of_links_are_not() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let kept = directory.path().join("kept");
        std::fs::create_dir(&kept).expect("directory");
        std::fs::write(kept.join("file"), "x").expect("file");
        let tree = directory.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).expect("directories");
        symlink(&kept, tree.join("link")).expect("link");
        symlink(&kept, tree.join("a/link")).expect("link");
        std::fs::write(tree.join("a/b/file"), "x").expect("file");
        std::fs::set_permissions(tree.join("a"), std::fs::Permissions::from_mode(0o0)).expect("mode");
        remove_dir_all(&tree).expect("removed");
        assert!(!tree.exists());
        assert!(kept.join("file").exists());
        assert!(remove_dir_all(&tree).is_err());
    }

    #[test]
    fn trees_are_removed_completely_in_parallel() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let tree = directory.path().join("tree");
        for number in 0..MAX_PARALLEL + 50 {
            let inner = tree.join(format!("a/{}/{number}/b/c", number % 7));
            std::fs::create_dir_all(&inner).expect("directories");
            std::fs::write(inner.join("file"), "x").expect("file");
        }
        remove_dir_all(&tree).expect("removed");
        assert_eq!(std::fs::read_dir(directory.path()).expect("list").count(), 0);
    }

    #[test]
    fn trees_deeper_than_the_longest_path_are_removed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut current = Root::open(directory.path()).expect("open").as_fd().try_clone_to_owned().expect("clone");
        let name = OsString::from("n".repeat(200));
        for _ in 0..200 {
            rustix::fs::mkdirat(&current, &name, rustix::fs::Mode::RWXU).expect("mkdir");
            current = sys::open_at(&current, &name, OFlags::PATH, 0).expect("open");
        }
        remove_dir_all(directory.path().join(&name)).expect("removed");
        assert_eq!(std::fs::read_dir(directory.path()).expect("list").count(), 0);
    }
}
