//! Writes the files of a commit.
//!
//! A repository can contain any bytes as names. Every file is created in an open directory that was created here, so a
//! name cannot lead elsewhere, whatever links the commit contains.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid, Tree};
use rustix::fs::{Mode, OFlags, fchmod, mkdirat, openat, symlinkat};
use rustix::io::Errno;

use super::error::GitError;
use super::fetch::Fetched;
use super::request::CheckoutLimits;
use super::watch::Watch;
use crate::fs::{self, Root, Timestamp, sys};
use crate::location::GitLocation;

/// The most nested directories; git's own tests have fewer than a hundred.
const MAX_DEPTH: usize = 256;
/// The most bytes of a link's target: the kernel's limit for a path.
const MAX_TARGET: u64 = 4096;

const DIRECTORY: u32 = 0o755;
const PROGRAM: u32 = 0o755;
const FILE: u32 = 0o644;

/// The types of tree entries (git's file modes).
const LINK_ENTRY: i32 = 0o120_000;
const PROGRAM_BIT: i32 = 0o100;

/// The checkout that a commit belongs to: its limits, and its submodules.
pub(super) trait CheckoutState {
    /// Returns how large the checkout may be.
    fn limits(&self) -> CheckoutLimits;

    /// Counts a file, directory or link before it is created.
    ///
    /// # Errors
    /// A limit is exceeded.
    fn take(&mut self, commit: Oid, bytes: u64) -> Result<(), GitError>;

    /// Returns the watch, which receives progress.
    fn watch(&self) -> &Watch;

    /// Writes the files of the submodule at `path` into `place`, an empty directory. Leaves it empty if submodules are
    /// not wanted.
    ///
    /// # Errors
    /// The submodule cannot be fetched or written.
    fn check_out(
        &mut self,
        parent: &Fetched,
        location: &GitLocation,
        path: &Path,
        commit: Oid,
        place: &Path,
    ) -> Result<(), GitError>;
}

/// Writes the files of a fetched commit into `directory`, with submodules if the location wants them.
pub(super) fn write(
    fetched: &Fetched,
    directory: &Path,
    location: &GitLocation,
    checkout: &mut dyn CheckoutState,
) -> Result<(), GitError> {
    let read = fetched.repository.find_commit(fetched.commit).and_then(|commit| commit.tree());
    let tree = read.map_err(|source| fetched.unreadable("the files", source))?;
    let opened = fs::gated::open_flags(directory, OFlags::RDONLY | OFlags::DIRECTORY);
    let opened = opened.map_err(|error| fs::Error::new("open directory", directory, error))?;
    let mut writer = Writer { fetched, directory, location, checkout };
    writer.tree(&tree, opened.as_fd(), Path::new(""), 0)
}

struct Writer<'a, 's> {
    fetched: &'a Fetched,
    directory: &'a Path,
    location: &'a GitLocation,
    checkout: &'s mut dyn CheckoutState,
}

impl<'a> Writer<'a, '_> {
    fn tree(&mut self, tree: &Tree<'_>, into: BorrowedFd<'_>, above: &Path, depth: usize) -> Result<(), GitError> {
        for entry in tree {
            let name = OsStr::from_bytes(entry.name_bytes());
            let path = above.join(name);
            let refused = |problem| GitError::Entry {
                commit: self.fetched.commit.to_string(),
                path: above.join(name).to_string_lossy().into_owned(),
                problem,
            };
            if let Some(problem) = problem_of(entry.name_bytes()) {
                return Err(refused(problem));
            }
            if depth >= MAX_DEPTH {
                return Err(refused("directories are nested too deeply"));
            }
            self.checkout.watch().touch();
            match entry.kind() {
                Some(ObjectType::Tree) => {
                    let object = entry.to_object(&self.fetched.repository).and_then(|object| object.peel_to_tree());
                    let below = object.map_err(|source| self.unreadable(&path, source))?;
                    let made = self.make_directory(into, name, &path)?;
                    self.tree(&below, made.as_fd(), &path, depth + 1)?;
                }
                Some(ObjectType::Blob) if entry.filemode() == LINK_ENTRY => self.link(into, name, &path, entry.id())?,
                Some(ObjectType::Blob) => {
                    let mode = if entry.filemode() & PROGRAM_BIT == 0 { FILE } else { PROGRAM };
                    self.file(into, name, &path, entry.id(), mode)?;
                }
                Some(ObjectType::Commit) => {
                    drop(self.make_directory(into, name, &path)?);
                    let place = self.directory.join(&path);
                    self.checkout.check_out(self.fetched, self.location, &path, entry.id(), &place)?;
                }
                _ => return Err(refused("not a file, link, directory or submodule")),
            }
        }
        Ok(())
    }

    fn make_directory(&mut self, into: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<OwnedFd, GitError> {
        self.checkout.take(self.fetched.commit, 0)?;
        let made = || {
            mkdirat(into, name, Mode::from_raw_mode(DIRECTORY))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(into, name, flags, Mode::empty())?;
            fchmod(&opened, Mode::from_raw_mode(DIRECTORY))?;
            Ok(opened)
        };
        made().map_err(|errno| self.unwritable("create directory", path, errno))
    }

    fn file(&mut self, into: BorrowedFd<'_>, name: &OsStr, path: &Path, id: Oid, mode: u32) -> Result<(), GitError> {
        let content = self.content(path, id, self.checkout.limits().file)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(into, name, flags, Mode::from_raw_mode(mode));
        let made = made.map_err(|errno| self.unwritable("create", path, errno))?;
        fchmod(&made, Mode::from_raw_mode(mode)).map_err(|errno| self.unwritable("set the mode of", path, errno))?;
        let written = std::io::Write::write_all(&mut std::fs::File::from(made), content.content());
        written.map_err(|error| fs::Error::new("write", self.directory.join(path), error).into())
    }

    fn link(&mut self, into: BorrowedFd<'_>, name: &OsStr, path: &Path, id: Oid) -> Result<(), GitError> {
        let target = self.content(path, id, MAX_TARGET)?;
        let made = symlinkat(OsStr::from_bytes(target.content()), into, name);
        made.map_err(|errno| self.unwritable("create symbolic link", path, errno))
    }

    fn content(&mut self, path: &Path, id: Oid, limit: u64) -> Result<git2::Blob<'a>, GitError> {
        let fetched: &'a Fetched = self.fetched;
        let repository = &fetched.repository;
        let header = repository.odb().and_then(|store| store.read_header(id));
        let (size, _kind) = header.map_err(|source| self.unreadable(path, source))?;
        let size = size as u64;
        if size > limit {
            return Err(GitError::LargeEntry {
                commit: self.fetched.commit.to_string(),
                path: path.to_string_lossy().into_owned(),
                size,
                limit,
            });
        }
        self.checkout.take(self.fetched.commit, size)?;
        repository.find_blob(id).map_err(|source| self.unreadable(path, source))
    }

    fn unreadable(&self, path: &Path, source: git2::Error) -> GitError {
        self.fetched.unreadable(path.to_string_lossy(), source)
    }

    fn unwritable(&self, verb: &'static str, path: &Path, errno: Errno) -> GitError {
        match errno {
            // Two entries have the same name, which git never creates.
            Errno::EXIST => GitError::Entry {
                commit: self.fetched.commit.to_string(),
                path: path.to_string_lossy().into_owned(),
                problem: "the directory has two entries of this name",
            },
            errno => fs::Error::new(verb, self.directory.join(path), errno).into(),
        }
    }
}

