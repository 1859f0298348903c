//! Writes to registries, except the blobs' bytes: existence checks, mounts, push permission, and manifests, which come
//! last.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::access::{Access, Purpose};
use super::body::Payload;
use super::client::Client;
use super::error::RegistryError;
use super::transport::Request;
use super::upload_session::{UploadSession, open_session, post};
use crate::image::{Descriptor, Digest, Reference};

static CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The result of a request to mount a blob.
#[derive(Debug)]
pub enum MountOutcome {
    /// The repository has the blob now.
    Mounted,
    /// It does not, but the registry has opened an upload for it.
    Session(UploadSession),
    /// The registry refused to mount it.
    Refused,
}

impl Client {
    /// Reports whether the repository has the blob. If the registry does not support HEAD, the blob is assumed to be
    /// missing.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses.
    pub async fn blob_exists(&self, target: &Reference, descriptor: &Descriptor) -> Result<bool, RegistryError> {
        let operation = format!("check for blob {} in {}", descriptor.digest, target.without_tag());
        let access = Access::push(&target.repository);
        let (operation, access) = (operation.as_str(), &access);
        let path = format!("{}/blobs/{}", target.repository, descriptor.digest);
        let path = path.as_str();
        self.with_endpoint(target, Purpose::Push, operation, |endpoint| async move {
            let request = Request {
                method: Method::HEAD,
                url: endpoint.url(path, operation)?,
                headers: HeaderMap::new(),
                payload: Payload::None,
                access,
                operation,
            };
            let response = endpoint.expect(&request, &[200, 400, 404, 405, 501]).await?;
            Ok(response.status().as_u16() == 200)
        })
        .await
    }

    /// Asks the registry to mount the blob from a different repository of its own.
    ///
    /// # Errors
    /// The registry cannot be reached. A refusal is not an error: the blob can still be uploaded.
    pub async fn mount_blob(
        &self,
        target: &Reference,
        descriptor: &Descriptor,
        source: &Reference,
    ) -> Result<MountOutcome, RegistryError> {
        let operation =
            format!("mount blob {} from {} to {}", descriptor.digest, source.without_tag(), target.without_tag());
        let access = Access::push(&target.repository).and_pull(&source.repository);
        let (operation, access) = (operation.as_str(), &access);
        let result = self
            .with_endpoint(target, Purpose::Push, operation, |endpoint| async move {
                let mut url = endpoint.url(&format!("{}/blobs/uploads/", target.repository), operation)?;
                url.query_pairs_mut()
                    .append_pair("mount", &descriptor.digest.to_string())
                    .append_pair("from", &source.repository);
                let request = post(url, access, operation);
                let response = endpoint.expect(&request, &[201, 202]).await?;
                if response.status().as_u16() == 201 {
                    return Ok(MountOutcome::Mounted);
                }
                Ok(MountOutcome::Session(UploadSession { location: endpoint.location(&response, operation)? }))
            })
            .await;
        match result {
            // The token server may refuse access to the source repository.
            Err(error) if error.status().is_some_and(|status| (400..500).contains(&status)) => {
                tracing::debug!(%error, "the blob cannot be mounted");
                Ok(MountOutcome::Refused)
            }
            other => other,
        }
    }

    /// Writes a manifest under the tag of `target`, or under its digest. All its blobs must exist.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses, or responds with a different digest.
    pub async fn put_manifest(&self, target: &Reference, media_type: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let operation = format!("push manifest {target}");
        let access = Access::push(&target.repository);
        let (operation, access) = (operation.as_str(), &access);
        let content = Bytes::copy_from_slice(bytes);
        let content = &content;
        let digest = Digest::sha256_of(bytes);
        let digest = &digest;
        let path = format!("{}/manifests/{}", target.repository, target.manifest_reference());
        let path = path.as_str();
        self.with_endpoint(target, Purpose::Push, operation, |endpoint| async move {
            let mut headers = HeaderMap::new();
            let kind = HeaderValue::from_str(media_type).map_err(|_invalid| {
                endpoint.protocol(operation, format!("cannot be sent the media type {media_type:?}"))
            })?;
            headers.insert(CONTENT_TYPE, kind);
            let request = Request {
                method: Method::PUT,
                url: endpoint.url(path, operation)?,
                headers,
                payload: Payload::Bytes(content.clone()),
                access,
                operation,
            };
            let response = endpoint.expect(&request, &[200, 201, 202, 204]).await?;
            let stored = response.headers().get(&CONTENT_DIGEST).and_then(|value| value.to_str().ok());
            match stored.and_then(|text| text.parse::<Digest>().ok()) {
                Some(stored) if stored.algorithm() == digest.algorithm() && stored != *digest => {
                    Err(RegistryError::Digest {
                        operation: operation.to_owned(),
                        host: endpoint.origin.host.clone(),
                        expected: digest.clone(),
                        found: stored,
                    })
                }
                _ => Ok(()),
            }
        })
        .await
    }

    /// Checks whether a push to `target` is allowed, by opening an upload and cancelling it.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses.
    pub async fn check_push(&self, target: &Reference) -> Result<(), RegistryError> {
        let operation = format!("check the push permission for {}", target.without_tag());
        let access = Access::push(&target.repository);
        let (operation, access) = (operation.as_str(), &access);
        self.with_endpoint(target, Purpose::Push, operation, |endpoint| async move {
            let (session, _) = open_session(&endpoint, target, access, operation).await?;
            session.abandon(&endpoint, access, operation).await;
            Ok(())
        })
        .await
    }
}
