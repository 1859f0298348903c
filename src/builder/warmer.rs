//! Fills a directory with base images for later builds (`warmer`).

use std::path::PathBuf;
use std::time::Duration;

use crate::cache::{WarmError, WarmImages, Warmed};
use crate::diag::progress::Progress;
use crate::diag::{Hint, with_hint};
use crate::image::{Platform, Reference};
use crate::lint::stages::{Base, Stages};
use crate::plan::ImageRequest;
use crate::registry::{Client, ClientConfig, RegistryError};

use super::dockerfile;
use super::error::BuildError;
use super::question::read;
use super::request::BuildRequest;
use super::session::{Session, connect};

/// The images for a directory of warm images.
#[derive(Debug, Clone)]
pub struct WarmRequest {
    /// `--image`.
    pub images: Vec<Reference>,
    /// `--dockerfile` with its arguments: the base images of all of its stages.
    pub dockerfile: Option<Box<BuildRequest>>,
    /// `--cache-dir`.
    pub directory: PathBuf,
    /// `--cache-ttl`.
    pub lifetime: Duration,
    /// `--force`: fetch existing images again.
    pub force: bool,
    /// `--customPlatform`.
    pub platform: Platform,
    /// The access to registries.
    pub registries: ClientConfig,
}

/// The result of warming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WarmSummary {
    /// The number of requested images that the directory has.
    pub present: usize,
    /// The number of images that could not be fetched. Each has been reported.
    pub failed: usize,
}

/// Why an image cannot be warmed.
#[derive(Debug, thiserror::Error)]
enum ImageFailure {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Warm(#[from] WarmError),
}

impl Hint for ImageFailure {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Warm(error) => error.hint(),
        }
    }
}

/// Fetches every image that the directory does not have. Failures are reported, and the other images are still fetched.
///
/// # Errors
/// The Dockerfile cannot be read, or the network cannot be used at all.
pub fn warm(request: &WarmRequest, progress: &Progress) -> Result<WarmSummary, BuildError> {
    let mut requests: Vec<ImageRequest> = Vec::new();
    let named = request.images.iter().cloned();
    let named = named.map(|reference| ImageRequest { reference, platform: request.platform.clone() });
    let bases = match &request.dockerfile {
        Some(build) => base_images(build, progress)?,
        None => Vec::new(),
    };
    for image in named.chain(bases) {
        if !requests.contains(&image) {
            requests.push(image);
        }
    }
    let (runtime, client) = connect(&request.registries, progress)?;
    let directory = WarmImages::new(&request.directory, request.lifetime);
    let mut summary = WarmSummary::default();
    for image in &requests {
        match runtime.block_on(warm_image(&client, &directory, image, request.force, progress)) {
            Ok(()) => summary.present += 1,
            Err(error) => {
                progress.line(format_args!("Error while warming {}: {}", image.reference, with_hint(&error)));
                summary.failed += 1;
            }
        }
    }
    Ok(summary)
}

async fn warm_image(
    client: &Client,
    directory: &WarmImages,
    requests: &ImageRequest,
    force: bool,
    progress: &Progress,
) -> Result<(), ImageFailure> {
    let reference = &requests.reference;
    progress.line(format_args!("Retrieving image {reference} from registry {}", reference.registry));
    let image = client.resolve(reference, &requests.platform).await?;
    match directory.warm(client, &image, force).await? {
        Warmed::Unchanged => progress.line(format_args!("Image already in cache: {reference}")),
        Warmed::Fetched => progress.line(format_args!("Image written to cache: {reference} as {}", image.digest)),
    }
    Ok(())
}

/// Returns the base images of all stages, including those that a build would not need.
fn base_images(build: &BuildRequest, progress: &Progress) -> Result<Vec<ImageRequest>, BuildError> {
    let mut session = None;
    let read = read(build, progress, &mut session);
    drop(session.map(Session::close));
    let (_context, source) = read?;
    let options = dockerfile::options(build);
    let file = dockerfile::parse(source, &options).map_err(BuildError::Dockerfile)?;
    let stages = Stages::new(&file, &options);
    let images = stages.heads.iter().filter_map(|head| match &head.base {
        Base::Image(image) => Some((**image).clone()),
        Base::Scratch | Base::Stage(_) | Base::Unknown => None,
    });
    Ok(images.collect())
}
