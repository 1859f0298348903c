//! Images with their content: the sources of blobs, and how layers and a configuration form an image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Descriptor, Digest, ImageConfig, LayerDescriptor, Manifest, Reference, media_type};

/// Why an image cannot be assembled.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The configuration lists a different number of layers.
    #[error("failed to assemble the image: the config lists {diff_ids} layers, but there are {layers}")]
    LayerCount {
        /// Entries of `rootfs.diff_ids`.
        diff_ids: usize,
        /// The number of layers.
        layers: usize,
    },
    /// Docker's format has no media type for a layer.
    #[error("failed to make a Docker image: Docker has no name for {media_type}, use --image-format oci")]
    NotDocker {
        /// The layer's media type.
        media_type: String,
    },
    /// The configuration or the manifest cannot be written.
    #[error("failed to write the image's {what} as JSON")]
    Serialize {
        /// The document.
        what: &'static str,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// A resolved base image. None of its layers has been fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    /// The requested name.
    pub reference: Reference,
    /// The digest of the manifest of the platform.
    pub digest: Digest,
    /// That manifest.
    pub manifest: Manifest,
    /// The config.
    pub config: ImageConfig,
    /// The original bytes of the configuration: serializing it again may result in a different digest.
    pub config_bytes: Vec<u8>,
    /// The layers, lowest first.
    pub layers: Vec<LayerDescriptor>,
}

/// The format of an image's manifest. Layers and configuration are the same in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImageFormat {
    /// The format of the OCI image specification.
    #[default]
    Oci,
    /// Docker's "Image Manifest Version 2, Schema 2".
    Docker,
}

/// The location of a blob's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobSource {
    /// In a local file.
    File(PathBuf),
    /// In memory, for small blobs.
    Bytes(Vec<u8>),
    /// In a repository, not fetched yet.
    Registry(Reference),
}

/// A blob of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The descriptor.
    pub descriptor: Descriptor,
    /// The location of the bytes.
    pub source: BlobSource,
}

/// An image that is ready to be pushed or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The config.
    pub config: ImageConfig,
    /// The configuration's bytes, to whose digest the manifest refers.
    pub config_bytes: Vec<u8>,
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest's bytes, whose digest is that of the image.
    pub manifest_bytes: Vec<u8>,
    /// The layers, lowest first.
    pub blobs: Vec<Blob>,
}

impl Image {
    /// Assembles an OCI image from a configuration and its layers, lowest first.
    ///
    /// Layers of a Docker base image get the OCI media type: some registries refuse a manifest that mixes both kinds.
    /// Bytes and digests do not change.
    ///
    /// # Errors
    /// The number of the configuration's `rootfs.diff_ids` differs from the number of layers.
    pub fn assemble(config: ImageConfig, layers: Vec<Blob>) -> Result<Self, AssembleError> {
        if config.rootfs.diff_ids.len() != layers.len() {
            return Err(AssembleError::LayerCount { diff_ids: config.rootfs.diff_ids.len(), layers: layers.len() });
        }
        let config_bytes = config.to_bytes().map_err(|source| AssembleError::Serialize { what: "config", source })?;
        let blobs: Vec<Blob> =
            layers.into_iter().map(|blob| Blob { descriptor: blob.descriptor.into_oci(), ..blob }).collect();
        let manifest = Manifest::oci(
            Descriptor::of(media_type::OCI_CONFIG, &config_bytes),
            blobs.iter().map(|blob| blob.descriptor.clone()).collect(),
        );
        Self::with_manifest(config, config_bytes, manifest, blobs)
    }

    /// Assembles an image with a given manifest, such as an annotated one.
    ///
    /// # Errors
    /// The manifest cannot be written.
    pub fn with_manifest(
        config: ImageConfig,
        config_bytes: Vec<u8>,
        manifest: Manifest,
        blobs: Vec<Blob>,
    ) -> Result<Self, AssembleError> {
        let manifest_bytes =
            manifest.to_bytes().map_err(|source| AssembleError::Serialize { what: "manifest", source })?;
        Ok(Self { config, config_bytes, manifest, manifest_bytes, blobs })
    }

