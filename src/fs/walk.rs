//! Walks through everything below a directory.
//!
//! Names are in the order of a layer, and the caller decides which directories are entered. Neither the stack nor the
//! number of descriptors grows with the depth of the tree ([`Descent`]). Links are not followed.

use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Descent, Error, sys};

/// A walk through everything below a directory.
#[derive(Debug)]
pub struct Walk<'t> {
    descent: Descent<'t>,
    /// The tree, for messages.
    tree: &'t Path,
    /// The current directory, as a path of the tree.
    path: PathBuf,
    /// The remaining names of the directories from the start to the current one.
    names: Vec<std::vec::IntoIter<OsString>>,
}

/// A step of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A name in the current directory. The caller may [enter](Walk::enter) it.
    Name(OsString),
    /// The directory of this name has ended; the walk is in its parent again.
    Left(OsString),
}

impl<'t> Walk<'t> {
    /// Starts in a directory, open for reading, at `path` in the tree at `tree`.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn new(tree: &'t Path, path: PathBuf, directory: BorrowedFd<'t>) -> Result<Self, Error> {
        let descent = Descent::new(directory, OFlags::RDONLY);
        let mut walk = Self { descent, tree, path, names: Vec::new() };
        walk.list()?;
        Ok(walk)
    }

    /// Returns the current directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.descent.directory()
    }

    /// Returns its path in the tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the next name in the current directory, in the order of the names' bytes, or its end. Returns `None` at
    /// the end of the walk.
    ///
    /// # Errors
    /// The parent cannot be entered again, because a directory was moved meanwhile.
    pub fn step(&mut self) -> Result<Option<Step>, Error> {
        let Some(names) = self.names.last_mut() else { return Ok(None) };
        if let Some(name) = names.next() {
            return Ok(Some(Step::Name(name)));
        }
        self.names.pop();
        if self.names.is_empty() {
            return Ok(None);
        }
        self.descent.leave().map_err(|errno| self.error("go back from directory", errno))?;
        let name = self.path.file_name().unwrap_or_default().to_owned();
        self.path.pop();
        Ok(Some(Step::Left(name)))
    }

    /// Enters a directory in the current one; its names follow. A link is not followed.
    ///
    /// # Errors
    /// It is not a directory, or cannot be opened or listed.
    pub fn enter(&mut self, name: &OsStr) -> Result<(), Error> {
        let entered = self.descent.enter(name);
        self.path.push(name);
        entered.map_err(|errno| self.error("open directory", errno))?;
        self.list()
    }

    fn list(&mut self) -> Result<(), Error> {
        let names = sys::names(self.descent.directory()).map_err(|errno| self.error("list", errno))?;
        self.names.push(names.into_iter());
        Ok(())
    }

    fn error(&self, verb: &'static str, errno: Errno) -> Error {
        Error::new(verb, self.tree.join(&self.path), errno)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use crate::fs::{FileKind, Root, Status};

    use super::*;

    /// Deeper than the limits of descriptors, stack and paths.
    const DEEP: usize = 3000;
    const LIMITED: &str = "CRABWRIGHT_TEST_FEW_DESCRIPTORS";

    fn opened(path: &Path) -> OwnedFd {
        let root = Root::open(path).expect("root");
        root.open_at(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY).expect("open")
    }

    /// Returns every step: `name`, `name/` for a directory that is entered, and `..`.
    fn steps(path: &Path) -> Vec<String> {
        let top = opened(path);
        let mut walk = Walk::new(path, PathBuf::new(), top.as_fd()).expect("walk");
        let mut seen = Vec::new();
        while let Some(step) = walk.step().expect("step") {
            match step {
                Step::Name(name) => {
                    let shown = walk.path().join(&name).display().to_string();
                    let kind = Status::at(walk.directory(), &name).expect("status").kind;
                    if kind == FileKind::Directory {
                        walk.enter(&name).expect("enter");
                        seen.push(format!("{shown}/"));
                    } else {
                        seen.push(shown);
                    }
                }
                Step::Left(name) => seen.push(format!("..{}", walk.path().join(name).display())),
            }
        }
        assert_eq!(walk.step().expect("after the end"), None);
        seen
    }

    #[test]
    fn names_come_in_order_and_directories_end() {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(directory.path().join("b/c")).expect("directories");
        fs::create_dir(directory.path().join("empty")).expect("directory");
        for file in ["a", "b/x", "b/c/y", "d"] {
            fs::write(directory.path().join(file), "").expect("file");
        }
        std::os::unix::fs::symlink("b", directory.path().join("link")).expect("link");
        let expected = ["a", "b/", "b/c/", "b/c/y", "..b/c", "b/x", "..b", "d", "empty/", "..empty", "link"];
        assert_eq!(steps(directory.path()), expected);
    }

    #[test]
    fn a_link_is_not_entered() {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(directory.path().join("outside")).expect("directory");
        fs::create_dir_all(directory.path().join("tree")).expect("directory");
        std::os::unix::fs::symlink("../outside", directory.path().join("tree/link")).expect("link");
        let path = directory.path().join("tree");
        let top = opened(&path);
        let mut walk = Walk::new(&path, PathBuf::new(), top.as_fd()).expect("walk");
        let error = walk.enter(OsStr::new("link")).expect_err("a link");
        assert!(error.to_string().contains("tree/link"), "{error}");
    }

    /// Runs this test again in a process with at most 32 descriptors, where one descriptor for each level would fail.
    #[test]
    fn a_deep_tree_takes_few_descriptors() {
        if std::env::var_os(LIMITED).is_some() {
            return walk_a_deep_tree();
        }
        let program = std::env::current_exe().expect("this program");
        let ended = Command::new("sh")
            .args(["-c", "ulimit -n 32; exec \"$0\" --exact fs::walk::tests::a_deep_tree_takes_few_descriptors"])
            .arg(program)
            .env(LIMITED, "1")
            .output()
            .expect("sh");
        let output = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && output.contains("1 passed"), "{output}");
    }

    fn walk_a_deep_tree() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut at = opened(directory.path());
        for depth in 0..DEEP {
            let name = if depth % 500 == 7 { "other" } else { "d" };
            for name in [name, "beside"] {
                rustix::fs::mkdirat(&at, name, rustix::fs::Mode::RWXU).expect("mkdir");
            }
            at = sys::open_at(&at, OsStr::new(name), OFlags::RDONLY, 0).expect("open");
        }
        sys::open_at(&at, OsStr::new("file"), OFlags::CREATE | OFlags::WRONLY, 0o600).expect("file");
        let top = opened(directory.path());
        let mut walk = Walk::new(directory.path(), PathBuf::new(), top.as_fd()).expect("walk");
        let (mut names, mut left, mut deepest) = (0, 0, 0);
        while let Some(step) = walk.step().expect("step") {
            match step {
                Step::Name(name) => {
                    names += 1;
                    deepest = deepest.max(walk.path().as_os_str().as_bytes().len());
                    if name != "file" {
                        walk.enter(&name).expect("enter");
                    }
                }
                Step::Left(_) => left += 1,
            }
        }
        assert_eq!((names, left), (2 * DEEP + 1, 2 * DEEP));
        assert!(deepest > 4096, "longer than a path may be: {deepest}");
        crate::fs::remove_dir_all(directory.path()).expect("removed");
    }
}
