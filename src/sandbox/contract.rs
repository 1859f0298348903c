//! Defines the interface of sandboxes, and the features in which they differ.

use std::path::{Path, PathBuf};

use super::error::SandboxError;
use super::outcome::{Outcome, Stream};
use super::process::Process;

/// The features of a sandbox, known before any command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Several commands may run in parallel, each in its own sandbox.
    pub concurrent_commands: bool,
    /// [`Mount::read_only`](super::Mount::read_only) is enforced. Otherwise the caller must pass a copy of files that
    /// must not change.
    pub read_only_mounts: bool,
    /// [`Network::None`](super::Network::None) is supported.
    pub offline_commands: bool,
    /// Commands see [`Process::hostname`] as their host name, not only in `/etc/hosts`.
    pub host_name: bool,
    /// Known paths of a stage at which nothing can be mounted.
    pub obstacles: Vec<Obstacle>,
}

impl Features {
    /// Every feature, and no obstacles.
    pub const ALL: Self = Self {
        concurrent_commands: true,
        read_only_mounts: true,
        offline_commands: true,
        host_name: true,
        obstacles: Vec::new(),
    };

    /// Returns the reason why nothing can be mounted at `target`, if there is one. `is_memory` is true for
    /// [`MountContent::Memory`](super::MountContent::Memory).
    pub fn obstacle(&self, target: &Path, is_memory: bool) -> Option<&'static str> {
        let mut obstacles = self.obstacles.iter();
        obstacles.find(|known| known.target == target && known.is_memory == is_memory).map(|known| known.reason)
    }
}

/// A path of a stage at which one type of mount is impossible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Absolute path in the stage.
    pub target: PathBuf,
    /// True if this concerns [`MountContent::Memory`](super::MountContent::Memory); false for the other types.
    pub is_memory: bool,
    /// The reason, for messages.
    pub reason: &'static str,
}

/// Runs one command at a time in a root directory, which afterwards has the command's changes.
pub trait Sandbox: Send {
    /// Runs `process` with `root` as its `/` until it ends, and kills the processes that it started.
    ///
    /// `output` is called with each chunk of standard output and standard error as it arrives. `/dev`, `/proc` and
    /// `/sys` are created in `root` if they are missing and stay there, as with BuildKit. Every other mount point that
    /// had to be created is removed.
    ///
    /// # Errors
    /// The command could not be started, a stop was requested ([`SandboxError::Interrupted`]), or `root` could not be
    /// prepared or cleaned up.
    fn run(
        &mut self,
        root: &Path,
        process: &Process,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, SandboxError>;

    /// Returns `namespace` or `own-root`.
    fn name(&self) -> &'static str;

    /// Returns the features of this sandbox.
    fn features(&self) -> Features;
}
