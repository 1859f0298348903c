//! How the command of a `RUN` is isolated: what it may see and touch, as whom it runs, and that nothing of it survives.
//!
//! Pods differ in what they allow, so there are two mechanisms, and [`mod@probe`] picks the stronger one that works here:
//!
//! - `namespace` gives the command its own mount, IPC and host name namespaces over the stage's root directory, and its
//!   own process namespace where a fresh `/proc` may be mounted. Without CAP_SYS_ADMIN the whole program first moves
//!   into a user namespace ([`enter_user_namespace`]), in which it is root.
//! - `own-root` is for the ordinary root pod that may neither unshare nor mount: the entries of the stage's root
//!   directory are renamed onto the container's `/` for the time of the command and renamed back afterwards.
//!
//! Either way the command is started by a second process of this program ([`init_main`]), which has one thread only and
//! so may unshare, fork and change ids without surprises.

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
/// `work_dir` is where this program keeps its files, `directory` a place that only this build uses. With own-root
/// `work_dir` must be on the same mount as `/` (see [`place_for_trees`]), and it and the paths in `keep` stay in place while a
/// command runs (mount points do so anyway).
///
/// # Errors
/// own-root: `work_dir` is on another mount, another build in the container runs commands or needs its files in place
/// ([`keep_in_place`]), or the container has an operating system of its own.
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

/// Puts the files of `/` back if a run of this program died in this container while own-root had them out of the way. Paths
/// that the user names may lead to such files: this is the first thing a start does.
///
/// # Errors
/// They cannot be put back, or not all of them.
pub fn recover() -> Result<(), SandboxError> {
    own_root::recover()
}

/// Keeps `paths`, which this build reads or writes, in sight until the result is dropped: another build in the container could take
/// them out of the way with own-root. `None` where no build can. To be dropped before [`open`], which does that itself.
///
/// # Errors
/// Another build has the files of `/` out of the way, or will have.
pub fn keep_in_place(chosen: Result<&Chosen, &SandboxError>, paths: &[&Path]) -> Result<Option<InPlace>, SandboxError> {
    match chosen {
        // Where namespaces are to be had, other builds have them, too.
        Ok(Chosen { mechanism: Mechanism::Namespace, .. }) => Ok(None),
        _ => own_root::keep_in_place(paths),
    }
}

/// Where the root directories of stages must be made, if not in `work_dir`: own-root renames what is in them, and renames do not
/// cross mounts. `None` if `work_dir` will do, or nothing else would either, which [`open`] then tells.
#[must_use]
pub fn place_for_trees(chosen: &Chosen, work_dir: &Path) -> Option<PathBuf> {
    match chosen.mechanism {
        Mechanism::OwnRoot => own_root::place_for_trees(work_dir),
        Mechanism::Namespace => None,
    }
}
