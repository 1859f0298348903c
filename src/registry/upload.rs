//! Writing: is a blob there, can it be mounted, else upload it; and manifests, which come last.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use super::authentication::Access;
use super::body::{FilePayload, Payload};
use super::client::{Client, Purpose};
use super::error::RegistryError;
use super::transport::{Endpoint, Request};
use crate::diag::progress::Transfer;
use crate::image::{BlobSource, Descriptor, Digest, Reference};

static CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// An upload that the registry is waiting for.
#[derive(Debug, Clone)]
pub struct UploadSession {
    location: Url,
}

/// What became of a request to mount a blob.
#[derive(Debug)]
pub enum Mount {
    /// The blob is there.
    Mounted,
    /// It is not, but an upload has been opened for it.
    Session(UploadSession),
    /// The registry does not mount it.
    Refused,
}

impl Client {
    /// Whether the repository has the blob. A registry that does not answer HEAD is taken not to have it.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses.
    pub async fn blob_exists(&self, target: &Reference, descriptor: &Descriptor) -> Result<bool, RegistryError> {
        let operation = format!("push: check for blob {} in {}", descriptor.digest, target.without_tag());
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

    /// Asks the registry to take the blob over from another repository of its own.
    ///
    /// # Errors
    /// The registry cannot be reached. A refusal is no error: the blob can still be uploaded.
    pub async fn mount_blob(
        &self,
        target: &Reference,
        descriptor: &Descriptor,
        source: &Reference,
    ) -> Result<Mount, RegistryError> {
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
                    return Ok(Mount::Mounted);
                }
                Ok(Mount::Session(UploadSession { location: endpoint.location(&response, operation)? }))
            })
            .await;
        match result {
            // The token server may refuse the source repository altogether.
            Err(error) if error.status().is_some_and(|status| (400..500).contains(&status)) => {
                tracing::debug!(%error, "the blob is not mounted");
                Ok(Mount::Refused)
            }
            other => other,
        }
    }

    /// Uploads a blob, into `session` where a mount left one open. Failed attempts start anew.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses; the blob's file cannot be read or has another size than its descriptor.
    pub async fn upload_blob(
        &self,
        target: &Reference,
        descriptor: &Descriptor,
        source: &BlobSource,
        session: Option<UploadSession>,
        label: &str,
    ) -> Result<(), RegistryError> {
        let operation = format!("upload blob {} to {}", descriptor.digest, target.without_tag());
        let access = Access::push(&target.repository);
        let (operation, access) = (operation.as_str(), &access);
        let session = std::sync::Mutex::new(session);
        let session = &session;
        self.with_endpoint(target, Purpose::Push, operation, |endpoint| async move {
            let _slot = self.transfer_slot().await;
            // An open session is good for one attempt.
            let open = match session.lock() {
                Ok(mut session) => session.take(),
                Err(_poisoned) => None,
            };
            let open = match open {
                Some(open) => open,
                None => open_session(&endpoint, target, access, operation).await?,
            };
            let transfer = self.progress().transfer(label, Some(descriptor.size));
            let mut url = open.location;
            url.query_pairs_mut().append_pair("digest", &descriptor.digest.to_string());
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            let request = Request {
                method: Method::PUT,
                url,
                headers,
                payload: payload(source, descriptor, &transfer, &endpoint, operation)?,
                access,
                operation,
            };
            endpoint.expect(&request, &[200, 201, 204]).await?;
            if let BlobSource::Bytes(bytes) = source {
                transfer.add(bytes.len() as u64);
            }
            transfer.done();
            Ok(())
        })
        .await
    }

    /// Writes a manifest under the tag of `target`, or under its digest. All blobs have to be there.
    ///
    /// # Errors
    /// The registry cannot be reached, refuses, or answers with the digest of something else.
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

    /// Whether a push to `target` would be allowed: opens an upload and gives it up again.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses.
    pub async fn check_push(&self, target: &Reference) -> Result<(), RegistryError> {
        let operation = format!("push: check the permission for {}", target.without_tag());
        let access = Access::push(&target.repository);
        let (operation, access) = (operation.as_str(), &access);
        self.with_endpoint(target, Purpose::Push, operation, |endpoint| async move {
            let session = open_session(&endpoint, target, access, operation).await?;
            let cancel = Request { method: Method::DELETE, ..post(session.location, access, operation) };
            if let Err(error) = endpoint.expect(&cancel, &[200, 202, 204, 404, 405]).await {
                // The registry gives unused uploads up by itself, and not all know how to be asked.
                tracing::debug!(%error, "the upload opened for a check stays open");
            }
            Ok(())
        })
        .await
    }
}

fn post<'a>(url: Url, access: &'a Access, operation: &'a str) -> Request<'a> {
    Request { method: Method::POST, url, headers: HeaderMap::new(), payload: Payload::None, access, operation }
}

async fn open_session(
    endpoint: &Endpoint,
    target: &Reference,
    access: &Access,
    operation: &str,
) -> Result<UploadSession, RegistryError> {
    let url = endpoint.url(&format!("{}/blobs/uploads/", target.repository), operation)?;
    let response = endpoint.expect(&post(url, access, operation), &[202]).await?;
    Ok(UploadSession { location: endpoint.location(&response, operation)? })
}

fn payload<'a>(
    source: &'a BlobSource,
    descriptor: &Descriptor,
    transfer: &'a Transfer,
    endpoint: &Endpoint,
    operation: &str,
) -> Result<Payload<'a>, RegistryError> {
    match source {
        BlobSource::File(path) => Ok(Payload::File(FilePayload { path, size: descriptor.size, transfer })),
        BlobSource::Bytes(bytes) => Ok(Payload::Bytes(Bytes::copy_from_slice(bytes))),
        BlobSource::Registry(reference) => {
            Err(endpoint.protocol(operation, format!("cannot be sent a blob that is still in {reference}")))
        }
    }
}
