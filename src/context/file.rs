//! Reads the files that define a build: the Dockerfile and ignore files.
//!
//! A context is not trusted: a file's name says nothing about its content. So it is looked up below the context's root,
//! which no symbolic link leaves. It must be a regular file, because a pipe would block the build and a device need not
//! end. Its size is limited. And it must not be one of the kernel's files about this process, whose environment holds
//! credentials. A file outside of the context is read only if the command line names it.

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

/// The most bytes of such a file; real ones are far smaller.
const MAX_SIZE: u64 = 16 << 20;

/// A file and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Its path, for messages.
    pub path: PathBuf,
    /// The content.
    pub content: Vec<u8>,
    /// True if messages may quote it. False if a link outside of the context leads to a different directory: the author
    /// of the link chose the file, and it may contain anything.
    pub may_be_quoted: bool,
}

impl Context {
    /// Reads the file at `path`. If the path leads into the context, links are followed only within the context. `None`
    /// if the file does not exist.
    ///
    /// # Errors
    /// It is not a regular file, is too large or the kernel's, or cannot be read.
    pub fn named_file(&self, path: &Path) -> Result<Option<InputFile>, ContextError> {
        match self.inside(path)? {
            Some(inside) => {
                let root = fs::Root::open(&self.root)?;
                read(path, true, |flags| root.open_at(&inside, flags))
            }
            None => read(path, is_what_it_is_called(path), |flags| open(path, flags)),
        }
    }

    /// Reads a file by its path in the context, like [`Context::named_file`].
    ///
    /// # Errors
    /// As for [`Context::named_file`].
    pub fn file(&self, path: &Path) -> Result<Option<InputFile>, ContextError> {
        let root = fs::Root::open(&self.root)?;
        read(&self.root.join(path), true, |flags| root.open_at(path, flags))
    }

    /// Returns the target of a symbolic link in the context, if it does not lead to a file of the context.
    pub fn lost_link(&self, path: &Path) -> Option<PathBuf> {
        let root = fs::Root::open(&self.root).ok()?;
        if root.open_at(path, OFlags::PATH).is_ok() {
            return None;
        }
        let link = root.open_at(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        let target = rustix::fs::readlinkat(&link, "", Vec::new()).ok()?;
        Some(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Returns the path relative to the context's root, if it leads there.
    ///
    /// # Errors
    /// The root cannot be read, or there is no current directory.
    pub fn inside(&self, path: &Path) -> Result<Option<PathBuf>, ContextError> {
        let root =
            Status::of(&fs::Root::open(&self.root)?).map_err(|errno| fs::Error::new("look at", &self.root, errno))?;
        let path = std::path::absolute(path).map_err(|error| fs::Error::new("find", path, error))?;
        // From the top, because links above the root belong to this machine.
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

/// Opens a path like an ordinary process.
fn open(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    fs::gated::open_flags(path, flags).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Reports whether a path leaves its starting directory by its own components.
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
    // Opening some devices has side effects, so the type is checked first.
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

/// Reports whether a path is not a link to a file in a different directory.
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

    /// A link in a context leads only to files of the context, however the context is reached.
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
        // Outside of the context, files that the caller names are read, but targets of links are not quoted.
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

    /// None of them may block or be read without an end.
    #[test]
    fn special_files_are_refused() {
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
        // Devices: the machine's own, because creating one takes a capability.
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
