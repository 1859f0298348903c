//! Uploads one blob: in one request if possible, in chunks after a size limit or a broken connection.
//!
//! A single request is accepted by every registry, and is the fastest. After a broken connection the registry is asked
//! for its offset, and only the rest is sent. After a 413 from a proxy, chunks are sent that become smaller until they
//! pass, and the size that passed is remembered for other blobs. A registry that does not accept chunks gets everything
//! in one request again.

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

/// How many connections may break without progress before smaller requests are tried.
const BREAKS_BEFORE_CHUNKS: u32 = 2;

static CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// The time for telling registries about abandoned uploads.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(2);

/// Records the session as orphaned if the upload ends without its blob.
struct SessionGuard<'a> {
    client: &'a Client,
    access: &'a Access,
    operation: &'a str,
    /// The endpoint of the last attempt.
    endpoint: Option<Arc<Endpoint>>,
    progress: UploadProgress,
}

impl Drop for SessionGuard<'_> {
    fn drop(&mut self) {
        if let (Some(session), Some(endpoint)) = (self.progress.session.take(), self.endpoint.take()) {
            let (access, operation) = (self.access.clone(), self.operation.to_owned());
            self.client.orphaned_sessions().push(OrphanedSession { session, endpoint, access, operation });
        }
    }
}

/// The progress of an upload, which survives failed attempts.
#[derive(Debug, Default)]
struct UploadProgress {
    session: Option<UploadSession>,
    /// The bytes that the registry has confirmed for the session.
    offset: u64,
    /// True if the registry must be asked for the offset.
    offset_unknown: bool,
    /// The number of attempts so far.
    attempts: u32,
    /// The number of connections in a row that broke without progress.
    breaks: u32,
    /// True if the registry does not accept chunks.
    monolithic_only: bool,
    /// True if a session expired and a new one was opened for that.
    session_expired: bool,
    /// The bytes in the body of the last request.
    sent: u64,
    /// True if the last request was a chunk, or completed a chunked upload.
    is_chunked: bool,
    /// The smallest chunk that the registry accepts, except for the last.
    min_chunk: u64,
}

impl UploadProgress {
    fn restart(&mut self) -> Option<UploadSession> {
        self.offset = 0;
        self.offset_unknown = false;
        self.session.take()
    }
}

/// The upload of one blob to one repository.
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
    /// Uploads a blob, into `session` if a mount request opened one. Bytes of a failed attempt are not sent again if
    /// the registry can report its offset.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses; the blob's file cannot be read, or its size differs from the
    /// descriptor's.
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
        let progress = UploadProgress { session, ..UploadProgress::default() };
        let guard = SessionGuard { client: self, access, operation, endpoint: None, progress };
        let guard = tokio::sync::Mutex::new(guard);
        let guard = &guard;
        self.with_endpoint(target, Purpose::Push, operation, |endpoint| async move {
            let _slot = self.transfer_slot().await;
            let mut guard = guard.lock().await;
            guard.endpoint = Some(Arc::clone(&endpoint));
            let upload = Upload { client: self, endpoint: &endpoint, target, descriptor, source, access, operation };
            upload.attempt(&mut guard.progress, label).await?;
            guard.progress.session = None;
            Ok(())
        })
        .await
    }

    /// Cancels abandoned uploads at their registries, within a short time limit: registries also expire them by
    /// themselves.
    pub async fn abandon_uploads(&self) {
        let orphaned_sessions = std::mem::take(&mut *self.orphaned_sessions());
        let cancel_all = futures_util::future::join_all(orphaned_sessions.into_iter().map(async |upload| {
            upload.session.abandon(&upload.endpoint, &upload.access, &upload.operation).await;
        }));
        if tokio::time::timeout(ABANDON_TIMEOUT, cancel_all).await.is_err() {
            tracing::debug!("abandoned uploads could not be cancelled in time");
        }
    }
}

