//! Errors of Azure's tokens.

#![allow(missing_docs, reason = "`#[error]` says it")]

use std::path::PathBuf;

use super::exchange::ExchangeError;

/// A reason why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum AzureError {
    /// A file cannot be read.
    #[error("failed to read {}, which {} names", path.display(), namer)]
    Read {
        path: PathBuf,
        /// The variable, flag or file that names it.
        namer: String,
        #[source]
        source: std::io::Error,
    },
    /// The file is not a cloud provider's configuration. Its content is not shown.
    #[error("{} is not a configuration of Azure's cloud provider: {problem}", path.display())]
    Configuration { path: PathBuf, problem: String },
    /// The cloud is not one of Azure's public ones.
    #[error(
        "{namer} names the unknown cloud {name:?}: expected AzurePublicCloud, AzureChinaCloud, \
         AzureUSGovernmentCloud or AzureGermanCloud"
    )]
    Cloud {
        /// The variable or file that names it.
        namer: String,
        name: String,
    },
    /// A variable or the registry's name does not give a URL.
    #[error("{text:?} is not the address of an Azure service")]
    Url { text: String },
    /// A service issued no token.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}