/// Returns what is wrong with a name in a commit.
fn problem_of(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("the name is empty"),
        b"." | b".." => Some("the name is . or .."),
        name if name.contains(&b'/') || name.contains(&0) => Some("the name contains a slash or a zero byte"),
        name if name.eq_ignore_ascii_case(b".git") => Some("the name is reserved for git"),
        _ => None,
    }
}

/// Returns the requested directory. Links in its path are followed within the checkout.
pub(super) fn subdirectory(files: &Path, subdir: &str, commit: &str) -> Result<PathBuf, GitError> {
    if subdir.is_empty() {
        return Ok(files.to_owned());
    }
    let missing = || GitError::Subdir { commit: commit.to_owned(), subdir: subdir.to_owned() };
    let root = Root::open(files)?;
    let unusable = |errno: Errno| match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => missing(),
        errno => fs::Error::new("resolve", files.join(subdir), errno).into(),
    };
    let path = root.resolve(Path::new(subdir), true).map_err(unusable)?;
    root.open_at(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW).map_err(unusable)?;
    Ok(files.join(path))
}

/// Sets the time of a directory and everything below it.
pub(super) fn set_times(directory: &Path, time: Timestamp) -> Result<(), GitError> {
    let opened = fs::gated::open_flags(directory, OFlags::RDONLY | OFlags::DIRECTORY);
    let opened = opened.map_err(|error| fs::Error::new("open directory", directory, error))?;
    set_times_in(opened.as_fd(), time).map_err(|errno| fs::Error::new("set the times in", directory, errno))?;
    let own = sys::set_modified_at(&opened, OsStr::new("."), time);
    own.map_err(|errno| fs::Error::new("set the time of", directory, errno).into())
}

fn set_times_in(directory: BorrowedFd<'_>, time: Timestamp) -> Result<(), Errno> {
    for name in sys::names(directory)? {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(directory, &name, flags, Mode::empty()) {
            Ok(below) => set_times_in(below.as_fd(), time)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno),
        }
        sys::set_modified_at(directory, &name, time)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_to_a_file_system_or_to_git_are_refused() {
        for name in ["", ".", "..", "a/b", "../x", ".git", ".GIT", "a\0b"] {
            assert!(problem_of(name.as_bytes()).is_some(), "{name:?}");
        }
        for name in ["a", "...", ".gitmodules", ".github", "\u{e4}", "-rf", "a\\b"] {
            assert!(problem_of(name.as_bytes()).is_none(), "{name:?}");
        }
    }

    #[test]
    fn a_subdirectory_behind_a_link_stays_inside() {
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("files");
        std::fs::create_dir_all(files.join("real/sub")).unwrap();
        std::fs::create_dir(directory.path().join("outside")).unwrap();
        std::os::unix::fs::symlink("real", files.join("alias")).unwrap();
        std::os::unix::fs::symlink("../outside", files.join("escape")).unwrap();
        std::os::unix::fs::symlink("/etc", files.join("absolute")).unwrap();
        assert_eq!(subdirectory(&files, "alias/sub", "c").unwrap(), files.join("real/sub"));
        for hostile in ["escape", "absolute", "gone"] {
            assert!(matches!(subdirectory(&files, hostile, "c"), Err(GitError::Subdir { .. })), "{hostile}");
        }
    }
}
