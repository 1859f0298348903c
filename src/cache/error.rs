//! Errors of the layer cache.

use crate::diag::Hint;
use crate::image::AssembleError;
use crate::image::layout::LayoutError;
use crate::push::PushError;
use crate::registry::RegistryError;

use super::authentication::Unauthentic;

/// Why a cache cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayerCacheError {
    /// A registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    /// The registry keeps what it has.
    #[error("failed to delete from the cache {repository}: the registry does not delete manifests")]
    NoDelete {
        /// The repository.
        repository: String,
        /// What it said.
        #[source]
        source: RegistryError,
    },
    /// Something was written without the cache's secret.
    #[error("failed to use {name} of the cache")]
    Unauthentic {
        /// What it is called there.
        name: String,
        /// Why it is not believed.
        #[source]
        source: Unauthentic,
    },
    /// An image cannot be written as JSON.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// An image cannot be written to the repository.
    #[error(transparent)]
    Push(#[from] PushError),
    /// A thread that worked on the cache ended early.
    #[error("failed to change the cache: the thread ended early")]
    Thread,
}

impl Hint for LayerCacheError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Push(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Layout(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::NoDelete { .. } => Some(
                "let the registry delete (for CNCF's distribution: storage.delete.enabled, or REGISTRY_STORAGE_DELETE_ENABLED=true), \
                 or let it expire images itself"
                    .to_owned(),
            ),
            Self::Assemble(_) | Self::Unauthentic { .. } | Self::Thread => None,
        }
    }
}
