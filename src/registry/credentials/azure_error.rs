//! Why there is no token of Azure's.

use std::path::PathBuf;

use super::exchange::ExchangeError;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum AzureError {
    /// A file cannot be read.
    #[error("failed to read {}, which {} names", path.display(), namer)]
    Read {
        /// The file.
        path: PathBuf,
        /// The variable, the flag or the file that says so.
        namer: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The configuration is not what a cloud provider's is. Its content is not shown.
    #[error("{} is not a configuration of Azure's cloud provider: {problem}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A cloud that is none of Azure's public ones.
    #[error(
        "{namer} names the cloud {name:?}, which is not known: expected AzurePublicCloud, AzureChinaCloud, \
         AzureUSGovernmentCloud or AzureGermanCloud"
    )]
    Cloud {
        /// The variable or the file that says so.
        namer: String,
        /// The name.
        name: String,
    },
    /// A variable or the registry's name makes no URL.
    #[error("{text:?} is no URL of Azure's")]
    Url {
        /// The text.
        text: String,
    },
    /// A service gave none.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}
