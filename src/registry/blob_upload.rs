//! Uploading one blob: in one request where that works, in pieces where a limit or a broken connection asks for them.
//!
//! One request is what every registry takes, and the quickest. When the connection breaks, the registry is asked how far it got,
//! and only the rest is sent. When a request is too large for a proxy (413), pieces are sent that become smaller until they pass,
//! and the size that passed is remembered for the other blobs. A registry that takes no pieces gets everything in one
//! request again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{Method, Response};

use super::access::{Access, Purpose};
use super::body::{FilePayload, Payload};
use super::client::Client;
use super::error::RegistryError;
use super::transport::{Endpoint, Request};
use super::upload_session::{OrphanedSession, UploadSession, octets, open_session};
use crate::diag::progress::Transfer;
use crate::http::Transient as _;
use crate::image::{BlobSource, Descriptor, Reference};

/// How many connections may break, without a byte growing, before smaller requests are tried.
const BREAKS_BEFORE_PIECES: u32 = 2;

static CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// How long registries are given to hear of uploads that nobody goes on with.
const TIME_TO_ABANDON: Duration = Duration::from_secs(2);

/// Takes note of the session when an upload ends in any other way than with its blob.
struct SessionGuard<'a> {
    client: &'a Client,
    access: &'a Access,
    operation: &'a str,
    /// The last one that was spoken with.
    endpoint: Option<Arc<Endpoint>>,
    standing: UploadProgress,
}

impl Drop for SessionGuard<'_> {
    fn drop(&mut self) {
        if let (Some(session), Some(endpoint)) = (self.standing.session.take(), self.endpoint.take()) {
            let (access, operation) = (self.access.clone(), self.operation.to_owned());
            self.client.unfinished().push(OrphanedSession { session, endpoint, access, operation });
        }
    }
}

/// How far an upload has got; it survives failed attempts.
#[derive(Debug, Default)]
struct UploadProgress {
    session: Option<UploadSession>,
    /// Bytes that the registry has confirmed for the session.
    offset: u64,
    /// The registry has to be asked for the offset.
    offset_unknown: bool,
    /// Attempts that were begun.
    attempts: u32,
    /// Connections that broke in a row without a byte having arrived.
    breaks: u32,
    /// The registry takes no pieces.
    monolithic_only: bool,
    /// A session was lost, and a new one was opened for that.
    lost: bool,
    /// Bytes in the body of the last request.
    sent: u64,
    /// The last request was for a piece, or ended a series of them.
    in_pieces: bool,
    /// Pieces that are smaller than this are refused, except for the last.
    shortest_piece: u64,
}

impl UploadProgress {
    fn start_anew(&mut self) -> Option<UploadSession> {
        self.offset = 0;
        self.offset_unknown = false;
        self.session.take()
    }
}

/// One blob on its way to one repository.
struct Upload<'a> {
    client: &'a Client,
    endpoint: &'a Endpoint,
    target: &'a Reference,
    descriptor: &'a Descriptor,
    source: &'a BlobSource,
    access: &'a Access,
    operation: &'a str,
}

impl Client {
    /// Uploads a blob, into `session` where a mount left one open. What a failed attempt has brought there is not sent again,
    /// where the registry can tell how much that is.
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
        let standing = UploadProgress { session, ..UploadProgress::default() };
        let watched = SessionGuard { client: self, access, operation, endpoint: None, standing };
        let watched = tokio::sync::Mutex::new(watched);
        let watched = &watched;
        self.with_endpoint(target, Purpose::Push, operation, |endpoint| async move {
            let _slot = self.transfer_slot().await;
            let mut watched = watched.lock().await;
            watched.endpoint = Some(Arc::clone(&endpoint));
            let upload = Upload { client: self, endpoint: &endpoint, target, descriptor, source, access, operation };
            upload.attempt(&mut watched.standing, label).await?;
            watched.standing.session = None;
            Ok(())
        })
        .await
    }

    /// Tells the registries of uploads that were given up midway. They would find out by themselves, later: it is tried for a
    /// moment only.
    pub async fn abandon_uploads(&self) {
        let unfinished = std::mem::take(&mut *self.unfinished());
        let tell = futures_util::future::join_all(unfinished.into_iter().map(async |upload| {
            upload.session.abandon(&upload.endpoint, &upload.access, &upload.operation).await;
        }));
        if tokio::time::timeout(TIME_TO_ABANDON, tell).await.is_err() {
            tracing::debug!("a registry was not told in time of the uploads that were given up");
        }
    }
}

