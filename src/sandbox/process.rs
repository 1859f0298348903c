//! Describes what to run: a command, its user, and the files that exist only for it.

use std::path::PathBuf;

use super::stop::Stop;
use crate::diag::redact::Secret;

/// The host name that a command sees, as in BuildKit's sandbox.
pub const HOSTNAME: &str = "buildkitsandbox";

/// The numeric user and groups of a command; names were looked up in the image's own files.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

/// The network that a command sees (`RUN --network`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Network {
    /// The network of the container this program runs in.
    #[default]
    Shared,
    /// Only a loopback device. Where network namespaces are not available: no sockets other than unix sockets.
    None,
}

/// A command, without its root directory.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// The program and its arguments. A program without a slash is searched for in the `PATH` of `environment`, in the
    /// root.
    pub arguments: Vec<String>,
    /// The complete environment. Nothing is inherited or added, so the caller sets `HOME`.
    pub environment: Vec<(String, String)>,
    /// An absolute path in the root that must exist.
    pub working_directory: String,
    /// The user and groups to run as.
    pub user: Ids,
    /// The host name, also entered in `/etc/hosts`. Empty: [`HOSTNAME`], except with own-root, which then sets none.
    pub hostname: String,
    /// The network that the command sees.
    pub network: Network,
    /// A program that exists only for this command.
    pub script: Option<Script>,
    /// The mounts of this command (`RUN --mount`), in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// A request to stop the command early.
    pub stop: Option<Stop>,
}

/// Files that exist for one command only and are never in a layer.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The mount point: an absolute, clean path in the root, not `/`. Symbolic links in it are followed inside the
    /// root.
    pub target: String,
    /// The mounted content.
    pub content: MountContent,
    /// True if the command must not change the content. See
    /// [`Features::read_only_mounts`](super::Features::read_only_mounts).
    pub read_only: bool,
}

/// The content of a [`Mount`].
#[derive(Debug, Clone)]
pub enum MountContent {
    /// A directory, file or socket of the caller. It keeps what the command writes to it.
    Bind {
        /// Absolute path outside of the root.
        source: PathBuf,
    },
    /// An empty directory in memory, mode 1777 as with BuildKit, removed after the command.
    Memory {
        /// The most bytes that it may hold.
        size: Option<u64>,
    },
    /// A file that is kept off the disk where possible, removed after the command.
    File {
        /// The file's content.
        content: Secret<Vec<u8>>,
        /// Permission bits.
        mode: u32,
        /// User id of the owner.
        uid: u32,
        /// Group id of the owner.
        gid: u32,
    },
}

/// A program given as text. It is at `/dev/pipes/NAME` while the command runs, and every user may execute it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Script {
    /// The file's name: one path component.
    pub name: String,
    /// The file's content, `#!` line included.
    pub content: String,
}
