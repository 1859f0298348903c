//! The directories of `RUN --mount=type=cache`: they outlive the build, and builds share them.
//!
//! A cache is a directory named after the digest of its id, beside a file that is locked while a command uses it: shared
//! for `sharing=shared`, alone for `locked` and `private`. The lock ends with the process, however that ends. It is made
//! whole elsewhere and renamed into place, so that nobody sees half of its first content.
//!
//! The content of a cache may come from another machine and go to others ([`SharedCacheMounts`]). It is imported by whoever has
//! the cache alone; who only shares it takes it as it is.

pub mod archive;
pub mod survey;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, RenameFlags};
use rustix::io::Errno;

use crate::diag::{interrupt, with_causes};
use crate::dockerfile::mount::{MountOwner, Sharing};
use crate::fs::{self, gated};
use crate::image::Digest;
use crate::sandbox::SandboxError;

use super::StepError;

/// How often a lock that somebody else has is tried again.
const PATIENCE: Duration = Duration::from_millis(100);
/// How many private directories one cache may have.
const MOST_PRIVATE: usize = 1000;

/// What directories are called that are being made, before a number.
const STAGING: &str = "new-";
/// What an import is called in the directory made for it.
const IMPORTED: &str = "imported";

/// Caches that other machines have filled, and that others will take from here. Nothing of it fails a build: what cannot be
/// imported or exported is told, and the cache is one of this machine's.
pub trait SharedCacheMounts: Sync {
    /// Puts what there is of the cache `id`, whose directory is missing or empty, at `new`, which does not exist. `false`:
    /// there is nothing, and nothing was put there.
    fn import(&self, id: &str, directory: &Path, new: &Path) -> bool;

    /// A command is about to use the cache's directory.
    fn opened(&self, id: &str, directory: &Path);

    /// The command has ended; `succeeded`: as it should.
    fn closed(&self, directory: &Path, succeeded: bool);
}

/// Where the first content of a cache comes from.
pub(super) struct Origin<'a> {
    /// What other machines have left; before the other.
    pub(super) shared: Option<&'a dyn SharedCacheMounts>,
    /// Makes it below the directory it is given, and says where.
    pub(super) fill: &'a mut dyn FnMut(&Path) -> Result<PathBuf, StepError>,
}

/// A cache in use.
#[derive(Debug)]
pub(super) struct CacheDirectory {
    /// Its name.
    pub(super) id: String,
    /// The directory.
    pub(super) path: PathBuf,
    /// For as long as it is in use.
    _lock: Lock,
}

/// The lock of a cache's directory; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    /// Locked as long as it is open.
    _file: File,
    /// The file system has locks, and nobody else has this one.
    is_alone: bool,
}

/// Takes the cache `id` below `parent`, which is made too. `waiting` is called once if somebody else has it; a new cache's
/// first content, and that of one which is empty, is that of its `origin`.
///
/// # Errors
/// The directory cannot be made or locked, its first content cannot be made, or the build was asked to stop.
pub(super) fn open(
    parent: &Path,
    id: &str,
    sharing: Sharing,
    owner: MountOwner,
    waiting: &dyn Fn(),
    mut origin: Origin<'_>,
) -> Result<CacheDirectory, StepError> {
    fs::create_dir_all(parent).map_err(StepError::Cache)?;
    let name = Digest::sha256_of(id.as_bytes()).hex().to_owned();
    if sharing == Sharing::Shared && origin.shared.is_some() {
        // Alone for a moment: an empty directory that somebody has in use must not be exchanged.
        let path = parent.join(&name);
        if let Some(alone) = lock(&path, FlockOperation::NonBlockingLockExclusive)? {
            make(&path, id, owner, &alone, &mut origin)?;
        }
        origin.shared = None;
    }
    let (path, lock) = match sharing {
        Sharing::Shared => wait(parent.join(name), FlockOperation::NonBlockingLockShared, waiting)?,
        Sharing::Locked => wait(parent.join(name), FlockOperation::NonBlockingLockExclusive, waiting)?,
        Sharing::Private => unused(parent, &name)?,
    };
    make(&path, id, owner, &lock, &mut origin)?;
    Ok(CacheDirectory { id: id.to_owned(), path, _lock: lock })
}

