//! What the executor uses and does not make itself: contexts, secrets, directories, sandboxes, and the ports to the network.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::context::Context;
use crate::diag::progress::Progress;
use crate::fs::{GrowingFile, Removals};
use crate::image::{BaseImage, Blob, BlobSource, Digest};
use crate::layer::LayerOptions;
use crate::plan::{ImageError, RemoteSource};
use crate::sandbox::Sandbox;
use crate::secret::Secrets;
use crate::snapshot::IgnoredPaths;

use super::cache_mounts::SharedCacheMounts;
use super::error::{AgentError, FetchError};

/// Everything that a build needs in addition to its plan.
pub struct Resources<'a> {
    /// The build context.
    pub context: &'a Context,
    /// The directories of `--build-context`, in the order of the plan's numbers.
    pub named_contexts: &'a [Context],
    /// The source of base images' layers.
    pub base_layers: &'a dyn BaseLayers,
    /// The observer of the image's layers.
    pub layer_observer: Option<&'a dyn LayerObserver>,
    /// The source of `ADD`'s remote files.
    pub remote_sources: &'a dyn RemoteSources,
    /// The secrets that steps may use.
    pub secrets: &'a Secrets,
    /// The SSH agents that steps may use.
    pub ssh_agents: &'a dyn SshAgents,
    /// The directory of the cache mounts (`RUN --mount=type=cache`), which outlive the build.
    pub cache_mounts_directory: PathBuf,
    /// The exchange of cache mounts with other machines.
    pub shared_cache_mounts: Option<&'a dyn SharedCacheMounts>,
    /// The sandboxes of `RUN`: one for each stage that may run at a time, or a single one that all share. Empty if the
    /// plan has no `RUN`.
    pub sandboxes: Vec<Mutex<Box<dyn Sandbox>>>,
    /// The number of stages that may run at a time.
    pub parallel: usize,
    /// An empty directory for layers and other files. The caller removes it.
    pub directory: PathBuf,
    /// An empty directory on the file system that holds the stages' root directories. It may be the same as
    /// `directory`.
    pub trees: PathBuf,
    /// Paths that no layer contains.
    pub ignored_paths: IgnoredPaths,
    /// Removes the trees that are no longer needed.
    pub removals: &'a Removals,
    /// The format of layers.
    pub layers: LayerOptions,
    /// Whether a stage makes one layer, with its last step that changes files, instead of one layer for each step.
    pub single_snapshot: bool,
    /// The receiver of progress lines.
    pub progress: Progress,
}

/// Supplies the layers of base images.
pub trait BaseLayers: Sync {
    /// Returns the blob of layer `index` of `image`, complete and verified, as a local file.
    ///
    /// # Errors
    /// The blob could not be fetched.
    fn file(&self, image: &BaseImage, index: usize) -> Result<PathBuf, ImageError>;

    /// Starts the download of that blob and returns a file that can be read while it grows. Only [`BaseLayers::file`]
    /// says that it is complete and verified.
    ///
    /// # Errors
    /// The download has already failed.
    fn growing(&self, image: &BaseImage, index: usize) -> Result<Arc<GrowingFile>, ImageError>;

    /// Returns the source from which an output reads the blob of layer `index` of `image`, fetched or not.
    fn source(&self, image: &BaseImage, index: usize) -> BlobSource;
}

/// Receives the layers of the image that is being built, as soon as it is known that they belong to the image.
pub trait LayerObserver: Sync {
    /// A layer is being written to `file`, and `growing` can be read meanwhile. If writing succeeds,
    /// [`ready`](LayerObserver::ready) follows. Must not block.
    fn writing(&self, file: &Path, growing: &Arc<GrowingFile>);

    /// The layer is complete. Also called for layers of the base image; may be called twice for a layer. Must not
    /// block: the stage waits until it returns.
    fn ready(&self, layer: &BuiltLayer);
}

/// Fetches the remote sources of `ADD`.
pub trait RemoteSources: Sync {
    /// Fetches the source into a directory of its own, complete and verified.
    ///
    /// # Errors
    /// The source could not be fetched, or its checksum does not match.
    fn fetch(&self, source: &RemoteSource) -> Result<FetchedFiles, FetchError>;
}

/// Files that [`RemoteSources`] fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedFiles {
    /// The directory of the files.
    pub directory: PathBuf,
    /// The name of the requested file in it; empty for all files.
    pub name: String,
}

/// Supplies the SSH agents of `--ssh` to `RUN --mount=type=ssh`.
pub trait SshAgents: Sync {
    /// Returns the socket of the agent `id`, which listens until the build ends, or `None` if there is no such agent.
    ///
    /// # Errors
    /// The agent could not be started.
    fn socket(&self, id: &str) -> Result<Option<PathBuf>, AgentError>;
}

/// A layer of the image that is being built.
#[derive(Debug, Clone)]
pub struct BuiltLayer {
    /// The compressed blob: its descriptor and where it is.
    pub blob: Blob,
    /// Digest of the uncompressed tar (OCI image specification, config.md).
    pub diff_id: Digest,
}
