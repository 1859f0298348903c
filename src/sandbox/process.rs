//! What to run: a command, whom it runs as, and the files that are there for it only.

use std::path::PathBuf;

use super::stop::Stop;
use crate::diag::redact::Secret;

/// The host name a command sees, as in BuildKit's sandbox.
pub const HOSTNAME: &str = "buildkitsandbox";

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
    /// The command must not change it. See [`Features::read_only_mounts`](super::Features::read_only_mounts).
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