fn wait(path: PathBuf, operation: FlockOperation, waiting: &dyn Fn()) -> Result<(PathBuf, Lock), StepError> {
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
fn unused(parent: &Path, name: &str) -> Result<(PathBuf, Lock), StepError> {
    for number in 0..MOST_PRIVATE {
        let path = match number {
            0 => parent.join(name),
            number => parent.join(format!("{name}-{number}")),
        };
        if let Some(lock) = lock(&path, FlockOperation::NonBlockingLockExclusive)? {
            return Ok((path, lock));
        }
    }
    let error = fs::Error::new("find an unused cache below", parent, io::Error::from(ErrorKind::ResourceBusy));
    Err(StepError::Cache(error))
}

/// `None`: somebody else has it.
fn lock(path: &Path, operation: FlockOperation) -> Result<Option<Lock>, StepError> {
    let path = path.with_extension("lock");
    let file = gated::open_with(&path, OpenOptions::new().create(true).append(true));
    let file = file.map_err(|error| StepError::Cache(fs::Error::new("open", &path, error)))?;
    match rustix::fs::flock(&file, operation) {
        Ok(()) => {
            let is_alone = operation == FlockOperation::NonBlockingLockExclusive;
            Ok(Some(Lock { _file: file, is_alone }))
        }
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => {
            tracing::debug!("the file system of {} has no locks: caches there are not kept apart", path.display());
            Ok(Some(Lock { _file: file, is_alone: false }))
        }
        Err(errno) => Err(StepError::Cache(fs::Error::new("lock", &path, errno))),
    }
}

/// Locks a cache's directory for this program alone. `None`: somebody uses it.
///
/// # Errors
/// It cannot be locked.
pub fn hold(directory: &Path) -> Result<Option<Lock>, StepError> {
    lock(directory, FlockOperation::NonBlockingLockExclusive)
}

/// Makes a cache's directory where there is none, and gives an empty one what can be imported.
fn make(path: &Path, id: &str, owner: MountOwner, lock: &Lock, origin: &mut Origin<'_>) -> Result<(), StepError> {
    let is_there = gated::symlink_metadata(path).is_ok();
    // One that cannot be listed is not empty as far as anybody knows.
    let is_empty = || gated::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    // And one that somebody may have in use is not exchanged.
    if is_there && (origin.shared.is_none() || !lock.is_alone || !is_empty()) {
        return Ok(());
    }
    if lock.is_alone {
        remove_leftovers(path);
    }
    // Beside the cache, because it is renamed: the caches may be a volume of their own.
    let staged = staging(path).and_then(|staging| {
        let imported = staging.join(IMPORTED);
        let made = match origin.shared.is_some_and(|shared| shared.import(id, path, &imported)) {
            true => Some(imported),
            false if is_there => None,
            false => Some((origin.fill)(&staging)?),
        };
        if let Some(made) = made {
            set_owner(&made, owner)?;
            place(&made, path, is_there)?;
        }
        fs::remove_dir_all(&staging).map_err(StepError::Cache)
    });
    match staged {
        // The command can do without.
        Err(error) if is_there => {
            tracing::warn!("the cache {id} stays empty: {}", with_causes(&error));
            Ok(())
        }
        staged => staged,
    }
}

/// Removes what builds left that were killed while they made the directory. Only for one who is alone.
fn remove_leftovers(path: &Path) {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
    let start = format!("{}.{STAGING}", name.display());
    for entry in gated::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(start.as_bytes())
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::debug!("left behind: {}", with_causes(&error));
        }
    }
}

/// Renames a new directory to where a cache belongs. If another build was faster, what it made is as good.
fn place(made: &Path, path: &Path, is_there: bool) -> Result<(), StepError> {
    let renamed = match is_there {
        // Only an empty directory can be replaced.
        true => gated::rename(made, path),
        false => gated::rename_with(made, path, RenameFlags::NOREPLACE),
    };
    match renamed {
        Ok(()) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty => Ok(()),
            // File systems that cannot say so.
            ErrorKind::InvalidInput => fs::rename(made, path).map_err(StepError::Cache),
            _ => Err(StepError::Cache(fs::Error::new("create", path, error))),
        },
    }
}

/// A new directory beside a cache that nobody else fills.
fn staging(path: &Path) -> Result<PathBuf, StepError> {
    let mut number = 0_usize;
    loop {
        let staging = path.with_extension(format!("{STAGING}{number}"));
        match gated::create_dir(&staging) {
            Ok(()) => return Ok(staging),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(StepError::Cache(fs::Error::new("create", &staging, error))),
        }
    }
}