impl Upload<'_> {
    /// Tries until it succeeds, or nothing is left to be done differently.
    async fn attempt(&self, standing: &mut UploadProgress, label: &str) -> Result<(), RegistryError> {
        standing.attempts += 1;
        // The answer to an attempt that succeeded may have been lost.
        if standing.attempts > 1 && self.client.blob_exists(self.target, self.descriptor).await? {
            return Ok(());
        }
        loop {
            let transfer = self.client.progress().transfer(label, Some(self.descriptor.size));
            let error = match self.transmit(standing, &transfer).await {
                Ok(()) => {
                    transfer.done();
                    return Ok(());
                }
                Err(error) => error,
            };
            if !self.choose_fallback(standing, &error).await {
                return Err(error);
            }
            tracing::debug!(%error, pieces = ?self.endpoint.request_limit.get(), "continue the upload in another way");
        }
    }

    /// Whether the upload may succeed at once when it goes on in another way.
    async fn choose_fallback(&self, standing: &mut UploadProgress, error: &RegistryError) -> bool {
        match error.status() {
            Some(413) => {
                standing.offset_unknown = true;
                !standing.monolithic_only && self.endpoint.request_limit.lower(standing.sent)
            }
            Some(404) if !standing.lost && standing.session.is_some() => {
                standing.lost = true;
                let abandoned = standing.start_anew();
                self.abandon(abandoned).await;
                true
            }
            // No pieces here, or they were put together wrongly.
            Some(400 | 405 | 411 | 415 | 416 | 501)
                if standing.in_pieces && !standing.monolithic_only && self.endpoint.request_limit.get().is_none() =>
            {
                standing.monolithic_only = true;
                let abandoned = standing.start_anew();
                self.abandon(abandoned).await;
                true
            }
            _ if error.transient().is_some() => {
                standing.offset_unknown = true;
                standing.breaks += 1;
                if standing.breaks >= BREAKS_BEFORE_PIECES && standing.offset == 0 && !standing.monolithic_only {
                    self.endpoint.request_limit.lower(standing.sent);
                }
                false
            }
            _ => {
                let abandoned = standing.start_anew();
                self.abandon(abandoned).await;
                false
            }
        }
    }

    /// Brings what is missing to the registry.
    async fn transmit(&self, standing: &mut UploadProgress, transfer: &Transfer) -> Result<(), RegistryError> {
        standing.in_pieces = false;
        standing.sent = 0;
        let mut session = self.session(standing).await?;
        let size = self.descriptor.size;
        let limit = self.endpoint.request_limit.get().filter(|limit| *limit < size && !standing.monolithic_only);
        if standing.offset == 0 && limit.is_none() {
            standing.sent = size;
            return self.finish(session, self.payload(0, size, transfer)?).await;
        }
        standing.in_pieces = true;
        transfer.add(standing.offset);
        while standing.offset < size {
            let rest = size - standing.offset;
            let length = limit.unwrap_or(rest).max(standing.shortest_piece).min(rest);
            standing.sent = length;
            session = self.send_piece(&session, standing, length, transfer).await?;
            standing.session = Some(session.clone());
        }
        standing.sent = 0;
        self.finish(session, Payload::None).await
    }

    /// The open session, with the offset known; a new one where there is none.
    async fn session(&self, standing: &mut UploadProgress) -> Result<UploadSession, RegistryError> {
        if std::mem::take(&mut standing.offset_unknown)
            && let Some(session) = standing.session.take()
        {
            match self.ask_offset(&session).await? {
                Some((session, offset)) if offset <= self.descriptor.size && !standing.monolithic_only => {
                    if offset > standing.offset {
                        standing.breaks = 0;
                    }
                    standing.offset = offset;
                    standing.session = Some(session);
                }
                _ => {
                    standing.start_anew();
                    self.abandon(Some(session)).await;
                }
            }
        }
        if let Some(session) = &standing.session {
            return Ok(session.clone());
        }
        let (session, headers) = open_session(self.endpoint, self.target, self.access, self.operation).await?;
        standing.offset = 0;
        standing.shortest_piece = number(&headers, &CHUNK_MIN_LENGTH).unwrap_or(0);
        standing.session = Some(session.clone());
        Ok(session)
    }

    /// How far the registry got; `None` where it has forgotten the session, or cannot tell.
    async fn ask_offset(&self, session: &UploadSession) -> Result<Option<(UploadSession, u64)>, RegistryError> {
        let request = Request {
            method: Method::GET,
            url: session.location.clone(),
            headers: HeaderMap::new(),
            payload: Payload::None,
            access: self.access,
            operation: self.operation,
        };
        let response = self.endpoint.send(&request).await?;
        if !matches!(response.status().as_u16(), 200 | 202 | 204) {
            tracing::debug!(status = response.status().as_u16(), "the upload cannot be continued");
            return Ok(None);
        }
        let Some(offset) = confirmed(&response) else { return Ok(None) };
        Ok(Some((session.continued(&response, self.endpoint, self.operation)?, offset)))
    }

    async fn send_piece(
        &self,
        session: &UploadSession,
        standing: &mut UploadProgress,
        length: u64,
        transfer: &Transfer,
    ) -> Result<UploadSession, RegistryError> {
        let end = standing.offset + length;
        let mut headers = octets();
        let range = HeaderValue::from_str(&format!("{}-{}", standing.offset, end - 1))
            .map_err(|_invalid| self.endpoint.protocol(self.operation, "cannot be sent a range".to_owned()))?;
        headers.insert(CONTENT_RANGE, range);
        let request = Request {
            method: Method::PATCH,
            url: session.location.clone(),
            headers,
            payload: self.payload(standing.offset, length, transfer)?,
            access: self.access,
            operation: self.operation,
        };
        let response = self.endpoint.expect(&request, &[201, 202, 204]).await?;
        let reached = confirmed(&response).unwrap_or(end);
        if reached <= standing.offset || reached > end {
            let problem = format!("took the upload back from byte {} to {reached}", standing.offset);
            return Err(self.endpoint.protocol(self.operation, problem));
        }
        standing.offset = reached;
        standing.breaks = 0;
        session.continued(&response, self.endpoint, self.operation)
    }

    /// The request that ends an upload, with the bytes that are still missing.
    async fn finish(&self, session: UploadSession, payload: Payload<'_>) -> Result<(), RegistryError> {
        session.finish(&self.descriptor.digest, payload, self.endpoint, self.access, self.operation).await
    }

    fn payload<'b>(&'b self, offset: u64, length: u64, transfer: &'b Transfer) -> Result<Payload<'b>, RegistryError> {
        match self.source {
            BlobSource::File(path) => {
                Ok(Payload::File(FilePayload { path, size: self.descriptor.size, offset, length, transfer }))
            }
            BlobSource::Bytes(bytes) => {
                let part = usize::try_from(offset).ok().zip(usize::try_from(offset + length).ok());
                let part = part.and_then(|(start, end)| bytes.get(start..end)).ok_or_else(|| {
                    self.endpoint
                        .protocol(self.operation, "cannot be sent a blob shorter than its descriptor".to_owned())
                })?;
                transfer.add(length);
                Ok(Payload::Bytes(Bytes::copy_from_slice(part)))
            }
            BlobSource::Registry(reference) => Err(self
                .endpoint
                .protocol(self.operation, format!("cannot be sent a blob that is still in {reference}"))),
        }
    }

    /// Tells the registry that nothing more comes. It would find out by itself, later.
    async fn abandon(&self, session: Option<UploadSession>) {
        if let Some(session) = session {
            session.abandon(self.endpoint, self.access, self.operation).await;
        }
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The bytes that `Range: 0-41` confirms: 42. An upload without a byte is told as `0-0`.
pub(super) fn confirmed(response: &Response) -> Option<u64> {
    let range = response.headers().get(RANGE)?.to_str().ok()?;
    let (start, end) = range.trim_start_matches("bytes=").split_once('-')?;
    if start.trim().parse::<u64>().ok()? != 0 {
        return None;
    }
    match end.trim().parse().ok()? {
        0 => Some(0),
        last => u64::checked_add(last, 1),
    }
}
