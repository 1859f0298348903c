//! Resolves the plan's images and supplies their layers, from registries and layouts.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use crate::cache::{BlobStore, WarmImages};
use crate::diag::{Hint, with_causes};
use crate::executor::{BaseLayers, Resolution};
use crate::fs::GrowingFile;
use crate::image::{BaseImage, BlobSource};
use crate::plan::{ImageError, ImageRequest, Images, Plan};
use crate::registry::{Client, RegistryError};

use super::known_bases::KnownBases;
use super::layouts;

/// The number of blobs that are fetched at a time.
const PARALLEL_FETCHES: usize = 4;

/// Registries with a synchronous interface.
#[derive(Clone)]
pub(super) struct Registry {
    runtime: Handle,
    client: Client,
    warm: Option<WarmImages>,
    bases: Option<KnownBases>,
}

impl Registry {
    /// Images by digest that `warm` has need no request. Configurations that `bases` has are not fetched.
    pub(super) fn new(runtime: Handle, client: Client, warm: Option<WarmImages>, bases: Option<KnownBases>) -> Self {
        Self { runtime, client, warm, bases }
    }
}

/// Returns the image from a registry. Its configuration is not fetched if `bases` has it.
async fn remote_image(
    client: &Client,
    request: &ImageRequest,
    bases: Option<KnownBases>,
) -> Result<BaseImage, RegistryError> {
    let Some(bases) = bases else { return client.resolve(&request.reference, &request.platform).await };
    let known = move |digest| -> BoxFuture<'static, Option<Vec<u8>>> {
        let bases = bases.clone();
        Box::pin(async move { bases.configuration(&digest).await })
    };
    client.resolve_with(&request.reference, &request.platform, &known).await
}

/// Returns the image from the directory of warm images, if it is requested by a digest that the directory has.
fn warm_image(warm: &WarmImages, request: &ImageRequest) -> Option<BaseImage> {
    let layout = warm.layout(request.reference.digest.as_ref()?)?;
    let image = layouts::resolve(&request.reference, &layout, &request.platform);
    image.inspect_err(|error| tracing::warn!("{}: not used: {}", layout.display(), with_causes(error))).ok()
}

/// The base images' layers, fetched from registries into a store.
pub(super) struct Layers {
    registry: Registry,
    store: BlobStore,
}

impl Layers {
    pub(super) fn new(registry: Registry, store: BlobStore) -> Self {
        Self { registry, store }
    }

    /// Starts to fetch every layer that the build unpacks, in the order of use. A failed fetch is repeated, and
    /// reported, when the layer is used.
    pub(super) fn prefetch(&self, plan: &Plan, resolution: &Resolution) {
        let permits = Arc::new(tokio::sync::Semaphore::new(PARALLEL_FETCHES));
        self.store.set_retention(&resolution.retention);
        let mut images: Vec<usize> = Vec::new();
        for &image in &resolution.unpacked {
            if images.contains(&image) || plan.images[image].reference.layout_directory().is_some() {
                continue;
            }
            images.push(image);
            let image = &plan.images[image];
            for layer in &image.layers {
                let (client, store) = (self.registry.client.clone(), self.store.clone());
                let (reference, descriptor) = (image.reference.clone(), layer.descriptor.clone());
                let permits = Arc::clone(&permits);
                let growing = store.growing_file(&descriptor.digest);
                self.registry.runtime.spawn(async move {
                    let Ok(_permit) = permits.acquire().await else { return };
                    if let Err(error) = store.fetch_growing(&client, &reference, &descriptor, &growing).await {
                        tracing::debug!("layer {} of {reference}: prefetch failed: {error}", descriptor.digest);
                    }
                });
            }
        }
    }
}

impl Images for Registry {
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        if let Some(bases) = &self.bases
            && requests.iter().any(|request| request.reference.layout_directory().is_none())
        {
            bases.begin(&self.runtime);
        }
        let fetches: Vec<_> = requests
            .iter()
            .map(|request| {
                let (client, request, warm) = (self.client.clone(), request.clone(), self.warm.clone());
                let bases = self.bases.clone();
                self.runtime.spawn(async move {
                    if let Some(image) = warm.and_then(|warm| warm_image(&warm, &request)) {
                        return Ok(image);
                    }
                    match request.reference.layout_directory() {
                        Some(directory) => {
                            layouts::resolve(&request.reference, directory, &request.platform).map_err(ImageError::from)
                        }
                        None => remote_image(&client, &request, bases).await.map_err(ImageError::from),
                    }
                })
            })
            .collect();
        fetches
            .into_iter()
            .map(|fetch| match self.runtime.block_on(fetch) {
                Ok(answer) => answer,
                Err(panicked) => Err(std::io::Error::from(panicked).into()),
            })
            .collect()
    }
}

