//! Errors of Google's access tokens.

#![allow(missing_docs, reason = "`#[error]` says it")]

use std::path::PathBuf;

use super::exchange::ExchangeError;
use super::program::ProgramError;

/// A reason why there is no access token.
#[derive(Debug, thiserror::Error)]
pub enum GoogleError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] crate::fs::Error),
    /// The file does not have the expected form. Its content is not shown.
    #[error("{} is not a file of Google credentials that can be used: {problem}", path.display())]
    File { path: PathBuf, problem: String },
    /// The settings of Google's credential helper do not have the expected form.
    #[error(
        "{} is not what DOCKER_CREDENTIAL_GCR_CONFIG names: JSON whose TokenSources are any of env, gcloud and store",
        path.display()
    )]
    Settings { path: PathBuf },
    /// The program `gcloud` exists but returned no token.
    #[error("failed to run gcloud auth print-access-token")]
    Program(#[source] ProgramError),
    /// A service issued no token.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}
