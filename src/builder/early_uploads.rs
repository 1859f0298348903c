//! Uploads the image's layers while the build is running, large ones while they are being written.

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

/// Smaller layers are uploaded when they are complete: it costs little time, and the repository may already have them.
const LARGE_LAYER: u64 = 32 << 20;

/// The early uploads of a build that pushes.
pub(super) struct EarlyUploads<'a> {
    pub(super) uploads: Uploads<BlobStore>,
    runtime: &'a Handle,
}

impl<'a> EarlyUploads<'a> {
    /// Returns `None` for a build that does not push.
    pub(super) fn new(outputs: &OutputsRequest, session: &'a Session) -> Result<Option<Self>, PushError> {
        if !outputs.push {
            return Ok(None);
        }
        let Session { client, store, progress, .. } = session;
        let uploads = Uploads::new(client, &outputs.destinations, progress, store.clone())?;
        Ok(Some(Self { uploads, runtime: session.runtime.handle() }))
    }

    /// Starts mounting the base's layers in repositories of the same registry. Most registries do that without an
    /// upload, and then the layers' files are not needed.
    pub(super) fn mount_base_layers(&self, plan: &Plan, layers: &dyn BaseLayers) {
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

    /// Cancels the uploads because the build failed. Returns the error with the uploads that remain in registries, if
    /// there are any.
    pub(super) fn cancel(&self, error: BuildError) -> BuildError {
        self.runtime.block_on(self.uploads.cancel());
        match (interrupt::requested(), &error) {
            (None, _) | (_, BuildError::Push(PushError::Interrupted { .. })) => error,
            (Some(signal), _) => {
                tracing::debug!("error after the signal: {error}");
                self.uploads.interrupted(signal, &[]).into()
            }
        }
    }
}

impl LayerObserver for EarlyUploads<'_> {
    fn writing(&self, file: &Path, growing: &Arc<GrowingFile>) {
        self.uploads.follow(self.runtime, file, growing, LARGE_LAYER);
    }

    fn ready(&self, layer: &BuiltLayer) {
        self.uploads.begin(self.runtime, &layer.blob);
    }
}
