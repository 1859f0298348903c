//! Reading the files that say what a build does: the Dockerfile and ignore files.
//!
//! A context is somebody else's: what a file of it is called says nothing about what is behind the name. So it is looked up
//! below the context's root, which no symbolic link leads out of; it has to be a regular file, for a pipe would keep the build
//! waiting and a device need not end; it has a size that such files have; and it is none of the kernel's files about this process,
//! whose environment holds credentials. A file outside the context is read only where the command line names it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{OFlags, PROC_SUPER_MAGIC, fstatfs};
use rustix::io::Errno;

use crate::fs::{self, FileKind, Status};

use super::directory::Context;
use super::error::ContextError;

/// Bytes that such a file may have; no sensible one comes near.
const MAX_SIZE: u64 = 16 << 20;

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// How messages call it.
    pub path: PathBuf,
    /// What is in it.
    pub content: Vec<u8>,
    /// Whether messages may quote it. Not where a link outside the context leads to another directory: the author of the link
    /// chose the file, and it may hold anything.
    pub may_be_quoted: bool,
}

impl Context {
    /// Reads the file that `path` names for a process here. Where the path leads into the context, links are followed
    /// within the context alone. `None` if there is no such file.
    ///
    /// # Errors
    /// It is no regular file, too large or the kernel's, or cannot be read.
    pub fn named_file(&self, path: &Path) -> Result<Option<InputFile>, ContextError> {
        match self.inside(path)? {
            Some(inside) => {
                let root = fs::Root::open(&self.root)?;
                read(path, true, |flags| root.open_at(&inside, flags))
            }
            None => read(path, is_what_it_is_called(path), |flags| open(path, flags)),
        }
    }

    /// Reads a file by its path within the context, as [`Context::named_file`] does.
    ///
    /// # Errors
    /// The same.
    pub fn file(&self, path: &Path) -> Result<Option<InputFile>, ContextError> {
        let root = fs::Root::open(&self.root)?;
        read(&self.root.join(path), true, |flags| root.open_at(path, flags))
    }

