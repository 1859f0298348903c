//! Uploading a blob that is still being written, and whose digest nobody knows yet.
//!
//! It goes in one request that ends with the file, as Docker's daemon has always pushed: that is what every registry takes, those
//! included that want no pieces. Only the request that closes the upload names the digest. Nothing here is tried twice: a
//! blob that does not arrive this way is uploaded like any other once it is complete.

use std::sync::Arc;

use reqwest::Method;

use super::access::{Access, Purpose};
use super::blob_upload::confirmed;
use super::body::{ArrivingPayload, Payload, StreamState};
use super::client::Client;
use super::error::RegistryError;
use super::transport::{Endpoint, Request};
use super::upload_session::{OrphanedSession, UploadSession, octets, open_session};
use crate::fs::GrowingFile;
use crate::image::{Descriptor, Reference};

/// A blob that a registry has received, and does not know the digest of. Unless it is [closed](Self::close), its upload is among
/// those that [`Client::abandon_uploads`] ends.
#[derive(Debug)]
pub struct StreamedBlob {
    client: Client,
    target: Reference,
    /// There until the upload is closed.
    session: Option<UploadSession>,
    endpoint: Arc<Endpoint>,
    access: Access,
    operation: String,
    /// Bytes that were sent.
    size: u64,
}

impl Client {
    /// Sends a file that is being written to a new upload, until the file ends or is given up, or the `state` is to stop. Gives
    /// `None` where nothing was begun: all transfers are taken, or the registry is known to refuse large requests. A signal
    /// does not end it: with what was answered the upload can be given up, and not with all registries before.
    ///
    /// # Errors
    /// The registry cannot be reached, refuses, or is silent.
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
            payload: Payload::Arriving(ArrivingPayload { growing, state }),
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

    /// Tells the registry what it has received.
    ///
    /// # Errors
    /// It is not what was sent, or the registry cannot be reached or refuses.
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
        self.client.with_patience(1).with_endpoint(&self.target, Purpose::Push, operation, close).await?;
        self.session = None;
        Ok(())
    }
}

impl Drop for StreamedBlob {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.client.unfinished().push(OrphanedSession {
                session,
                endpoint: Arc::clone(&self.endpoint),
                access: self.access.clone(),
                operation: self.operation.clone(),
            });
        }
    }
}
