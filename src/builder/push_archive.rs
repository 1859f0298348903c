//! Pushes an image from an archive or a layout (`crabwright push`).

use std::io::{self, Read as _};
use std::path::Path;

use crate::diag::progress::Progress;
use crate::diag::{Phase, Summary};
use crate::fs::gated;
use crate::image::docker_archive_reader::{ArchivedLayer, read_docker_archive};
use crate::image::layout::LayoutReader;
use crate::image::{Blob, BlobSource, Descriptor, Digest, HashingWriter, Image, ImageConfig, Manifest, media_type};
use crate::layer::{self, LayerError, LayerOptions, VerifyingReader};
use crate::push;

use super::early_uploads::EarlyUploads;
use super::error::BuildError;
use super::error::pushed_image::PushedImageError;
use super::publish::{publish, summary};
use super::request::PushRequest;
use super::session::{Session, interrupted};

/// Pushes the image of the request under its names.
///
/// # Errors
/// The image cannot be read, or a registry cannot be reached or refuses it. The error lists the tags that were written.
pub fn push_image(request: &PushRequest, progress: &Progress) -> Result<Summary, BuildError> {
    let work_dir = &request.work_dir;
    let session =
        Session::open(work_dir, &request.registries, progress).map_err(|error| interrupted(error, work_dir, None))?;
    let result = push_in(request, &session);
    let remaining = session.close();
    result.map_err(|error| interrupted(error, work_dir, remaining.as_deref()))
}

fn push_in(request: &PushRequest, session: &Session) -> Result<Summary, BuildError> {
    let outputs = &request.outputs;
    if outputs.check_push {
        session.runtime.block_on(push::check_destinations(&session.client, &outputs.destinations))?;
    }
    let image = {
        let _phase = session.progress.phase(Phase::Layer);
        image_at(&request.image, session.directory())?
    };
    let uploads = EarlyUploads::new(outputs, session)?;
    let images = publish(&image, outputs, uploads.as_ref(), session.directory(), session)?;
    Ok(summary(session, &image, images, None, None))
}

/// Reads the image at a path: an archive if it is a file, a layout if it is a directory.
fn image_at(path: &Path, directory: &Path) -> Result<Image, PushedImageError> {
    let found = gated::metadata(path).map_err(|source| PushedImageError::Missing { path: path.to_owned(), source })?;
    if found.is_dir() { from_layout(path) } else { from_archive(path, directory) }
}

fn from_archive(path: &Path, directory: &Path) -> Result<Image, PushedImageError> {
    let saved = read_docker_archive(path)?;
    let mut blobs = Vec::new();
    for (number, (layer, diff_id)) in saved.layers.iter().zip(&saved.config.rootfs.diff_ids).enumerate() {
        let spool = directory.join(format!("layer-{number}"));
        let descriptor = compressed(layer, diff_id, &spool).map_err(|source| PushedImageError::Layer {
            path: path.to_owned(),
            member: layer.member.clone(),
            source,
        })?;
        blobs.push(Blob { descriptor, source: BlobSource::File(spool) });
    }
    let config = Descriptor::of(media_type::OCI_CONFIG, &saved.config_bytes);
    let layers = blobs.iter().map(|blob| blob.descriptor.clone()).collect();
    let manifest = Manifest::oci(config, layers);
    Ok(Image::with_manifest(saved.config, saved.config_bytes, manifest, blobs)?)
}

/// Writes the layer's blob to `spool`: unchanged if it is compressed, compressed otherwise. The content is verified
/// against the configuration.
fn compressed(layer: &ArchivedLayer, diff_id: &Digest, spool: &Path) -> Result<Descriptor, LayerError> {
    let mut start = Vec::new();
    let unreadable = |source| LayerError::Read { media_type: media_type::OCI_LAYER.to_owned(), source };
    layer.open().take(layer::START_BYTES as u64).read_to_end(&mut start).map_err(unreadable)?;
    let kind = layer::media_type_of(&start);
    let mut tar = VerifyingReader::new(layer::reader(layer.open(), kind)?, diff_id);
    if kind == media_type::OCI_LAYER {
        return layer::compress(tar, spool, &LayerOptions::default());
    }
    io::copy(&mut tar, &mut io::sink()).map_err(unreadable)?;
    let failed = |source| crate::fs::Error::new("write layer to", spool, source);
    let mut blob = HashingWriter::new(gated::create(spool).map_err(failed)?);
    io::copy(&mut layer.open(), &mut blob).map_err(failed)?;
    let (_, digest, size) = blob.finish();
    Ok(Descriptor::new(kind, digest, size))
}

fn from_layout(path: &Path) -> Result<Image, PushedImageError> {
    let unreadable = |source| PushedImageError::Layout { path: path.to_owned(), source };
    let expected_one = |found: String| PushedImageError::ExpectedOneImage { path: path.to_owned(), found };
    let reader = LayoutReader::open(path).map_err(unreadable)?;
    let mut descriptors = reader.index().map_err(unreadable)?.manifests;
    // One image may have several names.
    descriptors.sort_by(|one, other| one.digest.hex().cmp(other.digest.hex()));
    descriptors.dedup_by(|one, other| one.digest == other.digest);
    let descriptor = match (descriptors.pop(), descriptors.len()) {
        (Some(descriptor), 0) if media_type::is_manifest(&descriptor.media_type) => descriptor,
        (Some(descriptor), 0) => return Err(expected_one(format!("no image but a {}", descriptor.media_type))),
        (None, _) => return Err(expected_one("no image".to_owned())),
        (Some(_), others) => return Err(expected_one(format!("{} images", others + 1))),
    };
    let json = |digest: &Digest| {
        let digest = digest.clone();
        move |source| PushedImageError::Json { path: path.to_owned(), digest, source }
    };
    let manifest_bytes = reader.read_document(&descriptor).map_err(unreadable)?;
    let manifest: Manifest = serde_json::from_slice(&manifest_bytes).map_err(json(&descriptor.digest))?;
    let config_bytes = reader.read_document(&manifest.config).map_err(unreadable)?;
    let config: ImageConfig = serde_json::from_slice(&config_bytes).map_err(json(&manifest.config.digest))?;
    let mut blobs = Vec::new();
    for layer in &manifest.layers {
        let file = if layer.is_foreign() {
            reader.blob_path(&layer.digest)
        } else {
            reader.verified_blob(layer).map_err(unreadable)?
        };
        blobs.push(Blob { descriptor: layer.clone(), source: BlobSource::File(file) });
    }
    Ok(Image { config, config_bytes, manifest, manifest_bytes, blobs })
}