    /// What a path within the context holds if that is a symbolic link which leads to no file of the context.
    pub fn lost_link(&self, path: &Path) -> Option<PathBuf> {
        let root = fs::Root::open(&self.root).ok()?;
        if root.open_at(path, OFlags::PATH).is_ok() {
            return None;
        }
        let link = root.open_at(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        let target = rustix::fs::readlinkat(&link, "", Vec::new()).ok()?;
        Some(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// The rest of a path behind the context's root, if it leads there.
    ///
    /// # Errors
    /// The root cannot be looked at, or there is no current directory.
    pub fn inside(&self, path: &Path) -> Result<Option<PathBuf>, ContextError> {
        let root =
            Status::of(&fs::Root::open(&self.root)?).map_err(|errno| fs::Error::new("look at", &self.root, errno))?;
        let path = std::path::absolute(path).map_err(|error| fs::Error::new("find", path, error))?;
        // From the top: links above the root are this machine's own.
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        let is_root = |above: &&Path| {
            let status = open(above, OFlags::PATH).and_then(Status::of);
            status.is_ok_and(|status| (status.device, status.inode) == (root.device, root.inode))
        };
        let Some(root) = above.into_iter().find(is_root) else { return Ok(None) };
        let inside = path.strip_prefix(root).ok().map(Path::to_owned);
        Ok(inside.filter(|inside| !climbs(inside)))
    }
}

/// Opens a path as a process here would.
fn open(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    fs::gated::open_flags(path, flags).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Whether a path says itself that it leads out of where it begins.
fn climbs(path: &Path) -> bool {
    let mut depth = 0_usize;
    path.components().any(|component| match component {
        Component::ParentDir if depth == 0 => true,
        Component::ParentDir => {
            depth -= 1;
            false
        }
        _ => {
            depth += 1;
            false
        }
    })
}

fn read(
    path: &Path,
    may_be_quoted: bool,
    open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>,
) -> Result<Option<InputFile>, ContextError> {
    let failed = |errno: Errno| ContextError::from(fs::Error::new("read", path, errno));
    let check = |file: &OwnedFd| match Status::of(file).map_err(failed)?.kind {
        FileKind::File => Ok(()),
        kind => Err(ContextError::NotRegular { path: path.to_owned(), kind: name_of(kind) }),
    };
    // Some devices do something when they are opened, so that it is looked at first.
    let found = match open(OFlags::PATH) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(failed(errno)),
    };
    check(&found)?;
    let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map_err(failed)?;
    check(&file)?;
    if fstatfs(&file).map_err(failed)?.f_type == PROC_SUPER_MAGIC {
        return Err(ContextError::Kernel { path: path.to_owned() });
    }
    let mut content = Vec::new();
    File::from(file)
        .take(MAX_SIZE + 1)
        .read_to_end(&mut content)
        .map_err(|error| fs::Error::new("read", path, error))?;
    if content.len() as u64 > MAX_SIZE {
        return Err(ContextError::TooLarge { path: path.to_owned(), limit: MAX_SIZE });
    }
    Ok(Some(InputFile { path: path.to_owned(), content, may_be_quoted }))
}

/// Whether a path is no link to a file in another directory.
fn is_what_it_is_called(path: &Path) -> bool {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (fs::gated::canonicalize(path), fs::gated::canonicalize(directory)) {
        (Ok(file), Ok(directory)) => file.starts_with(directory),
        _ => false,
    }
}

fn name_of(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "a regular file",
        FileKind::Directory => "a directory",
        FileKind::Symlink => "a symbolic link",
        FileKind::CharDevice { .. } | FileKind::BlockDevice { .. } => "a device",
        FileKind::Fifo => "a named pipe",
        FileKind::Socket => "a socket",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn context(root: &Path) -> Context {
        Context::open(root.to_str().expect("text"), None).expect("context")
    }

    fn text(file: Option<InputFile>) -> Option<(String, bool)> {
        file.map(|file| (String::from_utf8(file.content).expect("text"), file.may_be_quoted))
    }

    /// A link in a context leads to files of the context alone, whatever way the context is reached by.
    #[test]
    fn links_end_at_the_contexts_root() {
        let place = tempfile::tempdir().expect("temporary directory");
        let (root, token) = (place.path().join("context"), place.path().join("token"));
        std::fs::create_dir_all(root.join("docker")).expect("directories");
        std::fs::write(root.join("docker/real"), "FROM scratch").expect("file");
        std::fs::write(&token, "SESAME").expect("file");
        symlink(&root, place.path().join("alias")).expect("link");
        for (name, target) in [("inner", "docker/real"), ("absolute", "/docker/real"), ("up", "../token")] {
            symlink(target, root.join(name)).expect("link");
        }
        symlink(&token, root.join("credentials")).expect("link");
        symlink("/proc/self/environ", root.join("environ")).expect("link");
        symlink("/", root.join("docker/top")).expect("link");
        let context = context(&root);
        for name in ["inner", "absolute", "docker/../inner", "docker/top/inner"] {
            let expected = Some(("FROM scratch".to_owned(), true));
            assert_eq!(text(context.file(Path::new(name)).expect(name)), expected, "{name}");
            for root in [root.clone(), place.path().join("alias"), root.join("docker/..")] {
                assert_eq!(text(context.named_file(&root.join(name)).expect(name)), expected, "{name}");
            }
        }
        for name in ["up", "credentials", "environ", "../token", "docker/top/../token", "docker/real/x", "gone"] {
            assert_eq!(context.file(Path::new(name)).expect(name), None, "{name}");
            if !climbs(Path::new(name)) {
                assert_eq!(context.named_file(&root.join(name)).expect(name), None, "{name}");
            }
        }
        assert_eq!(context.lost_link(Path::new("credentials")), Some(token.clone()));
        assert_eq!(context.lost_link(Path::new("inner")), None);
        assert_eq!(context.lost_link(Path::new("gone")), None);
        // Outside, what the caller names is read; what a link leads away to is not shown.
        symlink(&token, root.join("docker/away")).expect("link");
        symlink("token", place.path().join("beside")).expect("link");
        for named in [token, root.join("../token")] {
            assert_eq!(text(context.named_file(&named).expect("named")), Some(("SESAME".to_owned(), true)));
        }
        assert_eq!(
            text(context.named_file(&place.path().join("beside")).expect("named")),
            Some(("SESAME".to_owned(), true))
        );
        let below = self::context(&root.join("docker"));
        assert_eq!(
            text(below.named_file(&root.join("credentials")).expect("named")),
            Some(("SESAME".to_owned(), false))
        );
        assert_eq!(below.named_file(&root.join("docker/away")).expect("confined"), None);
    }

    /// None of them may be waited for, or read without an end.
    #[test]
    fn what_is_no_regular_file_is_refused() {
        let place = tempfile::tempdir().expect("temporary directory");
        let root = place.path();
        mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("pipe");
        drop(std::os::unix::net::UnixListener::bind(root.join("socket")).expect("socket"));
        std::fs::create_dir(root.join("directory")).expect("directory");
        let context = context(root);
        for (name, kind) in [("pipe", "a named pipe"), ("socket", "a socket"), ("directory", "a directory")] {
            let error = context.file(Path::new(name)).expect_err(name).to_string();
            assert!(error.ends_with(&format!("{name} is {kind}; only a regular file can be read here")), "{error}");
        }
        // Devices: the machine's own, as making one takes a capability.
        let devices = self::context(Path::new("/dev"));
        assert!(matches!(devices.file(Path::new("zero")), Err(ContextError::NotRegular { kind: "a device", .. })));
        assert!(matches!(context.named_file(Path::new("/dev/zero")), Err(ContextError::NotRegular { .. })));
        let kernel = self::context(Path::new("/proc/self"));
        assert!(matches!(kernel.file(Path::new("environ")), Err(ContextError::Kernel { .. })));
        assert!(matches!(context.named_file(Path::new("/proc/self/environ")), Err(ContextError::Kernel { .. })));
        let large = File::create(root.join("large")).expect("file");
        large.set_len(MAX_SIZE).expect("size");
        assert_eq!(context.file(Path::new("large")).expect("fits").map(|file| file.content.len()), Some(16 << 20));
        large.set_len(MAX_SIZE + 1).expect("size");
        assert!(matches!(context.file(Path::new("large")), Err(ContextError::TooLarge { .. })));
    }
}
