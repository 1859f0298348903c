//! The plan's images and the executor's base layers, out of registries and layouts.

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

/// How many blobs are fetched at once.
const PARALLEL_FETCHES: usize = 4;

/// Registries, as the synchronous core sees them.
#[derive(Clone)]
pub(super) struct Registry {
    runtime: Handle,
    client: Client,
    warm: Option<WarmImages>,
    bases: Option<KnownBases>,
}

impl Registry {
    /// Images that `warm` has and that are asked for by their digests cost no request; of others no configuration is fetched
    /// that is among `bases`.
    pub(super) fn new(runtime: Handle, client: Client, warm: Option<WarmImages>, bases: Option<KnownBases>) -> Self {
        Self { runtime, client, warm, bases }
    }
}

/// The image from a registry; its configuration is not fetched if it is among `bases`.
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

/// The image from the directory of warm ones, if it is asked for by the digest that it has there.
fn warm_image(warm: &WarmImages, request: &ImageRequest) -> Option<BaseImage> {
    let layout = warm.layout(request.reference.digest.as_ref()?)?;
    let image = layouts::resolve(&request.reference, &layout, &request.platform);
    image.inspect_err(|error| tracing::warn!("{} is not used: {}", layout.display(), with_causes(error))).ok()
}

/// The base images' layers, out of registries and into a store.
pub(super) struct Layers {
    registry: Registry,
    store: BlobStore,
}

impl Layers {
    pub(super) fn new(registry: Registry, store: BlobStore) -> Self {
        Self { registry, store }
    }

    /// Starts fetching every layer that the build is going to unpack, in the order in which it will ask for them. A fetch
    /// that fails here is tried again, and reported, when its layer is asked for.
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
                        tracing::debug!("prefetch {} of {reference}: {error}", descriptor.digest);
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
        // The readers see how it ends.
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

/// Asks for each image once, however many ask for it.
pub(super) struct Remembering<'a> {
    images: &'a mut dyn Images,
    answers: Answers,
}

impl<'a> Remembering<'a> {
    pub(super) fn new(images: &'a mut dyn Images) -> Self {
        Self { images, answers: Answers(Vec::new()) }
    }

    /// What has been asked for, and nothing else.
    pub(super) fn answers(self) -> Answers {
        self.answers
    }
}

impl Images for Remembering<'_> {
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        let new: Vec<ImageRequest> =
            requests.iter().filter(|request| self.answers.of(request).is_none()).cloned().collect();
        let fresh = if new.is_empty() { Vec::new() } else { self.images.resolve(&new) };
        let mut errors: Vec<(ImageRequest, ImageError)> = Vec::new();
        for (request, answer) in new.into_iter().zip(fresh) {
            let kept = answer.map_err(|error| {
                let again = Again { message: with_causes(&error), hint: error.hint() };
                errors.push((request.clone(), error));
                again
            });
            self.answers.0.push((request, kept));
        }
        requests
            .iter()
            .map(|request| match errors.iter().position(|(failed, _)| failed == request) {
                Some(position) => Err(errors.swap_remove(position).1),
                None => self.answers.give(request),
            })
            .collect()
    }
}

/// Answers that are there already. Errors are text: the first request got the error itself.
pub(super) struct Answers(Vec<(ImageRequest, Result<BaseImage, Again>)>);

/// An error that was reported before.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
struct Again {
    message: String,
    hint: Option<String>,
}

impl Hint for Again {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl Answers {
    fn of(&self, request: &ImageRequest) -> Option<&Result<BaseImage, Again>> {
        self.0.iter().find(|(known, _)| known == request).map(|(_, answer)| answer)
    }

    fn give(&self, request: &ImageRequest) -> Result<BaseImage, ImageError> {
        match self.of(request) {
            Some(Ok(image)) => Ok(image.clone()),
            Some(Err(error)) => Err(error.clone().into()),
            None => Err(format!("nobody asked for {}", request.reference).into()),
        }
    }
}

impl Images for Answers {
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        requests.iter().map(|request| self.give(request)).collect()
    }
}
