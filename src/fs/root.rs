//! A directory that paths cannot leave.
//!
//! Symbolic links are followed as a process would follow them whose root directory this is: an absolute target starts at
//! the root, `..` at the root stays there. The kernel does this with openat2(2) and `RESOLVE_IN_ROOT`. Container
//! runtimes' seccomp profiles and old kernels refuse that call; then the path is walked here, one component at a time
//! over open descriptors, which no exchanged link can mislead either.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::gate::{self, Pass};
use super::{Descent, Error, FileKind, Status, sys};

/// As many links as the kernel follows before it speaks of a loop.
const MAX_LINKS: usize = 40;
/// How often a resolution that raced with a rename is tried again before the walk takes over.
const MAX_RACES: usize = 8;

/// Whether openat2 was refused once; it will not be allowed later.
static WALK_ONLY: AtomicBool = AtomicBool::new(false);

/// An open directory that acts as `/` for the paths looked up in it. As long as one is open that does not stay in place, no sandbox
/// exchanges the container's files: it exchanges those in a directory above a mount, too, though the directory is the same.
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
    /// Opens the directory at `path`, whose own way is trusted.
    ///
    /// # Errors
    /// It does not exist or is not a directory.
    pub fn open(path: impl Into<PathBuf>) -> std::result::Result<Self, Error> {
        let path = path.into();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let pass = gate::pass_for(&path).map_err(|error| Error::new("open directory", &path, error))?;
        match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self { path, directory, _pass: pass }),
            Err(errno) => Err(Error::new("open directory", path, errno)),
        }
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens `path` below the root. A link as last component is followed unless `flags` hold `NOFOLLOW`. Not for creating
    /// files: that is done in the directory [`Root::parent`] gives.
    ///
    /// # Errors
    /// The kernel's answer.
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
                    // A rename raced with `..`: the kernel wants the call repeated.
                    Err(Errno::AGAIN) => {}
                    Err(Errno::NOSYS) => {
                        WALK_ONLY.store(true, Ordering::Relaxed);
                        break;
                    }
                    // A seccomp profile answers EPERM, but so may an open that is truly not permitted: the walk tells.
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

    /// Opens the directory `path` lies in, and gives the name `path` has there. The root itself has the name `.`.
    ///
    /// # Errors
    /// The kernel's answer, or `EINVAL` for a path that ends in `..`.
    pub fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString)> {
        let path = relative(path);
        let (directory, name) = match path.components().next_back() {
            None | Some(Component::CurDir) => (Path::new("."), OsStr::new(".")),
            Some(Component::Normal(name)) => (path.parent().map_or(Path::new("."), relative), name),
            Some(_) => return Err(Errno::INVAL),
        };
        Ok((self.open_at(directory, OFlags::PATH | OFlags::DIRECTORY)?, name.to_owned()))
    }

    /// The path, without any symbolic link on the way, that `path` leads to. Components that do not exist are kept as they
    /// are, so that a file yet to be made has a path too.
    ///
    /// # Errors
    /// `ELOOP` for a circle of links, `ENOTDIR` when the way leads through something else than a directory.
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

/// A path as far as it was walked: as deep into the directories as leading names exist.
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

/// The components to walk, the first one last.
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

/// The path without its leading slashes; `.` for the root, because the kernel refuses an empty path.
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

    /// More directories than the walk keeps open, on the way down and up again, and from the top once more.
    #[test]
    fn the_walk_through_many_directories_is_the_kernels() {
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
    fn resolving_gives_the_path_behind_the_links() {
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
    fn a_parent_is_found_behind_links_and_the_name_is_not_followed() {
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
