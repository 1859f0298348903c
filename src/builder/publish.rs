//! Publishes an image: assembles it and writes all outputs.

use std::path::Path;

use crate::diag::{CacheMountsSummary, CacheSummary, Phase, Summary};
use crate::executor::BuiltLayer;
use crate::image::{AssembleError, Digest, Image, rfc3339};
use crate::plan::{Base, Plan};
use crate::push::{self, ExistingTags};

use super::early_uploads::EarlyUploads;
use super::error::BuildError;
use super::outputs::Outputs;
use super::request::OutputsRequest;
use super::session::Session;

/// Returns configuration and manifest of the target, as BuildKit writes them. `created` is in seconds since 1970.
pub(super) fn assemble(plan: &Plan, layers: Vec<BuiltLayer>, created: i64) -> Result<Image, AssembleError> {
    let created = rfc3339(created);
    let mut config = plan.stages[plan.target].config.clone();
    config.created = Some(created.clone());
    let inherited = base_history_length(plan, plan.target);
    for entry in config.history.iter_mut().skip(inherited) {
        entry.created = Some(created.clone());
    }
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<Digest>>();
    Image::assemble(config, layers.into_iter().map(|layer| layer.blob).collect())
}

/// Returns the number of history entries from the base image, which keep their time.
fn base_history_length(plan: &Plan, stage: usize) -> usize {
    match plan.stages[stage].base {
        Base::Scratch => 0,
        Base::Image(image) => plan.images[image].config.history.len(),
        Base::Stage(parent) => base_history_length(plan, parent),
    }
}

/// Writes every requested output, the push last, and returns the places of the image. Outputs may leave files in
/// `directory` until the build ends.
pub(super) fn publish(
    image: &Image,
    outputs: &OutputsRequest,
    uploads: Option<&EarlyUploads<'_>>,
    directory: &Path,
    session: &Session,
) -> Result<Vec<String>, BuildError> {
    let _phase = session.progress.phase(Phase::Push);
    let writer = Outputs { image, client: &session.client, store: &session.store, directory };
    let destinations = &outputs.destinations;
    let mut found_at = Vec::new();
    session.runtime.block_on(async {
        push::write_digest_files(&outputs.digest_files, &image.digest(), destinations).await?;
        for output in &outputs.outputs {
            writer.write(output, destinations).await?;
            found_at.push(output.to_string());
        }
        if let Some(EarlyUploads { uploads, .. }) = uploads {
            let tags = if outputs.ignore_immutable_tags { ExistingTags::KeepImmutable } else { ExistingTags::Replace };
            push::push(uploads, image, tags).await?;
            found_at.extend(destinations.iter().map(ToString::to_string));
        }
        let pushed = if outputs.push { destinations.as_slice() } else { &[] };
        push::write_reports(&outputs.reports, image, destinations, pushed)?;
        Ok(found_at)
    })
}

/// Returns the summary that is printed at the end.
pub(super) fn summary(
    session: &Session,
    image: &Image,
    images: Vec<String>,
    cache: Option<CacheSummary>,
    cache_mounts: Option<CacheMountsSummary>,
) -> Summary {
    let progress = &session.progress;
    Summary {
        images,
        digest: image.digest().to_string(),
        size: total_size(image),
        layers: image.blobs.len(),
        disk: progress.disk_peak(),
        cache,
        cache_mounts,
        elapsed: progress.elapsed(),
        phases: progress.phases(),
    }
}

/// Returns the size of layers, configuration and manifest in bytes.
fn total_size(image: &Image) -> u64 {
    let layers: u64 = image.blobs.iter().map(|blob| blob.descriptor.size).sum();
    layers + u64::try_from(image.config_bytes.len() + image.manifest_bytes.len()).unwrap_or(u64::MAX)
}
