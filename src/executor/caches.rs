//! The directories of `RUN --mount=type=cache`: they outlive the build, and builds share them.
//!
//! A cache is a directory named after the digest of its id, beside a file that is locked while a command uses it: shared
//! for `sharing=shared`, alone for `locked` and `private`. The lock ends with the process, however that ends. It is made
//! whole elsewhere and renamed into place, so that nobody sees half of its first content.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use crate::diag::interrupt;
use crate::dockerfile::mount::{MountOwner, Sharing};
use crate::fs;
use crate::image::Digest;
use crate::sandbox::SandboxError;

use super::StepError;

/// How often a lock that somebody else has is tried again.
const PATIENCE: Duration = Duration::from_millis(100);
/// How many private directories one cache may have.
const MOST_PRIVATE: usize = 1000;

/// A cache in use.
#[derive(Debug)]
pub(super) struct CacheDirectory {
    /// The directory.
    pub(super) path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// Takes the cache `id` below `parent`, which is made too. `waiting` is called once if somebody else has it; `fill` makes a
/// new cache's first content below the directory it is given, and says where.
///
/// # Errors
/// The directory cannot be made or locked, `fill` fails, or the build was asked to stop.
pub(super) fn open(
    parent: &Path,
    id: &str,
    sharing: Sharing,
    owner: MountOwner,
    waiting: &dyn Fn(),
    fill: &mut dyn FnMut(&Path) -> Result<PathBuf, StepError>,
) -> Result<CacheDirectory, StepError> {
    fs::create_dir_all(parent).map_err(StepError::Cache)?;
    let name = Digest::sha256_of(id.as_bytes()).hex().to_owned();
    let (path, lock) = match sharing {
        Sharing::Shared => wait(parent.join(name), FlockOperation::NonBlockingLockShared, waiting)?,
        Sharing::Locked => wait(parent.join(name), FlockOperation::NonBlockingLockExclusive, waiting)?,
        Sharing::Private => unused(parent, &name)?,
    };
    if path.symlink_metadata().is_err() {
        create(&path, owner, fill)?;
    }
    Ok(CacheDirectory { path, _lock: lock })
}

fn wait(path: PathBuf, operation: FlockOperation, waiting: &dyn Fn()) -> Result<(PathBuf, File), StepError> {
    let mut told = false;
    loop {
        if let Some(lock) = lock(&path, operation)? {
            return Ok((path, lock));
        }
        if interrupt::requested().is_some() {
            return Err(StepError::Sandbox(SandboxError::Interrupted));
        }
        if !std::mem::replace(&mut told, true) {
            waiting();
        }
        std::thread::sleep(PATIENCE);
    }
}

/// The first of the cache's directories that nobody uses.
fn unused(parent: &Path, name: &str) -> Result<(PathBuf, File), StepError> {
    for number in 0..MOST_PRIVATE {
        let path = match number {
            0 => parent.join(name),
            number => parent.join(format!("{name}-{number}")),
        };
        if let Some(lock) = lock(&path, FlockOperation::NonBlockingLockExclusive)? {
            return Ok((path, lock));
        }
    }
    let error = fs::Error::new("find an unused cache below", parent, io::Error::from(io::ErrorKind::ResourceBusy));
    Err(StepError::Cache(error))
}

/// `None`: somebody else has it.
fn lock(path: &Path, operation: FlockOperation) -> Result<Option<File>, StepError> {
    let path = path.with_extension("lock");
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(|error| StepError::Cache(fs::Error::new("open", &path, error)))?;
    match rustix::fs::flock(&file, operation) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => {
            tracing::debug!("the file system of {} has no locks: caches there are not kept apart", path.display());
            Ok(Some(file))
        }
        Err(errno) => Err(StepError::Cache(fs::Error::new("lock", &path, errno))),
    }
}

