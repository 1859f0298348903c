//! Why credentials cannot be used.

use std::path::PathBuf;

use super::amazon::AmazonError;
use super::azure_error::AzureError;
use super::google_error::GoogleError;
use super::program::ProgramError;
use crate::diag::Hint;

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    /// The file is not JSON of the right shape. The position is told, the content is not.
    #[error("{} is not a Docker config: malformed at line {line}, column {column}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// An entry's `auth` is not `base64(user:password)`.
    #[error("the entry {key:?} in {}: \"auth\" is not base64 of user:password", path.display())]
    Auth {
        /// The file.
        path: PathBuf,
        /// The key below `auths`.
        key: String,
    },
    /// Nothing says where a config is to be.
    #[error("there is no place for a Docker config: set DOCKER_CONFIG to a directory")]
    NoPlace,
    /// A credential helper.
    #[error("failed to ask docker-credential-{name}, which {file} names, for {registry}")]
    Program {
        /// What follows `docker-credential-` in its name.
        name: String,
        /// The file that names it.
        file: String,
        /// The registry.
        registry: String,
        /// The cause.
        #[source]
        source: ProgramError,
    },
    /// Google.
    #[error("failed to get a token from Google for {registry}")]
    Google {
        /// The registry.
        registry: String,
        /// The cause.
        #[source]
        source: GoogleError,
    },
    /// Amazon.
    #[error("failed to get a token from Amazon for {registry}")]
    Amazon {
        /// The registry.
        registry: String,
        /// The cause.
        #[source]
        source: AmazonError,
    },
    /// The configuration that says who asks Azure.
    #[error("failed to use --azure-container-registry-config")]
    AzureConfiguration(#[source] AzureError),
    /// Azure.
    #[error("failed to get a token from Azure for {registry}")]
    Azure {
        /// The registry.
        registry: String,
        /// The cause.
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
