//! The directories of `RUN --mount=type=cache`, which outlive the build and are shared between builds.
//!
//! A cache mount is a directory named after the digest of its id. A file next to it is locked while a command uses the
//! directory: `sharing=shared` takes a shared lock, `locked` and `private` an exclusive one. The lock ends with the
//! process, however that ends. The directory is filled elsewhere and renamed into place, so that no command sees a part
//! of its initial content.
//!
//! The content may be exchanged with other machines ([`SharedCacheMounts`]). Only a build that has the exclusive lock
//! imports it; others use the directory as it is.

pub mod archive;
pub mod error;
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

/// The interval at which a lock that is taken is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// The most private directories of one cache mount.
const MAX_PRIVATE: usize = 1000;

/// The extension of directories under construction; a number follows.
const STAGING: &str = "new-";
/// The name of an import in its staging directory.
const IMPORTED: &str = "imported";

/// The exchange of cache mounts with other machines. It never fails a build: an import or export that fails is
/// reported, and the cache mount stays local.
pub trait SharedCacheMounts: Sync {
    /// Writes the content of the cache mount `id`, whose directory is missing or empty, to `new`, which does not exist.
    /// Returns `false`, without writing anything, if there is nothing to import.
    fn import(&self, id: &str, directory: &Path, new: &Path) -> bool;

    /// A command is about to use the directory.
    fn opened(&self, id: &str, directory: &Path);

    /// The command has ended; `succeeded` says whether with exit code 0.
    fn closed(&self, directory: &Path, succeeded: bool);
}

/// The initial content of a cache mount.
pub(super) struct InitialContent<'a> {
    /// The exchange with other machines. It takes precedence over `fill`.
    pub(super) shared: Option<&'a dyn SharedCacheMounts>,
    /// Makes the content below the given directory, and returns its path.
    pub(super) fill: &'a mut dyn FnMut(&Path) -> Result<PathBuf, StepError>,
}

/// A cache mount in use.
#[derive(Debug)]
pub(super) struct CacheDirectory {
    /// The mount's id.
    pub(super) id: String,
    /// The directory.
    pub(super) path: PathBuf,
    /// Held while the directory is in use.
    _lock: Lock,
}

/// The lock of a cache mount's directory. Dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    /// Locked while it is open.
    _file: File,
    /// Whether no other process can have the lock: false for shared locks, and on file systems without locks.
    is_exclusive: bool,
}

/// Opens the cache mount `id` below `parent`, which is made if missing. `waiting` is called once if the lock is taken.
/// A new or empty directory gets its initial content.
///
/// # Errors
/// The directory cannot be made, filled or locked, or the build was asked to stop.
pub(super) fn open(
    parent: &Path,
    id: &str,
    sharing: Sharing,
    owner: MountOwner,
    waiting: &dyn Fn(),
    mut initial: InitialContent<'_>,
) -> Result<CacheDirectory, StepError> {
    fs::create_dir_all(parent).map_err(StepError::Cache)?;
    let name = Digest::sha256_of(id.as_bytes()).hex().to_owned();
    if sharing == Sharing::Shared && initial.shared.is_some() {
        // An empty directory is only replaced under the exclusive lock: a command may be using it.
        let path = parent.join(&name);
        if let Some(exclusive) = try_lock(&path, FlockOperation::NonBlockingLockExclusive)? {
            create(&path, id, owner, &exclusive, &mut initial)?;
        }
        initial.shared = None;
    }
    let (path, lock) = match sharing {
        Sharing::Shared => wait_for_lock(parent.join(name), FlockOperation::NonBlockingLockShared, waiting)?,
        Sharing::Locked => wait_for_lock(parent.join(name), FlockOperation::NonBlockingLockExclusive, waiting)?,
        Sharing::Private => lock_unused(parent, &name)?,
    };
    create(&path, id, owner, &lock, &mut initial)?;
    Ok(CacheDirectory { id: id.to_owned(), path, _lock: lock })
}