fn create(
    path: &Path,
    owner: MountOwner,
    fill: &mut dyn FnMut(&Path) -> Result<PathBuf, StepError>,
) -> Result<(), StepError> {
    // Beside the cache, because it is renamed: the caches may be a volume of their own.
    let staging = staging(path)?;
    let made = fill(&staging)?;
    set_owner(&made, owner)?;
    match rustix::fs::renameat_with(CWD, &made, CWD, path, RenameFlags::NOREPLACE) {
        // Another build was faster: what it made is as good.
        Ok(()) | Err(Errno::EXIST) => {}
        // File systems that cannot say so.
        Err(Errno::INVAL) => fs::rename(&made, path).map_err(StepError::Cache)?,
        Err(errno) => return Err(StepError::Cache(fs::Error::new("create", path, errno))),
    }
    fs::remove_dir_all(&staging).map_err(StepError::Cache)
}

/// A new directory beside a cache that nobody else fills.
fn staging(path: &Path) -> Result<PathBuf, StepError> {
    let mut number = 0_usize;
    loop {
        let staging = path.with_extension(format!("new-{number}"));
        match std::fs::create_dir(&staging) {
            Ok(()) => return Ok(staging),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(StepError::Cache(fs::Error::new("create", &staging, error))),
        }
    }
}

/// Gives a cache or a socket its mode and owner. An owner that cannot be had here leaves it to this program's own user.
pub(super) fn set_owner(path: &Path, owner: MountOwner) -> Result<(), StepError> {
    use std::os::unix::fs::PermissionsExt;

    match std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)) {
        Ok(()) => {}
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EINVAL)) => {
            tracing::info!("{} cannot belong to {}:{} here: {error}", path.display(), owner.uid, owner.gid);
        }
        Err(error) => return Err(StepError::Cache(fs::Error::new("set the owner of", path, error))),
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(owner.mode))
        .map_err(|error| StepError::Cache(fs::Error::new("set the mode of", path, error)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    const OWNER: MountOwner = MountOwner { mode: 0o750, uid: 0, gid: 0 };

    struct Place {
        directory: tempfile::TempDir,
        filled: Cell<usize>,
    }

    impl Place {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap(), filled: Cell::new(0) }
        }

        fn open(&self, id: &str, sharing: Sharing, waiting: &dyn Fn()) -> CacheDirectory {
            let owner = MountOwner {
                uid: self.directory.path().metadata().unwrap().uid(),
                gid: self.directory.path().metadata().unwrap().gid(),
                ..OWNER
            };
            let parent = self.directory.path().join("caches");
            let mut fill = |staging: &Path| {
                self.filled.set(self.filled.get() + 1);
                let made = staging.join("made");
                std::fs::create_dir(&made).unwrap();
                std::fs::write(made.join("first"), "content").unwrap();
                Ok(made)
            };
            open(&parent, id, sharing, owner, waiting, &mut fill).unwrap()
        }
    }

    fn never() {
        panic!("nobody else has the cache");
    }

    #[test]
    fn a_cache_is_made_once_and_kept() {
        let place = Place::new();
        let path = place.open("id", Sharing::Shared, &never).path;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o750);
        std::fs::write(path.join("second"), "").unwrap();
        let again = place.open("id", Sharing::Locked, &never).path;
        assert!(again.join("first").exists() && again.join("second").exists());
        let left = std::fs::read_dir(place.directory.path().join("caches")).unwrap();
        assert_eq!(left.count(), 2, "the cache and its lock");
        assert_ne!(place.open("/other/../id", Sharing::Shared, &never).path, path);
        assert_eq!(place.filled.get(), 2);
    }

    #[test]
    fn shared_is_for_many_and_private_for_one() {
        let place = Place::new();
        let (one, two) = (place.open("id", Sharing::Shared, &never), place.open("id", Sharing::Shared, &never));
        assert_eq!(one.path, two.path);
        let private = place.open("id", Sharing::Private, &never);
        assert_ne!(private.path, one.path);
        let (path, other) = (private.path.clone(), place.open("id", Sharing::Private, &never));
        assert_ne!(other.path, path);
        drop((private, other));
        assert_eq!(place.open("id", Sharing::Private, &never).path, path);
    }

    #[test]
    fn locked_waits_for_the_one_who_has_it() {
        let place = Place::new();
        let held = Cell::new(Some(place.open("id", Sharing::Locked, &never)));
        let told = Cell::new(0);
        place.open("id", Sharing::Locked, &|| {
            told.set(told.get() + 1);
            held.take();
        });
        assert_eq!(told.get(), 1);
    }
}
