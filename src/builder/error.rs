//! The errors of a build, from its inputs to its outputs.

#![expect(missing_docs, reason = "`#[error]` says it")]

pub(super) mod files;
pub(super) mod pushed_image;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::cache::LayerCacheError;
use crate::context::ContextError;
use crate::diag::Hint;
use crate::executor::{CopyError, ExecutorError};
use crate::image::AssembleError;
use crate::lint::{SettingsError, Violation};
use crate::location::LocationError;
use crate::plan::PlanError;
use crate::push::PushError;
use crate::registry::RegistryError;
use crate::remote::{DownloadError, GitError, TransferError};
use crate::sandbox::SandboxError;
use crate::secret::SecretError;
use crate::ssh::SshError;

use files::FilesError;
use pushed_image::PushedImageError;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    #[error("failed to prepare the work directory")]
    WorkDirectory(#[source] crate::fs::Error),
    #[error("there is no Dockerfile at {}", .tried.join(" or "))]
    NoDockerfile { tried: Vec<String> },
    #[error("{} is a symbolic link to {}, which is not a file of the build context", path.display(), target.display())]
    DockerfileLink { path: PathBuf, target: PathBuf },
    #[error(
        "{} leads to a file in another directory that is not a Dockerfile ({errors} errors; its text is not shown)",
        path.display()
    )]
    UnquotedDockerfile { path: PathBuf, errors: usize },
    #[error("failed to read the Dockerfile {path}: it is not UTF-8 text")]
    NotText { path: PathBuf },
    #[error("the Dockerfile has {} errors", .0.len())]
    Dockerfile(Vec<PlanError>),
    #[error(transparent)]
    CheckSettings(#[from] SettingsError),
    #[error(transparent)]
    Lint(#[from] Violation),
    #[error("failed to write the result as JSON")]
    Json(#[source] serde_json::Error),
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("failed to prepare the sandbox that RUN needs")]
    NoSandbox(#[source] SandboxError),
    /// A command of another build has replaced the files that this build works with.
    #[error("failed to start the build")]
    InPlace(#[source] SandboxError),
    #[error(transparent)]
    Execute(#[from] ExecutorError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    #[error(transparent)]
    Cache(#[from] LayerCacheError),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error(transparent)]
    Repository(#[from] GitError),
    /// A URL of the command line is not valid.
    #[error("{flag} cannot be used")]
    Location {
        flag: &'static str,
        #[source]
        source: LocationError,
    },
    #[error("failed to unpack the build context")]
    ContextArchive(#[source] CopyError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error("the build context would be read from standard input, which is a terminal")]
    Terminal,
    #[error("the Dockerfile and the build context cannot both be read from standard input")]
    InputTwice,
    #[error("failed to unpack the build context {location}")]
    Unpack {
        location: String,
        #[source]
        source: CopyError,
    },
    #[error(transparent)]
    Push(#[from] PushError),
    #[error(transparent)]
    PushedImage(#[from] PushedImageError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("stopped by signal {signal}: {left}")]
    Interrupted { signal: i32, left: String },
    #[error("the build was attempted too many times; please report this as a defect")]
    Endless,
    #[error("failed to start the network runtime")]
    Runtime(#[source] std::io::Error),
}

impl Hint for BuildError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Context(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::WorkDirectory(error) => {
                error.hint().or_else(|| Some("name a writable directory with --work-dir".to_owned()))
            }
            Self::NoDockerfile { .. } => {
                Some("name the file with --dockerfile, and the build context with --context".to_owned())
            }
            Self::DockerfileLink { .. } => {
                Some("name a Dockerfile outside of the build context with --dockerfile".to_owned())
            }
            Self::UnquotedDockerfile { .. } => {
                Some("name the file itself with --dockerfile to see what is wrong with it".to_owned())
            }
            Self::Dockerfile(errors) => errors.iter().find_map(Hint::hint),
            Self::CheckSettings(error) => error.hint(),
            Self::Lint(error) => error.hint(),
            Self::Ssh(error) => error.hint(),
            Self::Secret(error) => error.hint(),
            Self::NoSandbox(error) | Self::InPlace(error) => error.hint(),
            Self::Execute(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Cache(error) => error.hint(),
            Self::Download(error) => error.hint(),
            Self::Repository(error) => error.hint(),
            Self::ContextArchive(error) => error.hint(),
            Self::Transfer(error) => error.hint(),
            Self::Unpack { source, .. } => source.hint(),
            Self::Push(error) => error.hint(),
            Self::PushedImage(error) => error.hint(),
            Self::Files(error) => error.hint(),
            Self::Runtime(error) => error.hint(),
            Self::NotText { .. }
            | Self::Json(_)
            | Self::Assemble(_)
            | Self::Location { .. }
            | Self::Terminal
            | Self::InputTwice
            | Self::Interrupted { .. }
            | Self::Endless => None,
        }
    }
}
