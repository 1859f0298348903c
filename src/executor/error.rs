//! The errors of a build's execution: why a step failed, and why the build stopped.

#![expect(missing_docs, reason = "`#[error]` says it")]

use std::path::PathBuf;
use std::sync::Arc;

use crate::context::ContextError;
use crate::diag::{BoxedError, Hint};
use crate::dockerfile::ast::{Source, Span};
use crate::image::Digest;
use crate::layer::LayerError;
use crate::plan::ImageError;
use crate::rootfs::RootfsError;
use crate::sandbox::SandboxError;
use crate::secret::SecretError;
use crate::snapshot::SnapshotError;

use super::copy::CopyError;
use super::directories::DirectoryError;
use super::users::UserError;

/// Why a source could not be fetched.
pub type FetchError = BoxedError;

/// Why there is no socket of an SSH agent.
pub type AgentError = BoxedError;

/// Why the blob of a cached layer cannot be read.
pub type CachedLayerError = BoxedError;

/// Why a build stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    #[error("{text}")]
    Step {
        text: String,
        source_file: Arc<Source>,
        span: Span,
        #[source]
        cause: StepError,
    },
    #[error(transparent)]
    Stop(SandboxError),
    #[error("failed to use the cached layer {digest}")]
    CachedLayer {
        digest: Digest,
        #[source]
        cause: CachedLayerError,
    },
    #[error("failed to fetch layer {digest} of {image}")]
    Fetch {
        image: String,
        digest: Digest,
        #[source]
        cause: ImageError,
    },
    #[error("failed to read layer {digest} of {image}")]
    ReadLayer {
        image: String,
        digest: Digest,
        #[source]
        cause: LayerError,
    },
    #[error("failed to unpack layer {digest} of {image} into {}", directory.display())]
    Unpack {
        image: String,
        digest: Digest,
        directory: PathBuf,
        #[source]
        cause: RootfsError,
    },
    /// Files that a stage needs were not made. A different stage has the reason, unless the executor's accounting is
    /// wrong.
    #[error("files that are needed were not made; please report this as a defect")]
    NotMade,
    #[error("failed to prepare the root directory of stage {stage}")]
    Prepare {
        stage: String,
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
    #[error("the command did not complete successfully: exit code: {0}")]
    Exit(i32),
    /// A command failed that wanted to remove, replace or rename a path at which the pod has a mount.
    #[error("the command did not complete successfully: exit code: {code}")]
    Busy { code: i32, mounts: Vec<PathBuf> },
    #[error("the command was ended by signal {0}")]
    Signal(i32),
    #[error(transparent)]
    User(UserError),
    #[error(transparent)]
    Sandbox(SandboxError),
    #[error(transparent)]
    Copy(CopyError),
    #[error("failed to fetch the source {location}")]
    Fetch {
        /// The source's URL without credentials.
        location: String,
        #[source]
        cause: FetchError,
    },
    #[error(transparent)]
    Cache(crate::fs::Error),
    #[error("failed to fill the cache from {path:?}: it is not a directory")]
    CacheContent { path: String },
    #[error("failed to mount {path:?}: not found")]
    NoMountSource { path: String },
    #[error(transparent)]
    Secret(SecretError),
    #[error("secret {id}: not found")]
    NoSecret { id: String },
    #[error("secret {id} cannot be a variable: it is not valid UTF-8")]
    SecretNotText { id: String },
    #[error("failed to start the SSH agent {id}")]
    Agent {
        id: String,
        #[source]
        cause: AgentError,
    },
    #[error("SSH agent {id}: not found")]
    NoAgent { id: String },
    #[error("failed to read the build context")]
    Context(#[source] ContextError),
    #[error("failed to make the directory {path}")]
    Workdir {
        path: String,
        #[source]
        cause: DirectoryError,
    },
    /// The plan has a `RUN`, but no sandbox was opened: a defect of the builder.
    #[error("there is no sandbox to run the command in; please report this as a defect")]
    NoSandbox,
    /// The resolution says that the step needs no root directory: a defect.
    #[error("the root directory the step needs was not prepared; please report this as a defect")]
    NoRoot,
    #[error("failed to access the stage's root directory")]
    Rootfs(#[source] RootfsError),
    #[error("failed to find the files that the step changed")]
    Snapshot(#[source] SnapshotError),
    #[error("failed to read the step's layer")]
    ReadLayer(#[source] LayerError),
    #[error("failed to apply the step's layer to the stage's files")]
    Overlay(#[source] RootfsError),
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
                Some("the kernel sends SIGKILL when memory runs out: check the container's memory limit".to_owned())
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