fn wait_for_lock(path: PathBuf, operation: FlockOperation, waiting: &dyn Fn()) -> Result<(PathBuf, Lock), StepError> {
    let mut reported = false;
    loop {
        if let Some(lock) = try_lock(&path, operation)? {
            return Ok((path, lock));
        }
        if interrupt::requested().is_some() {
            return Err(StepError::Sandbox(SandboxError::Interrupted));
        }
        if !std::mem::replace(&mut reported, true) {
            waiting();
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
}

/// Returns and locks the first directory of the cache mount that is not in use.
fn lock_unused(parent: &Path, name: &str) -> Result<(PathBuf, Lock), StepError> {
    for number in 0..MAX_PRIVATE {
        let path = match number {
            0 => parent.join(name),
            number => parent.join(format!("{name}-{number}")),
        };
        if let Some(lock) = try_lock(&path, FlockOperation::NonBlockingLockExclusive)? {
            return Ok((path, lock));
        }
    }
    let error = fs::Error::new(
        "find an unused directory of the cache mount below",
        parent,
        io::Error::from(ErrorKind::ResourceBusy),
    );
    Err(StepError::Cache(error))
}

/// Returns `None` if the lock is taken.
fn try_lock(path: &Path, operation: FlockOperation) -> Result<Option<Lock>, StepError> {
    let path = path.with_extension("lock");
    let file = gated::open_with(&path, OpenOptions::new().create(true).append(true));
    let file = file.map_err(|error| StepError::Cache(fs::Error::new("open", &path, error)))?;
    match rustix::fs::flock(&file, operation) {
        Ok(()) => {
            let is_exclusive = operation == FlockOperation::NonBlockingLockExclusive;
            Ok(Some(Lock { _file: file, is_exclusive }))
        }
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => {
            tracing::debug!(
                "the file system of {} has no locks: builds may use its cache mounts at the same time",
                path.display()
            );
            Ok(Some(Lock { _file: file, is_exclusive: false }))
        }
        Err(errno) => Err(StepError::Cache(fs::Error::new("lock", &path, errno))),
    }
}

/// Locks a cache mount's directory exclusively. Returns `None` if it is in use.
///
/// # Errors
/// The lock file cannot be opened or locked.
pub fn lock_exclusively(directory: &Path) -> Result<Option<Lock>, StepError> {
    try_lock(directory, FlockOperation::NonBlockingLockExclusive)
}

/// Makes a cache mount's directory if it is missing, and imports content into an empty one.
fn create(
    path: &Path,
    id: &str,
    owner: MountOwner,
    lock: &Lock,
    initial: &mut InitialContent<'_>,
) -> Result<(), StepError> {
    let exists = gated::symlink_metadata(path).is_ok();
    // A directory that cannot be listed does not count as empty.
    let is_empty = || gated::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    // A directory that may be in use is not replaced.
    if exists && (initial.shared.is_none() || !lock.is_exclusive || !is_empty()) {
        return Ok(());
    }
    if lock.is_exclusive {
        remove_leftovers(path);
    }
    // Staged next to the directory, because it is renamed: the cache mounts may be on a volume of their own.
    let staged = staging(path).and_then(|staging| {
        let imported = staging.join(IMPORTED);
        let new = match initial.shared.is_some_and(|shared| shared.import(id, path, &imported)) {
            true => Some(imported),
            false if exists => None,
            false => Some((initial.fill)(&staging)?),
        };
        if let Some(new) = new {
            set_owner(&new, owner)?;
            install(&new, path, exists)?;
        }
        fs::remove_dir_all(&staging).map_err(StepError::Cache)
    });
    match staged {
        // The import is optional: the command can start with an empty directory.
        Err(error) if exists => {
            tracing::warn!("cache mount {id}: stays empty: {}", with_causes(&error));
            Ok(())
        }
        staged => staged,
    }
}

/// Removes staging directories of builds that were killed. Requires the exclusive lock.
fn remove_leftovers(path: &Path) {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
    let start = format!("{}.{STAGING}", name.display());
    for entry in gated::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(start.as_bytes())
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::debug!("could not remove a staging directory: {}", with_causes(&error));
        }
    }
}

/// Renames a new directory into place. If another build was faster, its directory is as good.
fn install(new: &Path, path: &Path, exists: bool) -> Result<(), StepError> {
    let renamed = match exists {
        // Only an empty directory can be replaced.
        true => gated::rename(new, path),
        false => gated::rename_with(new, path, RenameFlags::NOREPLACE),
    };
    match renamed {
        Ok(()) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty => Ok(()),
            // File systems without `RENAME_NOREPLACE`.
            ErrorKind::InvalidInput => fs::rename(new, path).map_err(StepError::Cache),
            _ => Err(StepError::Cache(fs::Error::new("create", path, error))),
        },
    }
}

/// Makes a new staging directory next to a cache mount.
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

