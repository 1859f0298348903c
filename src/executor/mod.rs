//! Runs a plan: stages beside each other as far as they do not need each other, each step's changes becoming a layer.
//!
//! Every stage has a private root directory. Nothing is unpacked until a step needs the files: a stage whose steps only
//! configure, and which nobody copies from, never has a directory at all, and one that runs nothing has the files of its base
//! only by name. The executor speaks to no server: layers of base
//! images are handed to it as files through [`BaseLayers`], and what ADD takes from the network through [`RemoteSources`].

pub mod cache_mounts;
mod claims;
mod content_cache;
pub mod copy;
mod directories;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod mounts;
mod resolution;
mod rootfs_need;
mod run;
mod schedule;
mod stage;
mod stages;
#[cfg(test)]
mod tests;
mod trees;
pub mod users;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::context::{Context, ContextError};
use crate::diag::progress::Progress;
use crate::diag::{BoxedError, Hint};
use crate::dockerfile::ast::{Source, Span};
use crate::fs::{GrowingFile, Removals};
use crate::image::{BaseImage, Blob, BlobSource, Digest};
use crate::layer::{LayerError, LayerOptions};
use crate::plan::{ImageError, RemoteSource};
use crate::rootfs::RootfsError;
use crate::sandbox::{Sandbox, SandboxError};
use crate::secret::{SecretError, Secrets};
use crate::snapshot::{IgnoredPaths, SnapshotError};

pub use cache_mounts::SharedCacheMounts;
pub use content_cache::{CachedLayerError, ContentCache, files_of};
pub use copy::CopyError;
pub use directories::DirectoryError;
pub use resolution::{CacheHits, Disposition, Resolution, ResolveOptions, StageResolution, resolve};
pub use rootfs_need::RootfsNeed;
pub use stages::execute;
pub use users::UserError;

/// What a build needs besides its plan.
pub struct Resources<'a> {
    /// The build context.
    pub context: &'a Context,
    /// The directories given as `--build-context`, in the order of the plan's numbers.
    pub named_contexts: &'a [Context],
    /// Where layers of base images come from.
    pub base_layers: &'a dyn BaseLayers,
    /// Is told of the image's layers.
    pub layer_observer: Option<&'a dyn LayerObserver>,
    /// Where sources of ADD come from that are not in the build context.
    pub remote_sources: &'a dyn RemoteSources,
    /// The secrets that steps may use.
    pub secrets: &'a Secrets,
    /// The SSH agents that steps may use.
    pub ssh_agents: &'a dyn SshAgents,
    /// The directory of caches that outlive the build (`RUN --mount=type=cache`).
    pub caches: PathBuf,
    /// What other machines have in those caches.
    pub shared_caches: Option<&'a dyn SharedCacheMounts>,
    /// How a RUN is isolated: one for each stage that may run at a time, or a single one that they share. None if the plan
    /// has no RUN.
    pub sandboxes: Vec<Mutex<Box<dyn Sandbox>>>,
    /// How many stages may run at a time.
    pub parallel: usize,
    /// An empty directory for layers and all that is written besides; the caller removes it.
    pub directory: PathBuf,
    /// An empty directory, the same one maybe, on the file system that is to hold the stages' root directories.
    pub trees: PathBuf,
    /// What no layer gets.
    pub ignored_paths: IgnoredPaths,
    /// Where trees go that nobody needs any more.
    pub removals: &'a Removals,
    /// How layers are written.
    pub layers: LayerOptions,
    /// A stage makes one layer, with its last step that changes files, instead of one for each.
    pub single_snapshot: bool,
    /// Where progress lines go.
    pub progress: Progress,
}

/// Hands out the layers of base images.
pub trait BaseLayers: Sync {
    /// The blob of layer `index` of `image`, as a local file, complete and verified.
    ///
    /// # Errors
    /// It could not be fetched.
    fn file(&self, image: &BaseImage, index: usize) -> Result<PathBuf, ImageError>;

    /// The content of that blob while it comes, after seeing to it that it does. That it has come and is right is known when
    /// [`BaseLayers::file`] says so.
    ///
    /// # Errors
    /// It is known by now that it cannot be had.
    fn growing(&self, image: &BaseImage, index: usize) -> Result<Arc<GrowingFile>, ImageError>;

    /// Where an output finds the blob of layer `index` of `image`, whether it has been fetched or not.
    fn source(&self, image: &BaseImage, index: usize) -> BlobSource;
}

