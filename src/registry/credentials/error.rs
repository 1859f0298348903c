//! Errors of credentials.

#![allow(missing_docs, reason = "`#[error]` says it")]

use std::path::PathBuf;

use super::amazon::AmazonError;
use super::azure_error::AzureError;
use super::google_error::GoogleError;
use super::program::ProgramError;
use crate::diag::Hint;

/// A reason why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    /// The file is not JSON of the expected shape. Only the position is shown, not the content.
    #[error("{} is not a Docker config: malformed at line {line}, column {column}", path.display())]
    Malformed {
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// An entry's `auth` is not `base64(user:password)`.
    #[error("the entry {key:?} in {}: \"auth\" is not base64 of user:password", path.display())]
    Auth {
        path: PathBuf,
        /// The key below `auths`.
        key: String,
    },
    /// No variable gives a path for the config.
    #[error("there is no path for a Docker config: set DOCKER_CONFIG to a directory")]
    NoPlace,
    /// A credential helper failed.
    #[error("failed to ask docker-credential-{name}, which {file} names, for {registry}")]
    Program {
        /// Its name without `docker-credential-`.
        name: String,
        /// The file that names it.
        file: String,
        registry: String,
        #[source]
        source: ProgramError,
    },
    /// Google issued no token.
    #[error("failed to get a token from Google for {registry}")]
    Google {
        registry: String,
        #[source]
        source: GoogleError,
    },
    /// Amazon issued no token.
    #[error("failed to get a token from Amazon for {registry}")]
    Amazon {
        registry: String,
        #[source]
        source: AmazonError,
    },
    /// The configuration of Azure's identity cannot be used.
    #[error("failed to use --azure-container-registry-config")]
    AzureConfiguration(#[source] AzureError),
    /// Azure issued no token.
    #[error("failed to get a token from Azure for {registry}")]
    Azure {
        registry: String,
        #[source]
        source: AzureError,
    },
}

impl Hint for CredentialsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Malformed { .. }
            | Self::Auth { .. }
            | Self::NoPlace
            | Self::Program { .. }
            | Self::Google { .. }
            | Self::Amazon { .. }
            | Self::AzureConfiguration(_)
            | Self::Azure { .. } => None,
        }
    }
}
