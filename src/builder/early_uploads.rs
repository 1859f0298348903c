//! The image's layers on their way to its repositories while the build goes on, large ones while they are being written.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::cache::BlobStore;
use crate::diag::interrupt;
use crate::executor::{BaseLayers, BuiltLayer, LayerObserver};
use crate::fs::GrowingFile;
use crate::image::Blob;
use crate::plan::{Base, Plan};
use crate::push::{PushError, Uploads};

use super::error::BuildError;
use super::request::OutputsRequest;
use super::session::Session;

/// Bytes of a layer that is not waited for: smaller ones take no time worth saving, and may be in the repository already.
const LARGE_LAYER: u64 = 32 << 20;

/// The uploads of a build that pushes.
pub(super) struct EarlyUploads<'a> {
    pub(super) uploads: Uploads<BlobStore>,
    runtime: &'a Handle,
}

impl<'a> EarlyUploads<'a> {
    /// None for a build that does not push.
    pub(super) fn new(outputs: &OutputsRequest, session: &'a Session) -> Result<Option<Self>, PushError> {
        if !outputs.push {
            return Ok(None);
        }
        let Session { client, store, progress, .. } = session;
        let uploads = Uploads::new(client, &outputs.destinations, progress, store.clone())?;
        Ok(Some(Self { uploads, runtime: session.runtime.handle() }))
    }

    /// Begins to bring the layers of the base to repositories of the registry that it comes from: most registries take them over
    /// without a byte being sent, and nobody has to keep their files then.
    pub(super) fn take_over(&self, plan: &Plan, layers: &dyn BaseLayers) {
        let Some(image) = plan.image_stages().find_map(|stage| match plan.stages[stage].base {
            Base::Image(image) => Some(&plan.images[image]),
            _ => None,
        }) else {
            return;
        };
        if !self.uploads.are_all_in(&image.reference) {
            return;
        }
        for (number, layer) in image.layers.iter().enumerate() {
            let blob = Blob { descriptor: layer.descriptor.clone(), source: layers.source(image, number) };
            self.uploads.begin(self.runtime, &blob);
        }
    }

    /// Ends what is under way because the build failed, and gives the error that says what is left in registries.
    pub(super) fn give_up(&self, error: BuildError) -> BuildError {
        self.runtime.block_on(self.uploads.give_up());
        match (interrupt::requested(), &error) {
            (None, _) | (_, BuildError::Push(PushError::Interrupted { .. })) => error,
            (Some(signal), _) => {
                tracing::debug!("what the signal ended: {error}");
                self.uploads.interrupted(signal, &[]).into()
            }
        }
    }
}

impl LayerObserver for EarlyUploads<'_> {
    fn coming(&self, file: &Path, growing: &Arc<GrowingFile>) {
        self.uploads.follow(self.runtime, file, growing, LARGE_LAYER);
    }

    fn ready(&self, layer: &BuiltLayer) {
        self.uploads.begin(self.runtime, &layer.blob);
    }
}
