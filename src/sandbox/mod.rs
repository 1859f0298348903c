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
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod in_root;
mod init;
mod kernel_filter;
mod launch;
mod message;
mod mount_points;
mod mountinfo;
mod mounts;
mod namespace;
mod null_device;
mod own_root;
mod own_system;
mod probe;
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

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::diag::redact::Secret;

pub use container::{ContainerCheck, container_check};
pub use error::SandboxError;
pub use init::{INIT_COMMAND, init_main};
pub use own_root::InPlace;
pub use probe::{Chosen, probe};
pub use stop::Stop;
pub use user_namespace::{IdMapping, enter_user_namespace};

/// The host name a command sees, as in BuildKit's sandbox.
pub const HOSTNAME: &str = "buildkitsandbox";

/// What the user asks for with `--isolation`, and what was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// The strongest mechanism that works in this container.
    #[default]
    Auto,
    /// Linux namespaces over the stage's root directory.
    Namespace,
    /// The stage's files in place of the container's own.
    OwnRoot,
}

impl Isolation {
    /// The word for it on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Namespace => "namespace",
            Self::OwnRoot => "own-root",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What own-root may do that it refuses otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnRootConsent {
    /// Run where this does not look like a container (`--force`).
    pub outside_container: bool,
    /// Take the files of an operating system out of the way while a command runs (`--force --pre-cleanup`).
    pub own_system: bool,
}

/// A word that is no isolation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown isolation '{0}': expected auto, namespace or own-root")]
pub struct UnknownIsolation(String);

impl FromStr for Isolation {
    type Err = UnknownIsolation;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "auto" => Ok(Self::Auto),
            "namespace" => Ok(Self::Namespace),
            "own-root" => Ok(Self::OwnRoot),
            other => Err(UnknownIsolation(other.to_owned())),
        }
    }
}

/// Whom a command runs as, in numbers; names were looked up in the image's own files.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

/// The network a command sees (`RUN --network`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Network {
    /// The network of the container this program runs in.
    #[default]
    Shared,
    /// Only a loopback device; where no network namespace is to be had, no sockets but unix ones.
    None,
}

/// What to run: everything but the files.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// The program and its arguments. A program without a slash is looked for in the `PATH` of `environment`, in the root.
    pub arguments: Vec<String>,
    /// The whole environment; nothing is inherited and nothing added (so `HOME` is the caller's to give).
    pub environment: Vec<(String, String)>,
    /// An absolute path in the root that must exist.
    pub working_directory: String,
    /// Whom to run as.
    pub user: Ids,
    /// Host name, where the sandbox has one of its own, and a name in `/etc/hosts`; empty: [`HOSTNAME`], which own-root does
    /// without.
    pub hostname: String,
    /// Lines for `/etc/hosts` beyond the usual ones: host name and address (`--add-host`).
    pub extra_hosts: Vec<(String, String)>,
    /// Which network the command sees.
    pub network: Network,
    /// A program that is there for this command only.
    pub script: Option<Script>,
    /// Files that are there for this command only (`RUN --mount`), in the order they are laid over the root.
    pub mounts: Vec<Mount>,
    /// Ends the command early.
    pub stop: Option<Stop>,
}

/// Files that are there for one command only and never in a layer.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Where: an absolute, clean path in the root, not `/`. Symbolic links in it are followed inside the root.
    pub target: String,
    /// What lies there.
    pub content: MountContent,
    /// The command must not change it. See [`Features::read_only_mounts`].
    pub read_only: bool,
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone)]
pub enum MountContent {
    /// A directory or file (a socket, too) of the caller's. What the command writes to it stays there.
    Bind {
        /// Absolute path, outside the root.
        source: PathBuf,
    },
    /// An empty directory in memory, mode 1777 as with BuildKit, gone with the command.
    Memory {
        /// Most bytes it may hold.
        size: Option<u64>,
    },
    /// A file that is on no disk where that can be avoided, gone with the command.
    File {
        /// What it says.
        content: Secret<Vec<u8>>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// A program given as text: it lies at `/dev/pipes/NAME` while the command runs, and anybody may execute it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Script {
    /// The file's name: one path component.
    pub name: String,
    /// What it says, `#!` line included.
    pub content: String,
}

/// Where a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Status {
    /// It returned this exit code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

impl Status {
    /// Whether the command returned 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

/// An inode change time (`st_ctime`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ChangeTime {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanoseconds: u32,
}

/// A file whose change time the sandbox itself moved, and nobody else: a compare by change time may take `after` for
/// `before`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restamp {
    /// Path relative to the root.
    pub path: PathBuf,
    /// The change time it had when [`Sandbox::run`] was called.
    pub before: ChangeTime,
    /// The change time it has now.
    pub after: ChangeTime,
}

