//! An open upload: started by a POST, continued by chunks, completed with the blob's digest or cancelled.

use std::sync::Arc;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, Url};

use super::access::Access;
use super::body::Payload;
use super::error::RegistryError;
use super::transport::{Endpoint, Request};
use crate::image::{Digest, Reference};

/// An upload that the registry is waiting for.
#[derive(Debug, Clone)]
pub struct UploadSession {
    pub(super) location: Url,
}

impl UploadSession {
    /// Returns the session as continued by a response: registries keep their state in the URL.
    pub(super) fn continued(
        &self,
        response: &Response,
        endpoint: &Endpoint,
        operation: &str,
    ) -> Result<Self, RegistryError> {
        if !response.headers().contains_key(LOCATION) {
            return Ok(self.clone());
        }
        Ok(Self { location: endpoint.location(response, operation)? })
    }

    /// Completes the upload with the remaining bytes.
    pub(super) async fn finish(
        self,
        digest: &Digest,
        payload: Payload<'_>,
        endpoint: &Endpoint,
        access: &Access,
        operation: &str,
    ) -> Result<(), RegistryError> {
        let mut url = self.location;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let request = Request { method: Method::PUT, url, headers: octets(), payload, access, operation };
        endpoint.expect(&request, &[200, 201, 204]).await.map(drop)
    }

    /// Cancels an upload. Registries also expire unused uploads by themselves, and not all support cancelling, so a
    /// failure is only logged.
    pub(super) async fn abandon(self, endpoint: &Endpoint, access: &Access, operation: &str) {
        let cancel = Request { method: Method::DELETE, ..post(self.location, access, operation) };
        if let Err(error) = endpoint.expect(&cancel, &[200, 202, 204, 404, 405]).await {
            tracing::debug!(%error, "the upload cannot be cancelled");
        }
    }
}

/// An abandoned upload that the registry still waits for.
#[derive(Debug)]
pub(super) struct OrphanedSession {
    pub(super) session: UploadSession,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) access: Access,
    pub(super) operation: String,
}

pub(super) fn post<'a>(url: Url, access: &'a Access, operation: &'a str) -> Request<'a> {
    Request { method: Method::POST, url, headers: HeaderMap::new(), payload: Payload::None, access, operation }
}

/// Returns the headers for a part of a blob.
pub(super) fn octets() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))])
}

/// Opens an upload, and also returns the headers of the response, which may state limits.
pub(super) async fn open_session(
    endpoint: &Endpoint,
    target: &Reference,
    access: &Access,
    operation: &str,
) -> Result<(UploadSession, HeaderMap), RegistryError> {
    let url = endpoint.url(&format!("{}/blobs/uploads/", target.repository), operation)?;
    let response = endpoint.expect(&post(url, access, operation), &[202]).await?;
    let session = UploadSession { location: endpoint.location(&response, operation)? };
    Ok((session, response.headers().clone()))
}