/// Is told of the layers of the image that is being built, as soon as it is known that the image has them.
pub trait LayerObserver: Sync {
    /// A layer is being written to `file`, and can be read while it is. Should it turn out whole, it is
    /// [ready](LayerObserver::ready) a while later. Not to be waited in.
    fn coming(&self, file: &Path, growing: &Arc<GrowingFile>);

    /// The layer can be had from now on. Layers of the base are among those that are told, and one may be told twice. Not to
    /// be waited in: the stage goes on when this returns.
    fn ready(&self, layer: &BuiltLayer);
}

/// Fetches what ADD takes from the network.
pub trait RemoteSources: Sync {
    /// The source, complete and verified, in a directory of its own.
    ///
    /// # Errors
    /// It could not be fetched, or is not what its checksum says.
    fn fetch(&self, source: &RemoteSource) -> Result<FetchedFiles, FetchError>;
}

/// Why a source could not be fetched.
pub type FetchError = BoxedError;

/// What [`RemoteSources`] brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedFiles {
    /// A directory.
    pub directory: PathBuf,
    /// The file in it that was asked for; empty for all of them.
    pub name: String,
}

/// Hands out the SSH agents that `--ssh` names, for `RUN --mount=type=ssh`.
pub trait SshAgents: Sync {
    /// The socket of the agent called `id`, which listens as long as the build runs; `None` if there is no such agent.
    ///
    /// # Errors
    /// The agent could not be started.
    fn socket(&self, id: &str) -> Result<Option<PathBuf>, AgentError>;
}

/// Why there is no socket of an SSH agent.
pub type AgentError = BoxedError;

/// A layer of the image that is being built.
#[derive(Debug, Clone)]
pub struct BuiltLayer {
    /// Descriptor and whereabouts of the compressed blob.
    pub blob: Blob,
    /// Digest of the uncompressed tar (OCI image specification, config.md).
    pub diff_id: Digest,
}

/// Why a build stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// A step failed.
    #[error("{text}")]
    Step {
        /// The instruction.
        text: String,
        /// The file it stands in.
        source_file: Arc<Source>,
        /// Where in that file.
        span: Span,
        /// Why.
        #[source]
        cause: StepError,
    },
    /// Commands could not be stopped, should that be necessary.
    #[error(transparent)]
    Stop(SandboxError),
    /// A layer of the cache cannot be used after all.
    #[error("failed to use the cached layer {digest}")]
    CachedLayer {
        /// The layer.
        digest: Digest,
        /// Why.
        #[source]
        cause: CachedLayerError,
    },
    /// A layer of a base image could not be had.
    #[error("failed to fetch layer {digest} of {image}")]
    Fetch {
        /// The image.
        image: String,
        /// The layer.
        digest: Digest,
        /// Why.
        #[source]
        cause: ImageError,
    },
    /// A layer of a base image could not be read.
    #[error("failed to read layer {digest} of {image}")]
    ReadLayer {
        /// The image.
        image: String,
        /// The layer.
        digest: Digest,
        /// Why.
        #[source]
        cause: LayerError,
    },
    /// A layer of a base image could not be unpacked.
    #[error("failed to unpack layer {digest} of {image} into {}", directory.display())]
    Unpack {
        /// The image.
        image: String,
        /// The layer.
        digest: Digest,
        /// The root directory it is unpacked into.
        directory: PathBuf,
        /// Why.
        #[source]
        cause: RootfsError,
    },
    /// Files that a stage needs were not made. Another stage says why, unless it is a defect of the accounting.
    #[error("files that are needed were not made; please report this as a defect")]
    NotMade,
    /// A stage's root directory could not be prepared.
    #[error("failed to prepare the root directory of stage {stage}")]
    Prepare {
        /// The stage.
        stage: String,
        /// Why.
        #[source]
        cause: RootfsError,
    },
}

