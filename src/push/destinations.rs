//! Pushes an image: first all blobs to all repositories, then manifests and tags, so that no tag names missing blobs.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::error::PushError;
use super::repositories::{check_tags, repositories};
use super::uploads::{UploadMethod, Uploads};
use crate::diag::with_causes;
use crate::image::{Blob, Image, Reference};
use crate::registry::{Client, LocalBlobs};

/// The number of blobs that are handled at a time. The client limits the number of transfers.
const CONCURRENT: usize = 8;

/// The delay before a retry if a registry reported a blob and then lacks it: a concurrent upload is being completed.
const SETTLING: Duration = Duration::from_millis(200);

/// The number of bytes that a push moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PushSummary {
    /// Bytes of blobs that were uploaded.
    pub uploaded: u64,
    /// Bytes of blobs that existed in the repository.
    pub existing: u64,
    /// Bytes of blobs that the registry mounted from a different repository.
    pub mounted: u64,
}

/// The handling of tags that a registry does not let change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingTags {
    /// The push fails.
    Replace,
    /// The tag stays as it is, and the push continues.
    KeepImmutable,
}

/// Pushes `image` to all destinations of `uploads`. Blobs are uploaded once for each repository, for any number of
/// tags.
///
/// # Errors
/// A registry cannot be reached or refuses a request, a blob cannot be read or fetched, or the build was asked to stop.
/// The error lists the tags that were written; there are none unless writing a later tag failed.
pub async fn push<S: LocalBlobs + Send + 'static>(
    uploads: &Uploads<S>,
    image: &Image,
    existing: ExistingTags,
) -> Result<PushSummary, PushError> {
    let pushed = push_all(uploads, image, existing).await;
    uploads.cancel().await;
    pushed
}

async fn push_all<S: LocalBlobs + Send + 'static>(
    uploads: &Uploads<S>,
    image: &Image,
    existing: ExistingTags,
) -> Result<PushSummary, PushError> {
    let blobs = distinct_blobs(image);
    let mut summary = upload_all(uploads, &blobs).await?;
    let mut is_second = false;
    let mut written: Vec<Reference> = Vec::new();
    for destination in uploads.destinations() {
        let destination = destination.with_tag(destination.tag_or_latest());
        if written.contains(&destination) {
            continue;
        }
        let write = || uploads.client().put_manifest(&destination, &image.manifest.media_type, &image.manifest_bytes);
        let mut put = write().await;
        if let Err(error) = &put
            && error.is_missing_blob()
            && !std::mem::replace(&mut is_second, true)
        {
            tracing::debug!("the blobs are uploaded again: {}", with_causes(error));
            tokio::time::sleep(SETTLING).await;
            uploads.reset();
            summary = upload_all(uploads, &blobs).await?;
            put = write().await;
        }
        if existing == ExistingTags::KeepImmutable
            && let Err(error) = &put
            && error.is_immutable_tag()
        {
            uploads.progress().line(format_args!("WARNING: {destination} is immutable and was not changed ({error})"));
            continue;
        }
        put.map_err(|error| match error.interrupted() {
            Some(signal) => uploads.interrupted(signal, &written),
            None => PushError::Manifest {
                destination: Box::new(destination.clone()),
                written: written.clone(),
                source: Box::new(error),
            },
        })?;
        uploads.progress().line(format_args!("pushed {destination}@{}", image.digest()));
        written.push(destination);
    }
    Ok(summary)
}

/// Uploads all blobs to all repositories.
async fn upload_all<S: LocalBlobs + Send + 'static>(
    uploads: &Uploads<S>,
    blobs: &[Blob],
) -> Result<PushSummary, PushError> {
    let work = blobs.iter().map(|blob| uploads.upload(blob)).collect::<Vec<_>>();
    let brought: Vec<_> = stream::iter(work).buffer_unordered(CONCURRENT).try_collect().await?;
    let mut summary = PushSummary::default();
    for (size, placed) in brought.into_iter().flatten() {
        match placed {
            UploadMethod::Uploaded => summary.uploaded += size,
            UploadMethod::Existing => summary.existing += size,
            UploadMethod::Mounted => summary.mounted += size,
        }
    }
    Ok(summary)
}

/// Checks the permission to push to all destinations, so that a build does not fail after its steps.
///
/// # Errors
/// The permission is missing for one of them.
pub async fn check_destinations(client: &Client, destinations: &[Reference]) -> Result<(), PushError> {
    check_tags(destinations)?;
    for repository in repositories(destinations) {
        client.check_push(&repository).await.map_err(|error| PushError::Permission(Box::new(error)))?;
    }
    Ok(())
}

/// Returns the layers and the configuration, each once, without layers that registries do not store.
fn distinct_blobs(image: &Image) -> Vec<Blob> {
    let mut seen = BTreeSet::new();
    let all = image.blobs.iter().cloned().chain([image.config_blob()]);
    all.filter(|blob| !blob.descriptor.is_foreign() && seen.insert(blob.descriptor.digest.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{BlobSource, Descriptor, Digest, ImageConfig, RootFs, media_type};

    #[test]
    fn blobs_are_distinct_and_foreign_layers_are_not_pushed() {
        let layer = |kind: &str, content: &[u8]| Blob {
            descriptor: Descriptor::of(kind, content),
            source: BlobSource::Bytes(content.to_vec()),
        };
        let layers = vec![
            layer(media_type::OCI_LAYER, b"1"),
            layer(media_type::DOCKER_FOREIGN_LAYER_GZIP, b"2"),
            layer(media_type::OCI_LAYER, b"1"),
        ];
        let diff_ids = vec![Digest::sha256_of(b"d"); 3];
        let config = ImageConfig { rootfs: RootFs { diff_ids, ..RootFs::default() }, ..ImageConfig::default() };
        let image = Image::assemble(config, layers).unwrap();
        assert_eq!(distinct_blobs(&image).len(), 2);
    }
}
