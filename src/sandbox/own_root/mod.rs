//! The `own-root` sandbox: the stage's files take the place of the container's own while a command runs.
//!
//! It is for pods that may neither mount nor unshare (root, default capabilities, RuntimeDefault seccomp). The entries
//! of the stage's root directory are renamed onto `/`, the container's own move into a stash, and afterwards both move
//! back: a few renames per command, no copying. Some paths are pinned because they cannot move: mount points, the work
//! directory, this program's file. Directories above those are merged: they stay, and their entries and attributes are
//! exchanged.
//!
//! All builds in a container share `/`, so everything about its exchange is in `/` itself and not in a build's work
//! directory: the lock is on the open `/`, the journal and the stash are in `/.crabwright`. `/kaniko` would not do:
//! images that the program was copied into lack it, and it may be a volume, which renames do not reach and which other
//! pods may see. `/` is writable wherever own-root is possible. The next start reads the journal before it resolves any
//! path of the user, because these may lead to files in the stash.
//!
//! Limits: commands see the container's `/proc`, `/dev`, `/sys` and network. They do not see the image's files at or
//! below a pinned path (`/kaniko`, `/workspace`, `/etc/hostname`), and what they write there is not in the image. A
//! command that searches all of `/` also finds the work directory.
//!
//! - A mount of `RUN --mount` is renamed into place, too. So it is not read-only, memory is a directory on the disk
//!   without a limit, and a command can remove a mount point: a bound directory is then created again, empty. If source
//!   and target are on different mounts of the container, such as a cache directory on a volume, the mount is a
//!   symbolic link to the source.
//!
//! - A command that kills this program (`RUN kill -9 …`) ends the build. The next start of the program in the container
//!   restores the files. Until then the container has the image's files, also for the rest of a shell job's script.
//!
//! `pinned_paths` decides what stays, `frame` holds it open, `swap` exchanges and `undo` restores. `state` is the
//! directory of the stash, `journal` records what to undo after a crash. `symlink_shims` has links for files that the
//! image has elsewhere, `placed_mounts` puts mounts in place, `lock` admits one build at a time.

mod busy;
mod bytes;
mod calls;
mod cleared;
#[cfg(test)]
mod container;
mod directory;
#[cfg(test)]
mod faults;
mod frame;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod hosts;
mod journal;
mod lock;
mod metadata;
mod pinned_paths;
mod placed_mounts;
mod placement;
mod relocate;
mod state;
mod swap;
mod swap_target;
mod symlink_shims;
mod undo;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::process::DumpableBehavior;

use self::busy::BusyMounts;
use self::hosts::Hosts;
use self::lock::RootLock;
use self::pinned_paths::PinnedPaths;
use self::state::STATE;
use self::swap::Swapped;
use self::swap_target::SwapTarget;
use super::message::RunSpec;
use super::mountinfo::{self, MountEntry};
use super::{
    Features, Mechanism, MountContent, Outcome, Process, Sandbox, SandboxError, Script, Stream, launch, own_system,
    script, seccomp, standard_files,
};
use crate::diag::interrupt;
use crate::fs::gate::{self, Shut};

const ROOT: &str = "/";

/// Where stages are created if the work directory is on a different mount than `/`: a directory of the executor's
/// images.
const TREES: &str = "/kaniko";

/// Mounts that a command should not see. They are hidden if the directory above them can be moved.
const SECRET_MOUNTS: [&str; 2] = ["/var/run/secrets", "/run/secrets"];

/// A sandbox that runs commands in `/` itself, with the stage's files in place of the container's.
#[derive(Debug)]
pub(super) struct OwnRoot {
    work_dir: PathBuf,
    keep: Vec<PathBuf>,
    /// The mounts at the start.
    mounts: Vec<MountEntry>,
    features: Features,
    _lock: RootLock,
}

/// A guard that keeps other builds from exchanging the files of `/`, which this build reads or writes.
#[derive(Debug)]
pub struct InPlace {
    _lock: RootLock,
}

/// Restores what a dead run of this program left swapped.
pub(super) fn recover() -> Result<(), SandboxError> {
    let root = Path::new(ROOT);
    if !state::is_there(root) {
        return Ok(());
    }
    if RootLock::exclusive(root)?.is_none() {
        tracing::info!(
            "own-root: another build in this container runs a command, which hides the container's own files until it ends"
        );
    } else if undo::recover(root)? {
        tracing::warn!("root directory: restored; an earlier run ended while it was swapped");
    }
    Ok(())
}