impl Upload<'_> {
    /// Tries until it succeeds, or no fallback is left.
    async fn attempt(&self, progress: &mut UploadProgress, label: &str) -> Result<(), RegistryError> {
        progress.attempts += 1;
        // The response to a successful attempt may have been lost.
        if progress.attempts > 1 && self.client.blob_exists(self.target, self.descriptor).await? {
            return Ok(());
        }
        loop {
            let transfer = self.client.progress().transfer(label, Some(self.descriptor.size));
            let error = match self.transmit(progress, &transfer).await {
                Ok(()) => {
                    transfer.done();
                    return Ok(());
                }
                Err(error) => error,
            };
            if !self.choose_fallback(progress, &error).await {
                return Err(error);
            }
            tracing::debug!(%error, pieces = ?self.endpoint.request_limit.get(), "continue the upload with a fallback");
        }
    }

    /// Chooses a fallback. Returns whether the upload may succeed with it at once.
    async fn choose_fallback(&self, progress: &mut UploadProgress, error: &RegistryError) -> bool {
        match error.status() {
            Some(413) => {
                progress.offset_unknown = true;
                !progress.monolithic_only && self.endpoint.request_limit.lower(progress.sent)
            }
            Some(404) if !progress.session_expired && progress.session.is_some() => {
                progress.session_expired = true;
                let abandoned = progress.restart();
                self.abandon(abandoned).await;
                true
            }
            // The registry does not accept chunks, or assembles them incorrectly.
            Some(400 | 405 | 411 | 415 | 416 | 501)
                if progress.is_chunked && !progress.monolithic_only && self.endpoint.request_limit.get().is_none() =>
            {
                progress.monolithic_only = true;
                let abandoned = progress.restart();
                self.abandon(abandoned).await;
                true
            }
            _ if error.transient().is_some() => {
                progress.offset_unknown = true;
                progress.breaks += 1;
                if progress.breaks >= BREAKS_BEFORE_CHUNKS && progress.offset == 0 && !progress.monolithic_only {
                    self.endpoint.request_limit.lower(progress.sent);
                }
                false
            }
            _ => {
                let abandoned = progress.restart();
                self.abandon(abandoned).await;
                false
            }
        }
    }

    /// Sends the missing bytes to the registry.
    async fn transmit(&self, progress: &mut UploadProgress, transfer: &Transfer) -> Result<(), RegistryError> {
        progress.is_chunked = false;
        progress.sent = 0;
        let mut session = self.session(progress).await?;
        let size = self.descriptor.size;
        let limit = self.endpoint.request_limit.get().filter(|limit| *limit < size && !progress.monolithic_only);
        if progress.offset == 0 && limit.is_none() {
            progress.sent = size;
            return self.finish(session, self.payload(0, size, transfer)?).await;
        }
        progress.is_chunked = true;
        transfer.add(progress.offset);
        while progress.offset < size {
            let rest = size - progress.offset;
            let length = limit.unwrap_or(rest).max(progress.min_chunk).min(rest);
            progress.sent = length;
            session = self.send_chunk(&session, progress, length, transfer).await?;
            progress.session = Some(session.clone());
        }
        progress.sent = 0;
        self.finish(session, Payload::None).await
    }

    /// Returns the open session with its offset known, or a new one.
    async fn session(&self, progress: &mut UploadProgress) -> Result<UploadSession, RegistryError> {
        if std::mem::take(&mut progress.offset_unknown)
            && let Some(session) = progress.session.take()
        {
            match self.query_offset(&session).await? {
                Some((session, offset)) if offset <= self.descriptor.size && !progress.monolithic_only => {
                    if offset > progress.offset {
                        progress.breaks = 0;
                    }
                    progress.offset = offset;
                    progress.session = Some(session);
                }
                _ => {
                    progress.restart();
                    self.abandon(Some(session)).await;
                }
            }
        }
        if let Some(session) = &progress.session {
            return Ok(session.clone());
        }
        let (session, headers) = open_session(self.endpoint, self.target, self.access, self.operation).await?;
        progress.offset = 0;
        progress.min_chunk = number(&headers, &CHUNK_MIN_LENGTH).unwrap_or(0);
        progress.session = Some(session.clone());
        Ok(session)
    }

    /// Asks the registry for its offset; `None` if the session has expired or the offset is not reported.
    async fn query_offset(&self, session: &UploadSession) -> Result<Option<(UploadSession, u64)>, RegistryError> {
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

    async fn send_chunk(
        &self,
        session: &UploadSession,
        progress: &mut UploadProgress,
        length: u64,
        transfer: &Transfer,
    ) -> Result<UploadSession, RegistryError> {
        let end = progress.offset + length;
        let mut headers = octets();
        let range = HeaderValue::from_str(&format!("{}-{}", progress.offset, end - 1))
            .map_err(|_invalid| self.endpoint.protocol(self.operation, "cannot be sent a range".to_owned()))?;
        headers.insert(CONTENT_RANGE, range);
        let request = Request {
            method: Method::PATCH,
            url: session.location.clone(),
            headers,
            payload: self.payload(progress.offset, length, transfer)?,
            access: self.access,
            operation: self.operation,
        };
        let response = self.endpoint.expect(&request, &[201, 202, 204]).await?;
        let reached = confirmed(&response).unwrap_or(end);
        if reached <= progress.offset || reached > end {
            let problem = format!("took the upload back from byte {} to {reached}", progress.offset);
            return Err(self.endpoint.protocol(self.operation, problem));
        }
        progress.offset = reached;
        progress.breaks = 0;
        session.continued(&response, self.endpoint, self.operation)
    }

    /// Completes the upload with the remaining bytes.
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

    /// Cancels a session. Registries also expire it by themselves.
    async fn abandon(&self, session: Option<UploadSession>) {
        if let Some(session) = session {
            session.abandon(self.endpoint, self.access, self.operation).await;
        }
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Returns the number of bytes that a `Range` confirms: 42 for `0-41`. Registries report an empty upload as `0-0`.
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