/// What [`Sandbox::run`] gives back when the command could be run to its end, well or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How the command ended.
    pub status: Status,
    /// Files that look changed but are not.
    pub restamped: Vec<Restamp>,
    /// Mount points of the pod among the image's files that the command could not remove, replace or rename, as far as its
    /// output tells.
    pub busy: Vec<PathBuf>,
}

/// What a sandbox can do, known before anything runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Several commands may run at once, each with a sandbox of its own.
    pub concurrent_commands: bool,
    /// [`Mount::read_only`] is enforced. Where it is not, a caller gives a copy of what must not change.
    pub read_only_mounts: bool,
    /// [`Network::None`] works.
    pub offline_commands: bool,
    /// Commands see [`Process::hostname`] as their host name, and not only in `/etc/hosts`.
    pub host_name: bool,
    /// Paths of a stage at which nothing can be mounted, as far as that can be told before.
    pub obstacles: Vec<Obstacle>,
}

impl Features {
    /// All of them.
    pub const ALL: Self = Self {
        concurrent_commands: true,
        read_only_mounts: true,
        offline_commands: true,
        host_name: true,
        obstacles: Vec::new(),
    };

    /// Why nothing can be mounted at this path of a stage. `is_memory`: [`MountContent::Memory`].
    pub fn obstacle(&self, target: &Path, is_memory: bool) -> Option<&'static str> {
        let mut obstacles = self.obstacles.iter();
        obstacles.find(|known| known.target == target && known.is_memory == is_memory).map(|known| known.reason)
    }
}

/// A path of a stage at which one kind of mount is impossible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The path.
    pub target: PathBuf,
    /// It is [`MountContent::Memory`] that cannot be mounted there; else it is the other kinds.
    pub is_memory: bool,
    /// Why not.
    pub reason: &'static str,
}

/// Runs one command at a time in a root directory and gives the directory back as the command left it.
pub trait Sandbox: Send {
    /// Runs `process` with `root` as its `/` until it ends, and ends whatever it left running.
    ///
    /// `output` is called with each piece of its standard output and standard error as it comes. `/dev`, `/proc` and
    /// `/sys` are created in `root` when missing and stay there, as with BuildKit; any other mount point is removed.
    ///
    /// # Errors
    /// The command could not be started, it or the program was asked to stop ([`SandboxError::Interrupted`]), or `root` could
    /// not be prepared or given back.
    fn run(
        &mut self,
        root: &Path,
        process: &Process,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, SandboxError>;

    /// `namespace` or `own-root`.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn features(&self) -> Features;
}

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
    Ok(match chosen.isolation {
        Isolation::OwnRoot => Box::new(own_root::OwnRoot::open(work_dir, keep, chosen.own_system)?),
        Isolation::Namespace | Isolation::Auto => Box::new(namespace::NamespaceSandbox::new(chosen, directory)?),
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
        Ok(Chosen { isolation: Isolation::Namespace, .. }) => Ok(None),
        _ => own_root::keep_in_place(paths),
    }
}

/// Where the root directories of stages must be made, if not in `work_dir`: own-root renames what is in them, and renames do not
/// cross mounts. `None` if `work_dir` will do, or nothing else would either, which [`open`] then tells.
#[must_use]
pub fn place_for_trees(chosen: &Chosen, work_dir: &Path) -> Option<PathBuf> {
    match chosen.isolation {
        Isolation::OwnRoot => own_root::place_for_trees(work_dir),
        Isolation::Namespace | Isolation::Auto => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isolation_words_round_trip() {
        for word in ["auto", "namespace", "own-root"] {
            assert_eq!(word.parse::<Isolation>().unwrap().to_string(), word);
        }
        assert!("chroot".parse::<Isolation>().unwrap_err().to_string().contains("'chroot'"));
    }
}
