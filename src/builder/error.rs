//! What can go wrong between the command line and the last output.

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
    /// The build context.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    /// The work directory cannot be used.
    #[error("failed to prepare the work directory")]
    WorkDirectory(#[source] crate::fs::Error),
    /// There is no Dockerfile.
    #[error("there is no Dockerfile at {}", .tried.join(" or "))]
    NoDockerfile {
        /// The places looked at.
        tried: Vec<String>,
    },
    /// The Dockerfile of the context is a link that leads to nothing there.
    #[error("{} is a symbolic link to {}, which is no file of the build context", path.display(), target.display())]
    DockerfileLink {
        /// The link.
        path: PathBuf,
        /// What it holds.
        target: PathBuf,
    },
    /// A file whose text is not for messages is no Dockerfile.
    #[error(
        "{} leads to a file in another directory that is no Dockerfile ({errors} errors; its text is not shown)",
        path.display()
    )]
    UnquotedDockerfile {
        /// As it was named.
        path: PathBuf,
        /// How many errors there are in it.
        errors: usize,
    },
    /// The Dockerfile is not valid UTF-8.
    #[error("failed to read the Dockerfile {path}: it is not UTF-8 text")]
    NotText {
        /// Its path.
        path: PathBuf,
    },
    /// What is wrong with the Dockerfile: with its text, its meaning, or its base images. Never empty.
    #[error("the Dockerfile has {} errors", .0.len())]
    Dockerfile(Vec<PlanError>),
    /// The `check` directive.
    #[error(transparent)]
    CheckSettings(#[from] SettingsError),
    /// Warnings about a Dockerfile that wants none (`check=error=true`).
    #[error(transparent)]
    Lint(#[from] Violation),
    /// An answer that cannot be written as JSON.
    #[error("failed to write the answer as JSON")]
    Json(#[source] serde_json::Error),
    /// An SSH agent cannot be used.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A RUN needs a sandbox, and there is none.
    #[error("failed to prepare the sandbox that RUN needs")]
    NoSandbox(#[source] SandboxError),
    /// Another build has the files that this one works with out of the way.
    #[error("failed to begin the build")]
    InPlace(#[source] SandboxError),
    /// A step failed.
    #[error(transparent)]
    Execute(#[from] ExecutorError),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The image's configuration and manifest.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// A cache, where that is all there is to do.
    #[error(transparent)]
    Cache(#[from] LayerCacheError),
    /// A file on the network.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// A repository on the network.
    #[error(transparent)]
    Repository(#[from] GitError),
    /// A URL of the command line makes no sense.
    #[error("{flag} cannot be used")]
    Location {
        /// Where it was given.
        flag: &'static str,
        /// What is wrong with it.
        #[source]
        source: LocationError,
    },
    /// An archive that is the context.
    #[error("failed to unpack the build context")]
    ContextArchive(#[source] CopyError),
    /// An archive on the network.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// Somebody types the context.
    #[error("the build context is to be read from standard input, which is a terminal")]
    Terminal,
    /// Standard input cannot be two things.
    #[error("the Dockerfile and the build context cannot both be read from standard input")]
    InputTwice,
    /// An archive that is a context cannot be unpacked.
    #[error("failed to unpack the build context {location}")]
    Unpack {
        /// Where it came from, without credentials.
        location: String,
        /// Why.
        #[source]
        source: CopyError,
    },
    /// An output.
    #[error(transparent)]
    Push(#[from] PushError),
    /// An image that was to be pushed cannot be read.
    #[error(transparent)]
    PushedImage(#[from] PushedImageError),
    /// The image's files could not be written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// SIGTERM or SIGINT.
    #[error("stopped by signal {signal}: {left}")]
    Interrupted {
        /// Which.
        signal: i32,
        /// What the build leaves behind.
        left: String,
    },
    /// The build began again more often than there are numbers.
    #[error("the build does not come to an end; please report this as a defect")]
    Endless,
    /// The asynchronous runtime could not start.
    #[error("failed to start the network runtime")]
    Runtime(#[source] std::io::Error),
}

impl Hint for BuildError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Context(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::WorkDirectory(error) => {
                error.hint().or_else(|| Some("give a directory that can be written to with --work-dir".to_owned()))
            }
            Self::NoDockerfile { .. } => {
                Some("name the file with --dockerfile, and the build context with --context".to_owned())
            }
            Self::DockerfileLink { .. } => {
                Some("a Dockerfile outside the build context has to be named with --dockerfile".to_owned())
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