/// Keeps the files at `paths` in place while this build runs no command. `None` if they stay in any case: on a mount,
/// or in the executor's own directory.
pub(super) fn keep_in_place(paths: &[&Path]) -> Result<Option<InPlace>, SandboxError> {
    // If mountinfo cannot be read, no build can use own-root.
    let Ok(mounts) = mountinfo::read() else { return Ok(None) };
    let is_movable = |path: &&&Path| {
        let existing = path.ancestors().find_map(|above| std::fs::canonicalize(above).ok());
        existing.is_some_and(|path| require_root_mount(&mounts, &path).is_ok() && !path.starts_with(TREES))
    };
    let Some(path) = paths.iter().find(is_movable) else { return Ok(None) };
    match RootLock::shared(Path::new(ROOT))? {
        Some(lock) => Ok(Some(InPlace { _lock: lock })),
        None => Err(SandboxError::OutOfSight { path: path.to_path_buf() }),
    }
}

impl OwnRoot {
    /// Takes the lock. With `may_move_system`, an operating system's files may be moved away, too.
    pub(super) fn open(work_dir: &Path, keep: &[PathBuf], may_move_system: bool) -> Result<Self, SandboxError> {
        let work_dir = std::fs::canonicalize(work_dir).map_err(SandboxError::io("resolve", work_dir))?;
        let mounts = mountinfo::read()?;
        require_root_mount(&mounts, &work_dir)?;
        let Some(lock) = RootLock::exclusive(Path::new(ROOT))? else { return Err(SandboxError::Busy) };
        let system = own_system::system(Path::new(ROOT));
        if let Some(system) = system.as_ref().filter(|_| !may_move_system) {
            return Err(SandboxError::OwnSystem { system: system.clone() });
        }
        // Commands run in the same process namespace, with the same ids and capabilities. They could otherwise read the
        // memory and environment of this program, which hold credentials.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(SandboxError::errno("protect the memory of", "/proc/self"))?;
        let mut kept = Vec::new();
        for path in keep {
            match std::fs::canonicalize(path) {
                Ok(path) => kept.push(path),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(SandboxError::io("resolve", path)(error)),
            }
        }
        let features = Features {
            concurrent_commands: false,
            read_only_mounts: false,
            offline_commands: seccomp::is_possible(),
            host_name: false,
            obstacles: placed_mounts::obstacles(&mounts),
        };
        let opened = Self { work_dir, keep: kept, mounts, features, _lock: lock };
        if let Some(system) = system {
            tracing::warn!(
                "the files of this image ({system}) are moved away while a RUN runs, and moved back after it: {}",
                movable(&opened.pinned(&opened.mounts, &opened.work_dir, true))?.join(", ")
            );
        }
        Ok(opened)
    }

    /// Returns the paths that must stay in place while `root` is entered; with `all_mounts`, secret mounts too.
    fn pinned(&self, mounts: &[MountEntry], root: &Path, all_mounts: bool) -> PinnedPaths {
        let is_secret = |path: &Path| SECRET_MOUNTS.iter().any(|secret| path.starts_with(secret));
        let mut paths: Vec<PathBuf> = mounts
            .iter()
            .map(|mount| mount.mount_point.clone())
            .filter(|path| all_mounts || !is_secret(path))
            .collect();
        paths.extend([self.work_dir.clone(), root.to_owned(), Path::new(ROOT).join(STATE)]);
        // Other builds may be using it.
        paths.extend(std::fs::canonicalize(TREES));
        paths.extend(self.keep.iter().cloned());
        // A container that restarts after a crash needs its program in place.
        if let Ok(program) = std::fs::read_link("/proc/self/exe")
            && program.exists()
        {
            paths.push(program);
        }
        PinnedPaths::new(Path::new(ROOT), paths)
    }

    fn enter(&self, root: &Path) -> Result<Swapped, SandboxError> {
        let mounts = mountinfo::read()?;
        require_root_mount(&mounts, root)?;
        let place = |pinned| SwapTarget { base: ROOT.into(), root: root.to_owned(), pinned };
        match Swapped::enter(place(self.pinned(&mounts, root, false))) {
            // The directory above a secret mount cannot be moved after all, so the mount stays visible.
            Err(error) if is_busy(&error) => Swapped::enter(place(self.pinned(&mounts, root, true))),
            result => result,
        }
    }
}

/// Opens the gate after an error, unless some of the container's own files are still out of place.
fn open_if_restored(shut: Shut) {
    if undo::recover(Path::new(ROOT)).is_ok() {
        shut.open();
    }
}

/// Returns the entries of `/` that move, entirely or in part, for messages.
fn movable(pinned: &PinnedPaths) -> Result<Vec<String>, SandboxError> {
    let entries = std::fs::read_dir("/").and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let mut names: Vec<OsString> = entries.map_err(SandboxError::io("list", "/"))?;
    names.retain(|name| !pinned.is_under_pinned(Path::new(name)));
    names.sort_unstable();
    Ok(names.iter().map(|name| format!("/{}", name.display())).collect())
}

