//! Uploads a blob while it is being written, before its digest is known.
//!
//! It is sent in one request that ends with the file, as Docker's daemon has always pushed: every registry accepts
//! that, including those that refuse chunked uploads. Only the request that closes the upload names the digest. Nothing
//! here is retried: if it fails, the blob is uploaded normally once it is complete.

use std::sync::Arc;

use reqwest::Method;

use super::access::{Access, Purpose};
use super::blob_upload::confirmed;
use super::body::{GrowingPayload, Payload, StreamState};
use super::client::Client;
use super::error::RegistryError;
use super::transport::{Endpoint, Request};
use super::upload_session::{OrphanedSession, UploadSession, octets, open_session};
use crate::fs::GrowingFile;
use crate::image::{Descriptor, Reference};

/// A blob that a registry has received without its digest. Unless it is [closed](Self::close), its upload is among
/// those that [`Client::abandon_uploads`] ends.
#[derive(Debug)]
pub struct StreamedBlob {
    client: Client,
    target: Reference,
    /// `None` after the upload is closed.
    session: Option<UploadSession>,
    endpoint: Arc<Endpoint>,
    access: Access,
    operation: String,
    /// The bytes that were sent.
    size: u64,
}

impl Client {
    /// Sends a file that is being written to a new upload, until the file ends, its writer fails, or `state` requests a
    /// stop. Returns `None` if nothing was begun: all transfer slots are in use, or the registry is known to refuse
    /// large requests. A signal does not interrupt it: some registries let an upload be cancelled only after they have
    /// answered.
    ///
    /// # Errors
    /// The registry cannot be reached, refuses, or does not respond.
    pub async fn stream_blob(
        &self,
        target: &Reference,
        growing: &Arc<GrowingFile>,
        state: &Arc<StreamState>,
    ) -> Result<Option<StreamedBlob>, RegistryError> {
        let Some(_slot) = self.free_transfer_slot() else { return Ok(None) };
        let operation = format!("upload a layer to {} while it is written", target.without_tag());
        let operation = operation.as_str();
        let endpoint = self.endpoint(target, Purpose::Push, operation).await?;
        if endpoint.request_limit.get().is_some() {
            return Ok(None);
        }
        let access = Access::push(&target.repository);
        let (session, _) = open_session(&endpoint, target, &access, operation).await?;
        let mut blob = StreamedBlob {
            client: self.clone(),
            target: target.clone(),
            session: Some(session.clone()),
            endpoint,
            access,
            operation: operation.to_owned(),
            size: 0,
        };
        blob.send(&session, growing, state).await?;
        Ok(Some(blob))
    }
}

impl StreamedBlob {
    async fn send(
        &mut self,
        session: &UploadSession,
        growing: &Arc<GrowingFile>,
        state: &Arc<StreamState>,
    ) -> Result<(), RegistryError> {
        let (endpoint, operation) = (&self.endpoint, self.operation.as_str());
        let request = Request {
            method: Method::PATCH,
            url: session.location.clone(),
            headers: octets(),
            payload: Payload::Growing(GrowingPayload { growing, state }),
            access: &self.access,
            operation,
        };
        let response = endpoint.expect(&request, &[201, 202, 204]).await?;
        let size = state.sent();
        self.session = Some(session.continued(&response, endpoint, operation)?);
        if let Some(reached) = confirmed(&response).filter(|reached| *reached != size) {
            return Err(self.endpoint.protocol(&self.operation, format!("has {reached} bytes of {size}")));
        }
        self.size = size;
        Ok(())
    }

    /// Closes the upload with the blob's digest.
    ///
    /// # Errors
    /// The descriptor is not that of the sent bytes, or the registry cannot be reached or refuses.
    pub async fn close(mut self, descriptor: &Descriptor) -> Result<(), RegistryError> {
        let Descriptor { digest, size, .. } = descriptor;
        let operation = format!("upload blob {digest} to {}", self.target.without_tag());
        let (operation, streamed) = (operation.as_str(), &self);
        let close = async |endpoint: Arc<Endpoint>| {
            let Some(session) = streamed.session.clone().filter(|_| streamed.size == *size) else {
                return Err(endpoint.protocol(operation, format!("has {} bytes of {size}", streamed.size)));
            };
            session.finish(digest, Payload::None, &endpoint, &streamed.access, operation).await
        };
        self.client.with_max_attempts(1).with_endpoint(&self.target, Purpose::Push, operation, close).await?;
        self.session = None;
        Ok(())
    }
}

impl Drop for StreamedBlob {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.client.orphaned_sessions().push(OrphanedSession {
                session,
                endpoint: Arc::clone(&self.endpoint),
                access: self.access.clone(),
                operation: self.operation.clone(),
            });
        }
    }
}
