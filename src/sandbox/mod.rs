//! Isolates the command of a `RUN`: what it sees and may change, which user it runs as, and that none of its processes
//! survive.
//!
//! Pods differ in what they allow, so there are two mechanisms, and [`mod@probe`] chooses the stronger one that works:
//!
//! - `namespace` gives the command its own mount, IPC and host name namespaces over the stage's root directory, and its
//!   own process namespace where a fresh `/proc` may be mounted. Without CAP_SYS_ADMIN the whole program first enters a
//!   user namespace ([`enter_user_namespace`]), in which it is root.
//! - `own-root` is for the ordinary root pod that may neither unshare nor mount: the entries of the stage's root
//!   directory are renamed onto the container's `/` while the command runs, and renamed back afterwards.
//!
//! In both, the command is started by a second process of this program ([`init_main`]), which has a single thread and
//! so may unshare, fork and change ids.

#![allow(clippy::disallowed_methods, reason = "a sandbox works on the root directory itself")]

mod capability;
mod command;
mod container;
mod contract;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod id_mapping;
mod in_root;
mod init;
mod isolation;
mod kernel_filter;
mod launch;
mod message;
mod mount_flags;
mod mount_points;
mod mountinfo;
mod mounts;
mod namespace;
mod null_device;
mod outcome;
mod own_root;
mod own_system;
mod probe;
mod process;
mod process_tree;
mod raw;
mod run_mounts;
mod script;
mod seccomp;
mod socket_filter;
mod standard_files;
mod stop;
mod stubs;
mod user_namespace;

use std::path::{Path, PathBuf};

pub use container::{ContainerCheck, container_check};
pub use contract::{Features, Obstacle, Sandbox};
pub use error::SandboxError;
pub use id_mapping::IdMapping;
pub use init::init_main;
pub use isolation::{Chosen, Isolation, Mechanism, OwnRootConsent, UnknownIsolation};
pub use message::INIT_COMMAND;
pub use outcome::{ChangeTime, Outcome, Restamp, Status, Stream};
pub use own_root::InPlace;
pub use probe::probe;
pub use process::{HOSTNAME, Ids, Mount, MountContent, Network, Process, Script};
pub use stop::Stop;
pub use user_namespace::enter_user_namespace;

/// Opens the sandbox that [`mod@probe`] chose.
///
/// `work_dir` holds this program's files, `directory` belongs to this build alone. With own-root `work_dir` must be on
/// the same mount as `/` (see [`place_for_trees`]). It and the paths in `keep` stay in place while a command runs, as
/// mount points always do.
///
/// # Errors
/// With own-root: `work_dir` is on a different mount, another build in the container runs commands or needs its files
/// in place ([`keep_in_place`]), or the container has its own operating system.
pub fn open(
    chosen: &Chosen,
    work_dir: &Path,
    directory: &Path,
    keep: &[PathBuf],
) -> Result<Box<dyn Sandbox>, SandboxError> {
    Ok(match chosen.mechanism {
        Mechanism::OwnRoot => Box::new(own_root::OwnRoot::open(work_dir, keep, chosen.own_system)?),
        Mechanism::Namespace => Box::new(namespace::NamespaceSandbox::new(chosen, directory)?),
    })
}

/// Restores the files of `/` if own-root had moved them away when a run of this program died in this container. This
/// must come first at a start, because any path that the user names may lead to such files.
///
/// # Errors
/// Some of the files cannot be restored.
pub fn recover() -> Result<(), SandboxError> {
    own_root::recover()
}

/// Keeps `paths`, which this build reads or writes, in place until the result is dropped: with own-root, another build
/// in the container could move them away. `None` if no build can. Drop it before [`open`], which does the same.
///
/// # Errors
/// Another build has moved the files of `/` away, or may do so.
pub fn keep_in_place(chosen: Result<&Chosen, &SandboxError>, paths: &[&Path]) -> Result<Option<InPlace>, SandboxError> {
    match chosen {
        // If namespaces work, other builds in the container use them too.
        Ok(Chosen { mechanism: Mechanism::Namespace, .. }) => Ok(None),
        _ => own_root::keep_in_place(paths),
    }
}

/// Returns where the root directories of stages must be created, if not in `work_dir`: own-root renames their entries,
/// and renames do not cross mounts. `None` if `work_dir` is suitable, or nothing is, which [`open`] then reports.
#[must_use]
pub fn place_for_trees(chosen: &Chosen, work_dir: &Path) -> Option<PathBuf> {
    match chosen.mechanism {
        Mechanism::OwnRoot => own_root::place_for_trees(work_dir),
        Mechanism::Namespace => None,
    }
}