/// Returns a directory on the mount of `/`, if `work_dir` is on a different one and such a directory exists.
pub(super) fn place_for_trees(work_dir: &Path) -> Option<PathBuf> {
    let mounts = mountinfo::read().ok()?;
    let is_on_root =
        |path: &Path| std::fs::canonicalize(path).is_ok_and(|path| require_root_mount(&mounts, &path).is_ok());
    if is_on_root(work_dir) {
        return None;
    }
    let trees = Path::new(TREES);
    match std::fs::create_dir(trees) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            tracing::debug!("cannot create {TREES}: {error}");
            return None;
        }
    }
    is_on_root(trees).then(|| trees.to_owned())
}

fn is_busy(error: &SandboxError) -> bool {
    matches!(error, SandboxError::File(error)
        if error.source.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()))
}

/// Renames do not cross mounts, even of the same file system.
fn require_root_mount(mounts: &[MountEntry], path: &Path) -> Result<(), SandboxError> {
    match mountinfo::mount_of(mounts, path) {
        Some(mount) if mount.mount_point != Path::new("/") => {
            Err(SandboxError::OtherMount { work_dir: path.to_owned(), mount_point: mount.mount_point.clone() })
        }
        _ => Ok(()),
    }
}

/// Runs `work` while the script is in the container's own `/dev`, which commands see.
fn with_script<T>(script: Option<&Script>, work: impl FnOnce() -> Result<T, SandboxError>) -> Result<T, SandboxError> {
    let Some(script) = script else { return work() };
    let dev = Path::new("/dev");
    let result = script::place(dev, script).map_err(SandboxError::io("write a script below", dev)).and_then(|_| work());
    let removed = script::remove(dev).map_err(SandboxError::io("remove the script below", dev));
    result.and_then(|value| removed.map(|()| value))
}

/// Resolves symbolic links in the mount's source, because they lead elsewhere once the stage's files are in place.
fn with_real_source(mount: &super::Mount) -> Result<super::Mount, SandboxError> {
    let mut mount = mount.clone();
    if let MountContent::Bind { source } = &mut mount.content {
        if source.symlink_metadata().map_err(SandboxError::io("look at", source.as_path()))?.is_symlink() {
            return Err(SandboxError::errno("mount", source.as_path())(rustix::io::Errno::LOOP));
        }
        *source = std::fs::canonicalize(&*source).map_err(SandboxError::io("resolve", source.as_path()))?;
    }
    Ok(mount)
}

impl Sandbox for OwnRoot {
    fn run(
        &mut self,
        root: &Path,
        process: &Process,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, SandboxError> {
        let root = std::fs::canonicalize(root).map_err(SandboxError::io("resolve", root))?;
        standard_files::create_lasting_directories(&root)?;
        let hosts = Hosts::of(process)?;
        let mut mounts: Vec<_> = hosts.iter().filter_map(Hosts::mount).collect();
        for mount in &process.mounts {
            mounts.push(with_real_source(mount)?);
        }
        // Until the gate opens, no other code in this program may follow a path, which would lead into the image.
        let shut = gate::shut().map_err(SandboxError::io("exchange the files of", "/"))?;
        // A signal must not end this process while the directory is swapped.
        let _hold = interrupt::hold();
        let mut swapped = match self.enter(&root) {
            Ok(swapped) => swapped,
            Err(error) => {
                open_if_restored(shut);
                return Err(error);
            }
        };
        hosts.iter().for_each(Hosts::write);
        let mounted = swapped.mount_all(&mounts);
        let mut busy = BusyMounts::among(&self.mounts);
        let run = || {
            launch::run(
                RunSpec {
                    arguments: process.arguments.clone(),
                    environment: process.environment.clone(),
                    working_directory: process.working_directory.clone(),
                    user: process.user.clone(),
                    network: process.network,
                    namespace: None,
                },
                process.stop.as_ref(),
                &mut |stream, bytes| {
                    busy.read(stream, bytes);
                    output(stream, bytes);
                },
            )
        };
        let result = mounted.and_then(|()| with_script(process.script.as_ref(), run));
        let left = swapped.leave().map_err(|error| SandboxError::Leave { source: Box::new(error) });
        match left {
            Ok(_) => shut.open(),
            Err(_) => open_if_restored(shut),
        }
        match (result, left) {
            (Ok(status), Ok(restamped)) => Ok(Outcome { status, restamped, busy: busy.found() }),
            (_, Err(error)) => Err(error),
            (Err(SandboxError::Ids { uid, gid, reason, .. }), Ok(_)) => {
                Err(SandboxError::Ids { uid, gid, isolation: "own-root", reason })
            }
            (Err(error), Ok(_)) => Err(error),
        }
    }

    fn name(&self) -> &'static str {
        Mechanism::OwnRoot.as_str()
    }

    fn features(&self) -> Features {
        self.features.clone()
    }
}
