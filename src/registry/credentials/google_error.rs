//! Why there is no access token of Google's.

use std::path::PathBuf;

use super::exchange::ExchangeError;
use super::program::ProgramError;

/// Why there is no access token.
#[derive(Debug, thiserror::Error)]
pub enum GoogleError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] crate::fs::Error),
    /// A file is not what it should be. Its content is not shown.
    #[error("{} is not a file of Google credentials that can be used: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The settings of Google's credential helper are not what they should be.
    #[error(
        "{} is not what DOCKER_CREDENTIAL_GCR_CONFIG names: JSON whose TokenSources are any of env, gcloud and store",
        path.display()
    )]
    Settings {
        /// The file.
        path: PathBuf,
    },
    /// The program `gcloud` is there and gave none.
    #[error("failed to run gcloud auth print-access-token")]
    Program(#[source] ProgramError),
    /// A service gave none.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}
