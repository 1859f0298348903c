//! Resolves base images in local OCI layouts.

use std::path::{Path, PathBuf};

use crate::diag::Hint;
use crate::image::layout::{LayoutError, LayoutReader};
use crate::image::{
    BaseImage, Descriptor, Digest, ImageConfig, Index, LayerDescriptor, Manifest, Platform, Reference, media_type,
};

/// The greatest depth of indexes in indexes.
const MAX_INDEX_DEPTH: usize = 4;
/// The name of the image that is used if a reference without a tag matches several.
const DEFAULT_NAME: &str = "latest";

/// Why a layout does not have the requested image.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayoutImageError {
    /// The layout cannot be read.
    #[error("failed to read {reference}")]
    Layout {
        /// The image.
        reference: Reference,
        /// Why.
        #[source]
        source: LayoutError,
    },
    /// The layout has no image of that name, digest or platform.
    #[error("{reference}: {problem}")]
    Missing {
        /// The image.
        reference: Reference,
        /// The missing part.
        problem: String,
    },
    /// A document is not the expected JSON.
    #[error("failed to read {digest} of {reference} as JSON")]
    Json {
        /// The image.
        reference: Reference,
        /// The document.
        digest: Digest,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Hint for LayoutImageError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Layout { source, .. } => source.hint(),
            Self::Missing { .. } | Self::Json { .. } => None,
        }
    }
}

/// Reads manifest and configuration of the image that `reference` names in the layout at `directory`.
pub(super) fn resolve(
    reference: &Reference,
    directory: &Path,
    platform: &Platform,
) -> Result<BaseImage, LayoutImageError> {
    let unreadable = |source| LayoutImageError::Layout { reference: reference.clone(), source };
    let missing = |problem: String| LayoutImageError::Missing { reference: reference.clone(), problem };
    let reader = LayoutReader::open(directory).map_err(unreadable)?;
    let mut descriptor = named(&reader.index().map_err(unreadable)?, reference).map_err(missing)?;
    for _ in 0..MAX_INDEX_DEPTH {
        let bytes = reader.read_document(&descriptor).map_err(unreadable)?;
        if media_type::is_index(&descriptor.media_type) {
            let index: Index = parse(&bytes, reference, &descriptor)?;
            descriptor = for_platform(&index, platform).map_err(missing)?;
            continue;
        }
        let manifest: Manifest = parse(&bytes, reference, &descriptor)?;
        let config_bytes = reader.read_document(&manifest.config).map_err(unreadable)?;
        let config: ImageConfig = parse(&config_bytes, reference, &manifest.config)?;
        if manifest.layers.len() != config.rootfs.diff_ids.len() {
            return Err(missing("is not an image: manifest and config differ in their layers".to_owned()));
        }
        let pairs = manifest.layers.iter().zip(&config.rootfs.diff_ids);
        let layers = pairs
            .map(|(descriptor, diff_id)| LayerDescriptor { descriptor: descriptor.clone(), diff_id: diff_id.clone() })
            .collect();
        let digest = descriptor.digest;
        return Ok(BaseImage { reference: reference.clone(), digest, manifest, config, config_bytes, layers });
    }
    Err(missing(format!("indexes are nested more than {MAX_INDEX_DEPTH} deep")))
}

/// Returns the verified file of a layer.
pub(super) fn layer(directory: &Path, descriptor: &Descriptor) -> Result<PathBuf, LayoutError> {
    LayoutReader::open(directory)?.verified_blob(descriptor)
}

/// Returns the path of a layer's file.
pub(super) fn layer_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs").join(digest.algorithm()).join(digest.hex())
}

fn parse<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    reference: &Reference,
    descriptor: &Descriptor,
) -> Result<T, LayoutImageError> {
    serde_json::from_slice(bytes).map_err(|source| LayoutImageError::Json {
        reference: reference.clone(),
        digest: descriptor.digest.clone(),
        source,
    })
}

/// Returns the image by its digest or name; without either, the only one, or the one called `latest`.
fn named(index: &Index, reference: &Reference) -> Result<Descriptor, String> {
    let manifests = &index.manifests;
    if let Some(digest) = &reference.digest {
        let found = manifests.iter().find(|descriptor| descriptor.digest == *digest);
        return found.cloned().ok_or_else(|| "the layout has no such digest".to_owned());
    }
    if let (None, [only]) = (&reference.tag, manifests.as_slice()) {
        return Ok(only.clone());
    }
    let name = reference.tag.as_deref().unwrap_or(DEFAULT_NAME);
    let is_named = |descriptor: &&Descriptor| {
        descriptor.annotations.get(crate::image::layout::REF_NAME).map(String::as_str) == Some(name)
    };
    manifests.iter().find(is_named).cloned().ok_or_else(|| format!("the layout has no image called {name:?}"))
}

fn for_platform(index: &Index, platform: &Platform) -> Result<Descriptor, String> {
    let distance = |descriptor: &Descriptor| platform.distance(descriptor.platform.as_ref()?);
    let best = index.manifests.iter().filter_map(|descriptor| Some((distance(descriptor)?, descriptor)));
    let best = best.min_by_key(|(distance, _)| *distance).map(|(_, descriptor)| descriptor.clone());
    best.ok_or_else(|| format!("the layout has no image for {platform}"))
}