/// Sets the mode and owner of a cache mount or socket. If the owner cannot be set here, this program's user stays the
/// owner.
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

    struct Bench {
        directory: tempfile::TempDir,
        filled: Cell<usize>,
        shared: Option<OtherMachine>,
    }

    /// A different machine, with one file in each cache mount whose id it knows.
    #[derive(Default)]
    struct OtherMachine {
        ids: Vec<&'static str>,
        requested: Mutex<Vec<String>>,
    }

    impl SharedCacheMounts for OtherMachine {
        fn import(&self, id: &str, directory: &Path, new: &Path) -> bool {
            assert!(try_lock(directory, FlockOperation::NonBlockingLockShared).unwrap().is_none(), "alone");
            self.requested.lock().unwrap().push(id.to_owned());
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

    impl Bench {
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
                let new = staging.join("made");
                std::fs::create_dir(&new).unwrap();
                std::fs::write(new.join("first"), "content").unwrap();
                Ok(new)
            };
            let shared = self.shared.as_ref().map(|shared| -> &dyn SharedCacheMounts { shared });
            open(&parent, id, sharing, owner, waiting, InitialContent { shared, fill: &mut fill }).unwrap()
        }
    }

    fn never() {
        panic!("no other build has the cache mount");
    }

    #[test]
    fn a_directory_is_made_once_and_stays() {
        let bench = Bench::new();
        let path = bench.open("id", Sharing::Shared, &never).path;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o750);
        std::fs::write(path.join("second"), "").unwrap();
        let again = bench.open("id", Sharing::Locked, &never).path;
        assert!(again.join("first").exists() && again.join("second").exists());
        let leftovers = std::fs::read_dir(bench.directory.path().join("caches")).unwrap();
        assert_eq!(leftovers.count(), 2, "the cache and its lock");
        assert_ne!(bench.open("/other/../id", Sharing::Shared, &never).path, path);
        assert_eq!(bench.filled.get(), 2);
    }

    #[test]
    fn missing_and_empty_directories_are_imported_under_an_exclusive_lock() {
        for sharing in [Sharing::Shared, Sharing::Private, Sharing::Locked] {
            let shared = OtherMachine { ids: vec!["known"], ..OtherMachine::default() };
            let bench = Bench { shared: Some(shared), ..Bench::new() };
            let requested = || std::mem::take(&mut *bench.shared.as_ref().unwrap().requested.lock().unwrap());
            let names = |path: &Path| {
                let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
                names.map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
            };
            let path = bench.open("known", sharing, &never).path;
            assert_eq!((names(&path), bench.filled.get()), (vec!["imported".to_owned()], 0), "{sharing:?}");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o750);
            assert_eq!(requested(), ["known"]);
            bench.open("known", sharing, &never);
            assert_eq!(requested().len(), 0, "it exists now");
            std::fs::remove_file(path.join("imported")).unwrap();
            assert_eq!(names(&bench.open("known", sharing, &never).path), ["imported"], "an empty directory");
            let other = bench.open("unknown", sharing, &never).path;
            assert_eq!((names(&other), bench.filled.get()), (vec!["first".to_owned()], 1));
            std::fs::remove_file(other.join("first")).unwrap();
            let inode = other.metadata().unwrap().ino();
            bench.open("unknown", sharing, &never);
            assert_eq!((other.metadata().unwrap().ino(), names(&other).len()), (inode, 0), "an empty directory stays");
            let leftovers = names(&bench.directory.path().join("caches"));
            assert_eq!(leftovers.len(), 4, "two caches and their locks: {leftovers:?}");
        }
    }

    /// A build that is killed during an import does not remove its staging directory.
    #[test]
    fn leftovers_of_killed_builds_are_removed_under_an_exclusive_lock() {
        let bench = Bench { shared: Some(OtherMachine { ids: vec!["id"], ..OtherMachine::default() }), ..Bench::new() };
        let path = bench.open("id", Sharing::Private, &never).path;
        let leftovers = [0, 7].map(|number| path.with_extension(format!("new-{number}")));
        for leftovers in &leftovers {
            std::fs::create_dir_all(leftovers.join("imported/deep")).unwrap();
        }
        let other = path.with_file_name("other.new-0");
        std::fs::create_dir(&other).unwrap();
        bench.open("id", Sharing::Locked, &never);
        assert!(leftovers[0].exists(), "leftovers are only removed when a directory is made");
        std::fs::remove_file(path.join("imported")).unwrap();
        bench.open("id", Sharing::Shared, &never);
        assert!(!leftovers[0].exists() && !leftovers[1].exists() && other.exists());
    }

    #[test]
    fn a_shared_directory_in_use_is_not_replaced() {
        let bench = Bench { shared: Some(OtherMachine { ids: vec!["id"], ..OtherMachine::default() }), ..Bench::new() };
        let used = bench.open("id", Sharing::Shared, &never);
        std::fs::remove_file(used.path.join("imported")).unwrap();
        let again = bench.open("id", Sharing::Shared, &never);
        assert_eq!(std::fs::read_dir(&again.path).unwrap().count(), 0);
        let exclusive = bench.open("id", Sharing::Private, &never);
        assert_ne!(exclusive.path, used.path);
        assert!(exclusive.path.join("imported").exists(), "a directory of its own has the same content");
    }

    #[test]
    fn shared_directories_have_many_users_and_private_ones_one() {
        let bench = Bench::new();
        let (one, two) = (bench.open("id", Sharing::Shared, &never), bench.open("id", Sharing::Shared, &never));
        assert_eq!(one.path, two.path);
        let private = bench.open("id", Sharing::Private, &never);
        assert_ne!(private.path, one.path);
        let (path, other) = (private.path.clone(), bench.open("id", Sharing::Private, &never));
        assert_ne!(other.path, path);
        drop((private, other));
        assert_eq!(bench.open("id", Sharing::Private, &never).path, path);
    }

    #[test]
    fn locked_waits_for_the_current_user() {
        let bench = Bench::new();
        let held = Cell::new(Some(bench.open("id", Sharing::Locked, &never)));
        let reported = Cell::new(0);
        bench.open("id", Sharing::Locked, &|| {
            reported.set(reported.get() + 1);
            held.take();
        });
        assert_eq!(reported.get(), 1);
    }
}