/// Gives a cache or a socket its mode and owner. An owner that cannot be had here leaves it to this program's own user.
pub(super) fn set_owner(path: &Path, owner: MountOwner) -> Result<(), StepError> {
    use std::os::unix::fs::PermissionsExt;

    match gated::chown(path, owner.uid, owner.gid) {
        Ok(()) => {}
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EINVAL)) => {
            tracing::info!("{} cannot belong to {}:{} here: {error}", path.display(), owner.uid, owner.gid);
        }
        Err(error) => return Err(StepError::Cache(fs::Error::new("set the owner of", path, error))),
    }
    gated::set_permissions(path, std::fs::Permissions::from_mode(owner.mode))
        .map_err(|error| StepError::Cache(fs::Error::new("set the mode of", path, error)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::sync::Mutex;

    use super::*;

    const OWNER: MountOwner = MountOwner { mode: 0o750, uid: 0, gid: 0 };

    struct Place {
        directory: tempfile::TempDir,
        filled: Cell<usize>,
        shared: Option<Elsewhere>,
    }

    /// Another machine, which has a file for each cache whose id it knows.
    #[derive(Default)]
    struct Elsewhere {
        ids: Vec<&'static str>,
        asked: Mutex<Vec<String>>,
    }

    impl SharedCacheMounts for Elsewhere {
        fn import(&self, id: &str, directory: &Path, new: &Path) -> bool {
            assert!(lock(directory, FlockOperation::NonBlockingLockShared).unwrap().is_none(), "alone");
            self.asked.lock().unwrap().push(id.to_owned());
            if !self.ids.contains(&id) {
                return false;
            }
            std::fs::create_dir(new).unwrap();
            std::fs::write(new.join("imported"), id).unwrap();
            true
        }

        fn opened(&self, _: &str, _: &Path) {}

        fn closed(&self, _: &Path, _: bool) {}
    }

    impl Place {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap(), filled: Cell::new(0), shared: None }
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
            let shared = self.shared.as_ref().map(|shared| -> &dyn SharedCacheMounts { shared });
            open(&parent, id, sharing, owner, waiting, Origin { shared, fill: &mut fill }).unwrap()
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
    fn what_is_missing_or_empty_is_imported_by_one_who_is_alone() {
        for sharing in [Sharing::Shared, Sharing::Private, Sharing::Locked] {
            let shared = Elsewhere { ids: vec!["known"], ..Elsewhere::default() };
            let place = Place { shared: Some(shared), ..Place::new() };
            let asked = || std::mem::take(&mut *place.shared.as_ref().unwrap().asked.lock().unwrap());
            let names = |path: &Path| {
                let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
                names.map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
            };
            let path = place.open("known", sharing, &never).path;
            assert_eq!((names(&path), place.filled.get()), (vec!["imported".to_owned()], 0), "{sharing:?}");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o750);
            assert_eq!(asked(), ["known"]);
            place.open("known", sharing, &never);
            assert_eq!(asked().len(), 0, "it is there now");
            std::fs::remove_file(path.join("imported")).unwrap();
            assert_eq!(names(&place.open("known", sharing, &never).path), ["imported"], "an empty one");
            let other = place.open("unknown", sharing, &never).path;
            assert_eq!((names(&other), place.filled.get()), (vec!["first".to_owned()], 1));
            std::fs::remove_file(other.join("first")).unwrap();
            let inode = other.metadata().unwrap().ino();
            place.open("unknown", sharing, &never);
            assert_eq!((other.metadata().unwrap().ino(), names(&other).len()), (inode, 0), "an empty one stays");
            let left = names(&place.directory.path().join("caches"));
            assert_eq!(left.len(), 4, "two caches and their locks: {left:?}");
        }
    }

    /// A build that was killed in the middle of an import leaves much.
    #[test]
    fn what_killed_builds_left_is_removed_by_one_who_is_alone() {
        let place = Place { shared: Some(Elsewhere { ids: vec!["id"], ..Elsewhere::default() }), ..Place::new() };
        let path = place.open("id", Sharing::Private, &never).path;
        let left = [0, 7].map(|number| path.with_extension(format!("new-{number}")));
        for left in &left {
            std::fs::create_dir_all(left.join("imported/deep")).unwrap();
        }
        let other = path.with_file_name("other.new-0");
        std::fs::create_dir(&other).unwrap();
        place.open("id", Sharing::Locked, &never);
        assert!(left[0].exists(), "nothing is looked for where nothing is made");
        std::fs::remove_file(path.join("imported")).unwrap();
        place.open("id", Sharing::Shared, &never);
        assert!(!left[0].exists() && !left[1].exists() && other.exists());
    }

    #[test]
    fn a_shared_cache_that_somebody_uses_is_not_exchanged() {
        let place = Place { shared: Some(Elsewhere { ids: vec!["id"], ..Elsewhere::default() }), ..Place::new() };
        let used = place.open("id", Sharing::Shared, &never);
        std::fs::remove_file(used.path.join("imported")).unwrap();
        let again = place.open("id", Sharing::Shared, &never);
        assert_eq!(std::fs::read_dir(&again.path).unwrap().count(), 0);
        let alone = place.open("id", Sharing::Private, &never);
        assert_ne!(alone.path, used.path);
        assert!(alone.path.join("imported").exists(), "a directory of its own has the same content");
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