impl BaseLayers for Layers {
    fn file(&self, image: &BaseImage, index: usize) -> Result<PathBuf, ImageError> {
        let descriptor = &image.layers[index].descriptor;
        if let Some(directory) = image.reference.layout_directory() {
            return layouts::layer(directory, descriptor).map_err(ImageError::from);
        }
        let Registry { runtime, client, .. } = &self.registry;
        runtime.block_on(self.store.ensure(client, &image.reference, descriptor)).map_err(ImageError::from)
    }

    fn growing(&self, image: &BaseImage, index: usize) -> Result<Arc<GrowingFile>, ImageError> {
        let descriptor = &image.layers[index].descriptor;
        if image.reference.layout_directory().is_some() {
            let file = crate::fs::open(&self.file(image, index)?)?;
            return Ok(Arc::new(GrowingFile::of_file(file, descriptor.size)));
        }
        let growing = self.store.growing_file(&descriptor.digest);
        let (client, store) = (self.registry.client.clone(), self.store.clone());
        let (reference, descriptor, written) = (image.reference.clone(), descriptor.clone(), Arc::clone(&growing));
        // The readers of the growing file get the error.
        self.registry
            .runtime
            .spawn(async move { store.fetch_growing(&client, &reference, &descriptor, &written).await });
        Ok(growing)
    }

    fn source(&self, image: &BaseImage, index: usize) -> BlobSource {
        match image.reference.layout_directory() {
            Some(directory) => BlobSource::File(layouts::layer_path(directory, &image.layers[index].descriptor.digest)),
            None => BlobSource::Registry(image.reference.clone()),
        }
    }
}

/// Resolves each image once, however often it is requested.
pub(super) struct ImageMemo<'a> {
    images: &'a mut dyn Images,
    resolved: ResolvedImages,
}

impl<'a> ImageMemo<'a> {
    pub(super) fn new(images: &'a mut dyn Images) -> Self {
        Self { images, resolved: ResolvedImages(Vec::new()) }
    }

    /// Returns the images that have been resolved.
    pub(super) fn resolved(self) -> ResolvedImages {
        self.resolved
    }
}

impl Images for ImageMemo<'_> {
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        let new: Vec<ImageRequest> =
            requests.iter().filter(|request| self.resolved.of(request).is_none()).cloned().collect();
        let fresh = if new.is_empty() { Vec::new() } else { self.images.resolve(&new) };
        let mut errors: Vec<(ImageRequest, ImageError)> = Vec::new();
        for (request, answer) in new.into_iter().zip(fresh) {
            let kept = answer.map_err(|error| {
                let repeated = RepeatedError { message: with_causes(&error), hint: error.hint() };
                errors.push((request.clone(), error));
                repeated
            });
            self.resolved.0.push((request, kept));
        }
        requests
            .iter()
            .map(|request| match errors.iter().position(|(failed, _)| failed == request) {
                Some(position) => Err(errors.swap_remove(position).1),
                None => self.resolved.get(request),
            })
            .collect()
    }
}

/// Images that have been resolved. Errors are text: the first request got the error itself.
pub(super) struct ResolvedImages(Vec<(ImageRequest, Result<BaseImage, RepeatedError>)>);

/// An error that was reported before.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
struct RepeatedError {
    message: String,
    hint: Option<String>,
}

impl Hint for RepeatedError {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl ResolvedImages {
    fn of(&self, request: &ImageRequest) -> Option<&Result<BaseImage, RepeatedError>> {
        self.0.iter().find(|(known, _)| known == request).map(|(_, answer)| answer)
    }

    fn get(&self, request: &ImageRequest) -> Result<BaseImage, ImageError> {
        match self.of(request) {
            Some(Ok(image)) => Ok(image.clone()),
            Some(Err(error)) => Err(error.clone().into()),
            None => Err(format!("{} has not been resolved", request.reference).into()),
        }
    }
}

impl Images for ResolvedImages {
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        requests.iter().map(|request| self.get(request)).collect()
    }
}
