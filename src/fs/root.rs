//! A directory that paths cannot leave.
//!
//! Symbolic links are followed as if this were the root directory: an absolute target starts here, and `..` does not
//! leave it. The kernel does this with openat2(2) and `RESOLVE_IN_ROOT`. Seccomp profiles of container runtimes and old
//! kernels refuse that call. Then the path is walked here, component by component with open descriptors, which a
//! replaced link cannot redirect, either.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::gate::{self, Pass};
use super::{Descent, Error, FileKind, Status, sys};

/// The number of links that the kernel follows before it reports a loop.
const MAX_LINKS: usize = 40;
/// The number of retries of a resolution that raced with a rename, before the walk is used.
const MAX_RACES: usize = 8;

/// Whether openat2 was refused; it will not be allowed later.
static WALK_ONLY: AtomicBool = AtomicBool::new(false);

/// An open directory that is `/` for the paths looked up in it. While one is open that is not below a staying
/// directory, no sandbox replaces the container's files: if the directory is above a mount, that would also replace
/// files in it.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    directory: OwnedFd,
    _pass: Option<Pass>,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Root {
    /// Opens the directory at `path`; the path itself is trusted.
    ///
    /// # Errors
    /// The path does not exist or is not a directory.
    pub fn open(path: impl Into<PathBuf>) -> std::result::Result<Self, Error> {
        let path = path.into();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let pass = gate::pass_for(&path).map_err(|error| Error::new("open directory", &path, error))?;
        match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self { path, directory, _pass: pass }),
            Err(errno) => Err(Error::new("open directory", path, errno)),
        }
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens `path` below the root. A link in the last component is followed unless `flags` contain `NOFOLLOW`. Not for
    /// creating files: use the directory that [`Root::parent`] returns.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn open_at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        self.open_with(path, flags, WALK_ONLY.load(Ordering::Relaxed))
    }

    fn open_with(&self, path: &Path, flags: OFlags, walk_only: bool) -> Result<OwnedFd> {
        let path = relative(path);
        let flags = flags | OFlags::CLOEXEC;
        if !walk_only {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            for _ in 0..MAX_RACES {
                match rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                    // A rename raced with `..`: the kernel requires a retry.
                    Err(Errno::AGAIN) => {}
                    Err(Errno::NOSYS) => {
                        WALK_ONLY.store(true, Ordering::Relaxed);
                        break;
                    }
                    // Seccomp profiles return EPERM, but so does an open that is not permitted. The walk finds out
                    // which it is.
                    Err(Errno::PERM) => {
                        let opened = self.open_by_walking(path, flags);
                        WALK_ONLY.fetch_or(opened.is_ok(), Ordering::Relaxed);
                        return opened;
                    }
                    answer => return answer,
                }
            }
        }
        self.open_by_walking(path, flags)
    }

    fn open_by_walking(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let Walked { names, mut descent } = self.walk(path, !flags.contains(OFlags::NOFOLLOW))?;
        if descent.depth() < names.len() {
            return Err(Errno::NOENT);
        }
        descent.leave()?;
        let name = names.last().map_or(OsStr::new("."), OsString::as_os_str);
        sys::open_at(descent.directory(), name, flags, 0)
    }

    /// Opens the parent directory of `path`, and returns it with the name of `path` in it. The name of the root itself
    /// is `.`.
    ///
    /// # Errors
    /// The kernel's error, or `EINVAL` for a path that ends in `..`.
    pub fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString)> {
        let path = relative(path);
        let (directory, name) = match path.components().next_back() {
            None | Some(Component::CurDir) => (Path::new("."), OsStr::new(".")),
            Some(Component::Normal(name)) => (path.parent().map_or(Path::new("."), relative), name),
            Some(_) => return Err(Errno::INVAL),
        };
        Ok((self.open_at(directory, OFlags::PATH | OFlags::DIRECTORY)?, name.to_owned()))
    }

    /// Resolves all symbolic links in `path`. Components that do not exist are kept, so that the path of a new file can
    /// be resolved.
    ///
    /// # Errors
    /// `ELOOP` for a loop of links, `ENOTDIR` if a component of the path is not a directory.
    pub fn resolve(&self, path: &Path, follow_last: bool) -> Result<PathBuf> {
        Ok(self.walk(path, follow_last)?.names.into_iter().collect())
    }

    fn walk(&self, path: &Path, follow_last: bool) -> Result<Walked<'_>> {
        let mut pending: Vec<OsString> = reversed(path);
        let top = || Descent::new(self.directory.as_fd(), OFlags::PATH);
        let mut walked = Walked { names: Vec::new(), descent: top() };
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                walked.up()?;
                continue;
            }
            if walked.descent.depth() < walked.names.len() {
                walked.names.push(name);
                continue;
            }
            let found = match sys::open_at(walked.descent.directory(), &name, OFlags::PATH, 0) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    walked.names.push(name);
                    continue;
                }
                Err(errno) => return Err(errno),
            };
            let follow = follow_last || !pending.is_empty();
            if follow && Status::of(&found)?.kind == FileKind::Symlink {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
                let target = PathBuf::from(OsString::from_vec(target));
                if target.is_absolute() {
                    walked = Walked { names: Vec::new(), descent: top() };
                }
                pending.extend(reversed(&target));
            } else {
                walked.names.push(name);
                walked.descent.push(found)?;
            }
        }
        Ok(walked)
    }
}