impl Hint for ExecutorError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Step { cause, .. } => cause.hint(),
            Self::Stop(error) => error.hint(),
            Self::CachedLayer { cause, .. } => cause.hint(),
            Self::Fetch { cause, .. } => cause.hint(),
            Self::ReadLayer { cause, .. } => cause.hint(),
            Self::Unpack { cause, .. } | Self::Prepare { cause, .. } => cause.hint(),
            Self::NotMade => None,
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The command ended with a code other than 0.
    #[error("the command did not complete successfully: exit code: {0}")]
    Exit(i32),
    /// The same, of a command that wanted to remove, replace or rename what cannot be, because the pod has mounts there.
    #[error("the command did not complete successfully: exit code: {code}")]
    Busy {
        /// The exit code.
        code: i32,
        /// The mount points.
        mounts: Vec<PathBuf>,
    },
    /// The command was ended by a signal.
    #[error("the command was ended by signal {0}")]
    Signal(i32),
    /// The user the command should run as.
    #[error(transparent)]
    User(UserError),
    /// The sandbox.
    #[error(transparent)]
    Sandbox(SandboxError),
    /// The copy.
    #[error(transparent)]
    Copy(CopyError),
    /// A source on the network.
    #[error("failed to fetch the source {location}")]
    Fetch {
        /// Where it is, without credentials.
        location: String,
        /// Why.
        #[source]
        cause: FetchError,
    },
    /// A directory that a mount needs.
    #[error(transparent)]
    Cache(crate::fs::Error),
    /// The first content of a cache is a file.
    #[error("failed to fill the cache from {path:?}: it is not a directory")]
    CacheContent {
        /// The path in its source.
        path: String,
    },
    /// What a mount is to show does not exist.
    #[error("failed to mount {path:?}: not found")]
    NoMountSource {
        /// The path in its source.
        path: String,
    },
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(SecretError),
    /// A secret that the step requires was not given.
    #[error("secret {id}: not found")]
    NoSecret {
        /// Its name.
        id: String,
    },
    /// A secret that is to be a variable is no text.
    #[error("secret {id} cannot be a variable: it is not valid UTF-8")]
    SecretNotText {
        /// Its name.
        id: String,
    },
    /// An SSH agent cannot be reached.
    #[error("failed to start the SSH agent {id}")]
    Agent {
        /// Its name.
        id: String,
        /// Why.
        #[source]
        cause: AgentError,
    },
    /// An SSH agent that the step requires was not given.
    #[error("SSH agent {id}: not found")]
    NoAgent {
        /// Its name.
        id: String,
    },
    /// The build context.
    #[error("failed to read the build context")]
    Context(#[source] ContextError),
    /// The working directory.
    #[error("failed to make the directory {path}")]
    Workdir {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        cause: DirectoryError,
    },
    /// The plan has a RUN and nobody opened a sandbox: a defect of the driver.
    #[error("there is no sandbox to run the command in; please report this as a defect")]
    NoSandbox,
    /// Nothing made the root directory the step needs: a defect of the plan's accounting.
    #[error("the root directory the step needs was not prepared; please report this as a defect")]
    NoRoot,
    /// The root file system.
    #[error("failed to access the stage's root directory")]
    Rootfs(#[source] RootfsError),
    /// The comparison with the baseline.
    #[error("failed to find what the step changed")]
    Snapshot(#[source] SnapshotError),
    /// The layer of a `--link` step, when it is laid over the files that are there.
    #[error("failed to read the step's layer")]
    ReadLayer(#[source] LayerError),
    /// And its files.
    #[error("failed to apply the step's layer to the stage's files")]
    Overlay(#[source] RootfsError),
    /// The layer.
    #[error("failed to write the step's layer")]
    Layer(#[source] LayerError),
}

impl Hint for StepError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Busy { mounts, .. } => {
                let mounts: Vec<String> = mounts.iter().map(|path| path.display().to_string()).collect();
                Some(format!(
                    "the pod has a mount at {}, which a command can neither remove nor rename with own-root isolation: mount it \
                     elsewhere, below /kaniko for example, or allow user namespaces in the pod (seccompProfile: Unconfined)",
                    mounts.join(", ")
                ))
            }
            Self::Signal(libc::SIGKILL) => {
                Some("SIGKILL is often the kernel's, for want of memory: check the container's limit".to_owned())
            }
            Self::User(error) => error.hint(),
            Self::Sandbox(error) => error.hint(),
            Self::Copy(error) => error.hint(),
            Self::Fetch { cause, .. } => cause.hint(),
            Self::Cache(error) => error.hint(),
            Self::Secret(error) => error.hint(),
            Self::Agent { cause, .. } => cause.hint(),
            Self::Context(error) => error.hint(),
            Self::Workdir { cause, .. } => cause.hint(),
            Self::Rootfs(error) | Self::Overlay(error) => error.hint(),
            Self::Snapshot(error) => error.hint(),
            Self::ReadLayer(error) | Self::Layer(error) => error.hint(),
            Self::Exit(_)
            | Self::Signal(_)
            | Self::CacheContent { .. }
            | Self::NoMountSource { .. }
            | Self::NoSecret { .. }
            | Self::SecretNotText { .. }
            | Self::NoAgent { .. }
            | Self::NoSandbox
            | Self::NoRoot => None,
        }
    }
}
