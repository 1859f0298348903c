//! A directory that represents a container, for tests.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The modification time that [`Container::age`] sets, since 1970.
pub(super) const OLD: Duration = Duration::from_secs(1_600_000_000);

/// A container with a stage in its work directory, `kaniko`.
pub(super) struct Container {
    directory: tempfile::TempDir,
}

impl Container {
    /// Creates a container with these directories.
    pub(super) fn with_directories(paths: &[&str]) -> Self {
        Self::within(&std::env::temp_dir(), paths)
    }

    /// Creates a container in the directory `parent`.
    pub(super) fn within(parent: &Path, paths: &[&str]) -> Self {
        let container = Self { directory: tempfile::tempdir_in(parent).unwrap() };
        for path in paths {
            std::fs::create_dir_all(container.path(path)).unwrap();
        }
        container
    }

    /// Returns the directory that represents `/`.
    pub(super) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub(super) fn stage(&self) -> PathBuf {
        self.path("kaniko/stage")
    }

    pub(super) fn write(&self, path: &str, content: &str) {
        std::fs::write(self.path(path), content).unwrap();
    }

    /// Writes files with the same content.
    pub(super) fn write_all(&self, paths: &[&str], content: &str) {
        for path in paths {
            self.write(path, content);
        }
    }

    pub(super) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    /// Sets the modification time of directories to [`OLD`].
    pub(super) fn age(&self, paths: &[&str]) {
        for path in paths {
            let directory = std::fs::File::open(self.path(path)).unwrap();
            directory.set_modified(SystemTime::UNIX_EPOCH + OLD).unwrap();
        }
    }

    /// Returns all entries, directories before their contents.
    pub(super) fn entries(&self) -> Vec<ContainerFile> {
        let mut found = Vec::new();
        walk(self.root(), Path::new(""), &mut found);
        found
    }
}

/// A file of a container.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ContainerFile {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    /// User, group, and extended attributes.
    pub(super) owner: (u32, u32),
    pub(super) xattrs: crate::fs::xattr::Xattrs,
    /// `None` for the program's own directory, which the program changes itself.
    pub(super) modified: Option<SystemTime>,
    /// The content of a regular file, or the target of a link.
    pub(super) content: String,
}

fn walk(base: &Path, path: &Path, found: &mut Vec<ContainerFile>) {
    let directory = std::fs::File::open(base.join(path)).unwrap();
    for name in crate::fs::sys::names(&directory).unwrap() {
        let path = path.join(&name);
        let full = base.join(&path);
        let metadata = full.symlink_metadata().unwrap();
        let modified = (path != Path::new("kaniko")).then(|| metadata.modified().unwrap());
        let content = if metadata.is_file() {
            std::fs::read_to_string(&full).unwrap()
        } else if metadata.is_symlink() {
            std::fs::read_link(&full).unwrap().display().to_string()
        } else {
            String::new()
        };
        let xattrs = crate::fs::xattr::read_at(&directory, &name).unwrap();
        let owner = (metadata.uid(), metadata.gid());
        found.push(ContainerFile { path: path.clone(), mode: metadata.mode(), owner, xattrs, modified, content });
        if metadata.is_dir() {
            walk(base, &path, found);
        }
    }
}