/// The state of a walk: the directories up to the last existing component.
struct Walked<'r> {
    names: Vec<OsString>,
    descent: Descent<'r>,
}

impl Walked<'_> {
    fn up(&mut self) -> Result<()> {
        self.names.pop();
        if self.descent.depth() > self.names.len() {
            self.descent.leave()?;
        }
        Ok(())
    }
}

/// Returns the components in reverse order.
fn reversed(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Returns the path without its leading slashes; `.` for the root, because the kernel refuses an empty path.
fn relative(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let outside = tempfile::tempdir().expect("temporary directory");
        std::fs::write(outside.path().join("secret"), "outside").expect("write");
        let root = outside.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).expect("directories");
        std::fs::write(root.join("a/b/file"), "inside").expect("write");
        for (target, name) in [
            ("../secret", "up"),
            ("/a/b", "absolute"),
            ("a/b", "relative"),
            ("loop2", "loop1"),
            ("loop1", "loop2"),
            ("../../../../a", "a/climb"),
            ("/proc/self/root", "magic"),
            ("missing/tail", "dangling"),
        ] {
            symlink(target, root.join(name)).expect("symlink");
        }
        outside
    }

    #[test]
    fn the_kernel_and_the_walk_agree_and_neither_leaves_the_root() {
        let outside = tree();
        let root = Root::open(outside.path().join("root")).expect("root");
        for path in [
            ".",
            "/",
            "a",
            "a/b/file",
            "/a/b/file",
            "absolute/file",
            "relative/file",
            "a/climb/b/file",
            "../../a/b/file",
            "a/../a/b",
            "up",
            "up/x",
            "loop1",
            "loop1/x",
            "magic",
            "dangling",
            "a/b/file/x",
            "nothing",
            "relative/..",
            "a/b/../../secret",
            "../secret",
        ] {
            for flags in [OFlags::PATH, OFlags::PATH | OFlags::NOFOLLOW, OFlags::PATH | OFlags::DIRECTORY] {
                let kernel = root.open_with(Path::new(path), flags, false).and_then(Status::of);
                let walk = root.open_with(Path::new(path), flags, true).and_then(Status::of);
                assert_eq!(kernel.map(|found| found.inode), walk.map(|found| found.inode), "{path} {flags:?}");
            }
        }
    }

    /// More directories than the walk holds open, down, up again, and once more from the start.
    #[test]
    fn a_walk_through_many_directories_equals_the_kernels() {
        let outside = tree();
        let root = Root::open(outside.path().join("root")).expect("root");
        let deep: PathBuf = std::iter::repeat_n("d", 100).collect();
        std::fs::create_dir_all(root.path().join(&deep)).expect("directories");
        symlink("../".repeat(90), root.path().join(&deep).join("up")).expect("link");
        symlink("/a/b", root.path().join(&deep).join("top")).expect("link");
        let back: PathBuf = std::iter::repeat_n("..", 95).collect();
        for (path, expected) in [
            (deep.clone(), deep.clone()),
            (deep.join(&back), std::iter::repeat_n("d", 5).collect()),
            (deep.join("up"), std::iter::repeat_n("d", 10).collect()),
            (deep.join("up/d/d"), std::iter::repeat_n("d", 12).collect()),
            (deep.join("top"), PathBuf::from("a/b")),
            (deep.join("missing/../up/d"), std::iter::repeat_n("d", 11).collect()),
        ] {
            assert_eq!(root.resolve(&path, true).as_deref(), Ok(expected.as_path()), "{path:?}");
            if path.components().all(|component| component.as_os_str() != "missing") {
                let kernel = root.open_with(&path, OFlags::PATH, false).and_then(Status::of);
                let walk = root.open_with(&path, OFlags::PATH, true).and_then(Status::of);
                assert_eq!(kernel.expect("kernel").inode, walk.expect("walk").inode, "{path:?}");
            }
        }
    }

    #[test]
    fn resolving_follows_links() {
        let outside = tree();
        let root = Root::open(outside.path().join("root")).expect("root");
        for (path, follow, expected) in [
            ("absolute/file", true, "a/b/file"),
            ("absolute", false, "absolute"),
            ("absolute", true, "a/b"),
            ("a/climb/b", true, "a/b"),
            ("../..", true, ""),
            ("up", true, "secret"),
            ("dangling/x", true, "missing/tail/x"),
            ("relative/new/../other", true, "a/b/other"),
        ] {
            assert_eq!(root.resolve(Path::new(path), follow).expect(path), Path::new(expected), "{path}");
        }
        assert_eq!(root.resolve(Path::new("loop1"), true), Err(Errno::LOOP));
        assert_eq!(root.resolve(Path::new("a/b/file/x"), true), Err(Errno::NOTDIR));
    }

    #[test]
    fn parents_are_found_through_links_and_names_are_not_followed() {
        let outside = tree();
        let root = Root::open(outside.path().join("root")).expect("root");
        let (directory, name) = root.parent(Path::new("absolute/new")).expect("parent");
        assert_eq!(name, "new");
        let expected = root.open_at(Path::new("a/b"), OFlags::PATH).and_then(Status::of).expect("a/b");
        assert_eq!(Status::of(&directory).expect("status").inode, expected.inode);
        assert_eq!(root.parent(Path::new("/")).expect("root").1, ".");
        assert_eq!(root.parent(Path::new("a/..")).err(), Some(Errno::INVAL));
    }
}
