//! Resolves references to manifests and configs, each verified against its digest. A config that is available locally
//! is not fetched.

use futures_util::future::BoxFuture;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::access::{Access, Purpose};
use super::answer::read_bounded;
use super::body::Payload;
use super::client::Client;
use super::error::RegistryError;
use super::transport::{Endpoint, Request};
use crate::http::host_of;
use crate::image::{
    BaseImage, Descriptor, Digest, ImageConfig, Index, LayerDescriptor, Manifest, Platform, Reference, media_type,
};

/// Registries refuse manifests beyond 4 MiB; configs stay well below that.
const MAX_DOCUMENT: usize = 8 << 20;
/// The deepest allowed nesting of indexes.
const MAX_INDEX_DEPTH: usize = 4;

pub(super) const MANIFEST_TYPES: &[&str] =
    &[media_type::OCI_INDEX, media_type::DOCKER_INDEX, media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST];

/// A manifest or index as received.
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: String,
    /// True if the registry itself sent it, so that its text may be shown.
    pub(super) is_own: bool,
}

/// Returns a config by its digest, if it is available locally. The content is not trusted.
pub type KnownConfigs = dyn Fn(Digest) -> BoxFuture<'static, Option<Vec<u8>>> + Send + Sync;

/// The type of document that `manifests/…` returned.
pub(super) enum NamedDocument {
    Manifest(Box<Manifest>),
    Index(Box<Index>),
}

impl Client {
    /// Resolves `reference` to the image for `platform`, and reads its manifest and config.
    ///
    /// An image without an index is accepted whatever its platform, as in Docker and BuildKit: there is no alternative.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses; there is no image for the platform; the document is not an image, or
    /// does not match its digest.
    pub async fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<BaseImage, RegistryError> {
        self.resolve_with(reference, platform, &|_| Box::pin(async { None })).await
    }

    /// Resolves a reference like [`Client::resolve`]. The config that `known` returns is used if it matches the
    /// manifest.
    ///
    /// # Errors
    /// As for [`Client::resolve`].
    pub async fn resolve_with(
        &self,
        reference: &Reference,
        platform: &Platform,
        known: &KnownConfigs,
    ) -> Result<BaseImage, RegistryError> {
        let sources = self.pull_sources(reference);
        for source in &sources.first {
            match self.resolve_at(source, platform, known).await {
                // It came from a mirror, but keeps its own name.
                Ok(image) => return Ok(BaseImage { reference: reference.clone(), ..image }),
                Err(error) => self.try_next_source(source, error)?,
            }
        }
        let image = self.resolve_at(&sources.last, platform, known).await?;
        Ok(BaseImage { reference: reference.clone(), ..image })
    }

    async fn resolve_at(
        &self,
        reference: &Reference,
        platform: &Platform,
        known: &KnownConfigs,
    ) -> Result<BaseImage, RegistryError> {
        let mut current = reference.clone();
        let mut size = None;
        for _ in 0..MAX_INDEX_DEPTH {
            let document = self.manifest_document(&current, size).await?;
            let digest = match &current.digest {
                Some(digest) => digest.clone(),
                None => Digest::sha256_of(&document.bytes),
            };
            match parse_named(reference, &document)? {
                NamedDocument::Index(index) => {
                    let chosen = choose(reference, &index, platform)?;
                    current = reference.with_digest(chosen.digest.clone());
                    size = Some(chosen.size);
                }
                NamedDocument::Manifest(manifest) => {
                    let at_hand = known(manifest.config.digest.clone()).await;
                    let config_bytes = match at_hand.filter(|bytes| is_config(&manifest.config, bytes)) {
                        Some(bytes) => bytes,
                        None => self.config_document(reference, &manifest.config).await?,
                    };
                    return base_image(reference, digest, *manifest, config_bytes, platform);
                }
            }
        }
        Err(not_an_image(reference, format!("indexes are nested more than {MAX_INDEX_DEPTH} levels deep")))
    }

    /// Fetches the manifest or index of `reference`, verified if its digest is known; `size` if an index states it.
    async fn manifest_document(&self, reference: &Reference, size: Option<u64>) -> Result<Document, RegistryError> {
        let wanted = reference.manifest_reference();
        let operation = format!("pull manifest {wanted} of {}", reference.without_tag());
        let access = Access::pull(&reference.repository);
        let (operation_text, access) = (operation.as_str(), &access);
        let path = format!("{}/manifests/{wanted}", reference.repository);
        let path = path.as_str();
        self.with_endpoint(reference, Purpose::Pull, operation_text, |endpoint| async move {
            let document = get_document(&endpoint, path, Some(MANIFEST_TYPES), access, operation_text).await?;
            if let Some(expected) = &reference.digest {
                check(&endpoint.origin.host, operation_text, expected, size, &document.bytes)?;
            }
            Ok(document)
        })
        .await
    }