    /// Returns the image with a manifest of `format`, and with annotations, which Docker's format does not have.
    ///
    /// # Errors
    /// Docker's format has no media type for a layer.
    pub fn into_format(
        self,
        format: ImageFormat,
        annotations: BTreeMap<String, String>,
    ) -> Result<Self, AssembleError> {
        let Self { config, config_bytes, mut manifest, mut blobs, .. } = self;
        manifest.annotations.extend(annotations);
        if format == ImageFormat::Docker {
            let rename = |name: &mut String| match media_type::to_docker(name) {
                Some(docker) => {
                    *name = docker.to_owned();
                    Ok(())
                }
                None => Err(AssembleError::NotDocker { media_type: name.clone() }),
            };
            rename(&mut manifest.media_type)?;
            rename(&mut manifest.config.media_type)?;
            let layers = manifest.layers.iter_mut().chain(blobs.iter_mut().map(|blob| &mut blob.descriptor));
            layers.map(|layer| &mut layer.media_type).try_for_each(rename)?;
        }
        Self::with_manifest(config, config_bytes, manifest, blobs)
    }

    /// Returns the image's digest: that of its manifest.
    pub fn digest(&self) -> Digest {
        Digest::sha256_of(&self.manifest_bytes)
    }

    /// Returns the descriptor of the image's manifest with its platform, as used in an index.
    pub fn descriptor(&self) -> Descriptor {
        let mut descriptor = Descriptor::of(self.manifest.media_type.clone(), &self.manifest_bytes);
        descriptor.platform = Some(self.config.platform());
        descriptor
    }

    /// Returns the configuration as a blob.
    pub fn config_blob(&self) -> Blob {
        Blob { descriptor: self.manifest.config.clone(), source: BlobSource::Bytes(self.config_bytes.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RootFs;

    #[test]
    fn layers_of_a_docker_base_become_oci_layers() {
        let descriptor = Descriptor::of(media_type::DOCKER_LAYER_GZIP, b"layer");
        let config = ImageConfig {
            rootfs: RootFs { diff_ids: vec![Digest::sha256_of(b"tar")], ..RootFs::default() },
            ..ImageConfig::default()
        };
        let blob = Blob { descriptor: descriptor.clone(), source: BlobSource::Bytes(b"layer".to_vec()) };
        let image = Image::assemble(config.clone(), vec![blob]).unwrap();
        assert_eq!(image.manifest.media_type, media_type::OCI_MANIFEST);
        assert_eq!(image.manifest.layers[0].media_type, media_type::OCI_LAYER_GZIP);
        assert_eq!(image.manifest.layers[0].digest, descriptor.digest);
        assert_eq!(image.manifest.config.digest, Digest::sha256_of(&image.config_bytes));
        assert!(matches!(
            Image::assemble(config, Vec::new()),
            Err(AssembleError::LayerCount { diff_ids: 1, layers: 0 })
        ));
    }

    #[test]
    fn an_image_can_have_dockers_manifest_or_annotations() {
        let image = |kind: &str| {
            let config = ImageConfig {
                rootfs: RootFs { diff_ids: vec![Digest::sha256_of(b"tar")], ..RootFs::default() },
                ..ImageConfig::default()
            };
            let descriptor = Descriptor::of(kind, b"layer");
            Image::assemble(config, vec![Blob { descriptor, source: BlobSource::Bytes(b"layer".to_vec()) }]).unwrap()
        };
        let oci = image(media_type::OCI_LAYER_GZIP);
        let docker = oci.clone().into_format(ImageFormat::Docker, BTreeMap::new()).unwrap();
        assert_eq!(docker.manifest.media_type, media_type::DOCKER_MANIFEST);
        assert_eq!(docker.manifest.config.media_type, media_type::DOCKER_CONFIG);
        assert_eq!(docker.manifest.layers[0].media_type, media_type::DOCKER_LAYER_GZIP);
        assert_eq!(docker.blobs[0].descriptor, docker.manifest.layers[0]);
        assert_eq!(docker.manifest.layers[0].digest, oci.manifest.layers[0].digest);
        assert_eq!(docker.config_bytes, oci.config_bytes);
        let annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let annotated = oci.clone().into_format(ImageFormat::Oci, annotations.clone()).unwrap();
        assert_eq!(annotated.manifest.annotations, annotations);
        assert_ne!(annotated.digest(), oci.digest());
        let zstd = image(media_type::OCI_LAYER_ZSTD).into_format(ImageFormat::Docker, BTreeMap::new());
        assert!(matches!(zstd, Err(AssembleError::NotDocker { .. })));
    }
}
