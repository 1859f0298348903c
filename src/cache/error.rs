//! The errors of the layer cache.

#![expect(missing_docs, reason = "`#[error]` says it")]

use crate::diag::Hint;
use crate::image::AssembleError;
use crate::image::layout::LayoutError;
use crate::push::PushError;
use crate::registry::RegistryError;

use super::authentication::UntrustedManifest;

/// Why a cache cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayerCacheError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    #[error("failed to delete from the cache {repository}: the registry does not delete manifests")]
    NoDelete {
        repository: String,
        #[source]
        source: RegistryError,
    },
    #[error("failed to use {name} of the cache")]
    Unauthentic {
        name: String,
        #[source]
        source: UntrustedManifest,
    },
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    #[error(transparent)]
    Push(#[from] PushError),
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
                "enable deletion in the registry (CNCF distribution: storage.delete.enabled, or REGISTRY_STORAGE_DELETE_ENABLED=true), \
                 or let it expire images itself"
                    .to_owned(),
            ),
            Self::Assemble(_) | Self::Unauthentic { .. } | Self::Thread => None,
        }
    }
}