    async fn config_document(&self, reference: &Reference, config: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let operation = format!("pull config {} of {}", config.digest, reference.without_tag());
        let access = Access::pull(&reference.repository);
        let (operation_text, access) = (operation.as_str(), &access);
        let path = format!("{}/blobs/{}", reference.repository, config.digest);
        let path = path.as_str();
        self.with_endpoint(reference, Purpose::Pull, operation_text, |endpoint| async move {
            let document = get_document(&endpoint, path, None, access, operation_text).await?;
            check(&endpoint.origin.host, operation_text, &config.digest, Some(config.size), &document.bytes)?;
            Ok(document.bytes)
        })
        .await
    }
}

/// Reports whether these bytes are the config that a manifest names.
fn is_config(config: &Descriptor, bytes: &[u8]) -> bool {
    let is_right = bytes.len() as u64 == config.size && config.digest.verifies(bytes);
    if !is_right {
        tracing::debug!("the local config {} has a different digest and is fetched", config.digest);
    }
    is_right
}

/// Combines a verified manifest and config to an image.
pub(super) fn base_image(
    reference: &Reference,
    digest: Digest,
    manifest: Manifest,
    config_bytes: Vec<u8>,
    platform: &Platform,
) -> Result<BaseImage, RegistryError> {
    let config: ImageConfig = serde_json::from_slice(&config_bytes)
        .map_err(|error| not_an_image(reference, format!("its config is malformed: {error}")))?;
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(not_an_image(
            reference,
            format!(
                "its manifest has {layers} layers, its config (media type {:?}) {diff_ids}",
                manifest.config.media_type
            ),
        ));
    }
    if !platform.matches(&config.platform()) {
        tracing::debug!("{reference} is an image for {}, not for {platform}", config.platform());
    }
    let pairs = manifest.layers.iter().zip(&config.rootfs.diff_ids);
    let layers = pairs
        .map(|(descriptor, diff_id)| LayerDescriptor { descriptor: descriptor.clone(), diff_id: diff_id.clone() })
        .collect();
    Ok(BaseImage { reference: reference.clone(), digest, manifest, config, config_bytes, layers })
}

pub(super) async fn get_document(
    endpoint: &Endpoint,
    path: &str,
    accept: Option<&[&'static str]>,
    access: &Access,
    operation: &str,
) -> Result<Document, RegistryError> {
    let mut headers = HeaderMap::new();
    for accepted in accept.unwrap_or_default() {
        headers.append(ACCEPT, HeaderValue::from_static(accepted));
    }
    let request = Request {
        method: Method::GET,
        url: endpoint.url(path, operation)?,
        headers,
        payload: Payload::None,
        access,
        operation,
    };
    let response = endpoint.expect(&request, &[200]).await?;
    let content_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim().to_owned())
        .unwrap_or_default();
    let host = host_of(response.url());
    let is_own = endpoint.origin.is_own(&response);
    let bytes = read_bounded(response, MAX_DOCUMENT, operation, &host).await?;
    Ok(Document { bytes, content_type, is_own })
}

pub(super) fn check(
    host: &str,
    operation: &str,
    expected: &Digest,
    size: Option<u64>,
    bytes: &[u8],
) -> Result<(), RegistryError> {
    let received = bytes.len() as u64;
    if let Some(size) = size
        && size != received
    {
        return Err(RegistryError::Size {
            operation: operation.to_owned(),
            host: host.to_owned(),
            expected: size,
            received,
        });
    }
    let mut hasher = expected.hasher();
    hasher.update(bytes);
    let found = hasher.finish();
    if found != *expected {
        return Err(RegistryError::Digest {
            operation: operation.to_owned(),
            host: host.to_owned(),
            expected: expected.clone(),
            found,
        });
    }
    Ok(())
}

fn not_an_image(reference: &Reference, problem: String) -> RegistryError {
    RegistryError::NotAnImage { reference: reference.to_string(), problem }
}

/// Determines a document's type, by its content first: registries send wrong headers, and a digest covers only the
/// body.
pub(super) fn parse_named(reference: &Reference, document: &Document) -> Result<NamedDocument, RegistryError> {
    #[derive(serde::Deserialize)]
    struct Probe {
        #[serde(rename = "schemaVersion", default)]
        schema_version: u32,
        #[serde(rename = "mediaType", default)]
        media_type: String,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        layers: Option<serde::de::IgnoredAny>,
    }
    let malformed = |error: serde_json::Error| {
        // The library's message quotes the content.
        let details = match document.is_own {
            true => error.to_string(),
            false => format!("line {}, column {}", error.line(), error.column()),
        };
        not_an_image(reference, format!("its manifest is malformed: {details}"))
    };
    let probe: Probe = serde_json::from_slice(&document.bytes).map_err(malformed)?;
    let kind = if probe.media_type.is_empty() { document.content_type.as_str() } else { probe.media_type.as_str() };
    let old = [media_type::DOCKER_MANIFEST_V1, media_type::DOCKER_MANIFEST_V1_SIGNED];
    if probe.schema_version == 1 || old.contains(&kind) {
        return Err(not_an_image(
            reference,
            "it has a manifest of Docker's schema 1; pull and push it with a current Docker".to_owned(),
        ));
    }
    if probe.manifests.is_some() && probe.layers.is_some() {
        // We and a scanner could read such a document differently.
        return Err(not_an_image(reference, "its manifest has both layers and manifests".to_owned()));
    }
    let is_index = media_type::is_index(kind) || (!media_type::is_manifest(kind) && probe.manifests.is_some());
    if is_index {
        return Ok(NamedDocument::Index(Box::new(serde_json::from_slice(&document.bytes).map_err(malformed)?)));
    }
    if media_type::is_manifest(kind) || probe.layers.is_some() {
        return Ok(NamedDocument::Manifest(Box::new(serde_json::from_slice(&document.bytes).map_err(malformed)?)));
    }
    let details = if document.is_own {
        format!("the media type is {kind:?}")
    } else {
        "its media type is not that of a manifest".to_owned()
    };
    Err(not_an_image(reference, details))
}

