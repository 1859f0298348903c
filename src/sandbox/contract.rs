//! What every sandbox does, and in what they differ.

use std::path::{Path, PathBuf};

use super::error::SandboxError;
use super::outcome::{Outcome, Stream};
use super::process::Process;

/// What a sandbox can do, known before anything runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Several commands may run at once, each with a sandbox of its own.
    pub concurrent_commands: bool,
    /// [`Mount::read_only`](super::Mount::read_only) is enforced. Where it is not, a caller gives a copy of what must not change.
    pub read_only_mounts: bool,
    /// [`Network::None`](super::Network::None) works.
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

    /// Why nothing can be mounted at this path of a stage. `is_memory`: [`MountContent::Memory`](super::MountContent::Memory).
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
    /// It is [`MountContent::Memory`](super::MountContent::Memory) that cannot be mounted there; else it is the other kinds.
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