/// Returns the best match of an index: the exact platform before older variants, then the first.
pub(super) fn choose<'a>(
    reference: &Reference,
    index: &'a Index,
    wanted: &Platform,
) -> Result<&'a Descriptor, RegistryError> {
    let images = index.manifests.iter().filter(|descriptor| {
        descriptor.media_type.is_empty()
            || media_type::is_manifest(&descriptor.media_type)
            || media_type::is_index(&descriptor.media_type)
    });
    let fitting = images.clone().filter_map(|descriptor| {
        let distance = wanted.distance(descriptor.platform.as_ref()?)?;
        Some((distance, descriptor))
    });
    if let Some((_, descriptor)) = fitting.min_by_key(|(distance, _)| *distance) {
        return Ok(descriptor);
    }
    // An entry without a platform is acceptable if there is no other.
    let all: Vec<&Descriptor> = images.collect();
    if let [only] = all.as_slice()
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let mut available: Vec<Platform> = all
        .into_iter()
        .filter_map(|descriptor| descriptor.platform.as_ref())
        .map(Platform::normalized)
        // Attestations are listed as images for an unknown platform.
        .filter(|platform| platform.os != "unknown")
        .collect();
    available.sort();
    available.dedup();
    Err(RegistryError::NoPlatform { reference: reference.to_string(), wanted: Box::new(wanted.clone()), available })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str, content_type: &str) -> Result<&'static str, String> {
        let reference = Reference::parse("r.example/a:1").unwrap();
        let document =
            Document { bytes: text.as_bytes().to_vec(), content_type: content_type.to_owned(), is_own: true };
        match parse_named(&reference, &document) {
            Ok(NamedDocument::Manifest(_)) => Ok("manifest"),
            Ok(NamedDocument::Index(_)) => Ok("index"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn documents_are_recognized_by_their_content() {
        let manifest = r#"{"schemaVersion":2,"config":{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
        assert_eq!(named(manifest, media_type::OCI_MANIFEST), Ok("manifest"));
        assert_eq!(named(manifest, "text/plain"), Ok("manifest"));
        assert_eq!(named(r#"{"schemaVersion":2,"manifests":[]}"#, ""), Ok("index"));
        let error = named(r#"{"schemaVersion":1,"fsLayers":[]}"#, media_type::DOCKER_MANIFEST_V1).unwrap_err();
        assert!(error.contains("schema 1"), "{error}");
        assert!(named(r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, "").is_err());
        assert!(named("<html>", "text/html").unwrap_err().contains("malformed"));
        assert!(named("{}", "application/json").unwrap_err().contains("application/json"));
    }

    #[test]
    fn the_best_platform_is_chosen_and_the_others_are_listed() {
        let entry = |platform: &str| {
            let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, platform.as_bytes());
            let (os, rest) = platform.split_once('/').unwrap();
            descriptor.platform = Some(Platform {
                os: os.to_owned(),
                architecture: rest.split('/').next().unwrap().to_owned(),
                variant: rest.split_once('/').map(|(_, variant)| variant.to_owned()),
                os_version: None,
                os_features: Vec::new(),
            });
            descriptor
        };
        let all = ["linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "unknown/unknown", "linux/amd64"];
        let index = Index::oci(all.map(entry).to_vec());
        let reference = Reference::parse("a").unwrap();
        let chosen = |text: &str| choose(&reference, &index, &text.parse().unwrap()).map(|d| d.digest.clone());
        assert_eq!(chosen("linux/arm").unwrap(), Digest::sha256_of(b"linux/arm/v7"));
        assert_eq!(chosen("linux/arm/v6").unwrap(), Digest::sha256_of(b"linux/arm/v6"));
        assert_eq!(chosen("linux/arm64").unwrap(), Digest::sha256_of(b"linux/arm64/v8"));
        assert_eq!(chosen("linux/amd64/v2").unwrap(), Digest::sha256_of(b"linux/amd64"));
        let error = chosen("linux/s390x").unwrap_err().to_string();
        assert_eq!(
            error,
            "docker.io/library/a has no image for linux/s390x; it has linux/amd64, linux/arm/v6, linux/arm/v7, linux/arm64"
        );
    }
}
