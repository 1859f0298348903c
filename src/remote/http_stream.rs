//! Downloads a file as a stream, and continues after an interruption.
//!
//! After an interruption, the rest is requested if the server named the version of the first part (a strong ETag),
//! because only then are both parts of the same file. Otherwise the reader has to start again.

use bytes::Bytes;
use reqwest::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Sender;

use crate::diag::progress::Transfer;
use crate::diag::redact::Secret;
use crate::http::{self, Flow, host_of};
use crate::location::HttpLocation;

use super::http::{DownloadError, Downloader, Exchange, Rest, header};

impl Downloader {
    /// Sends the pieces of a file to `pieces`, in order. It ends early if the receiver is gone.
    ///
    /// # Errors
    /// The file cannot be downloaded completely; [`DownloadError::Final`] if the rest cannot be requested.
    pub(super) async fn stream(
        &self,
        location: &HttpLocation,
        authorization: Option<&Secret<String>>,
        pieces: &Sender<Bytes>,
    ) -> Result<(), DownloadError> {
        let shown = location.to_string();
        let authorization = authorization.map(|secret| header(secret, &shown)).transpose()?;
        let exchange = Exchange { clients: &self.clients, location, authorization, shown: &shown };
        let state = Mutex::new(State::default());
        http::run(&self.policy, &format!("fetch {shown}"), || async {
            // Attempts are made one after the other.
            let mut state = state.lock().await;
            let result = self.attempt(&exchange, &mut state, pieces).await;
            match result {
                Err(error) if !state.can_go_on() => Err(DownloadError::Final(Box::new(error))),
                result => result,
            }
        })
        .await
    }

    async fn attempt(
        &self,
        exchange: &Exchange<'_>,
        state: &mut State,
        pieces: &Sender<Bytes>,
    ) -> Result<(), DownloadError> {
        let rest = state.rest();
        let mut response = exchange.follow(&Method::GET, rest.as_ref()).await?;
        let skip = state.begin(&response).ok_or_else(|| DownloadError::Changed { url: exchange.shown.to_owned() })?;
        let progress = state.progress.get_or_insert_with(|| {
            self.progress.transfer(format!("fetch {}", exchange.location.file_name()), response.content_length())
        });
        let host = host_of(response.url());
        let (mut skip, mut flow) = (skip, Flow::new(self.pace));
        while let Some(mut piece) = exchange.next_piece(&mut response, &host, &mut flow).await? {
            let known = skip.min(piece.len());
            skip -= known;
            let piece = piece.split_off(known);
            if piece.is_empty() {
                continue;
            }
            state.received += piece.len() as u64;
            progress.add(piece.len() as u64);
            if pieces.send(piece).await.is_err() {
                return Ok(());
            }
        }
        if let Some(progress) = state.progress.take() {
            progress.done();
        }
        Ok(())
    }
}

/// The progress of a download.
#[derive(Default)]
struct State {
    received: u64,
    validator: Option<HeaderValue>,
    progress: Option<Transfer>,
}

impl State {
    /// Reports whether the rest can be requested, or nothing has arrived yet.
    fn can_go_on(&self) -> bool {
        self.received == 0 || self.validator.is_some()
    }

    fn rest(&self) -> Option<Rest> {
        let validator = self.validator.clone().filter(|_| self.received > 0)?;
        Some(Rest { from: self.received, validator })
    }

    /// Returns how many bytes of the response are known already; `None` if it is about a different version.
    fn begin(&mut self, response: &Response) -> Option<usize> {
        let etag = response.headers().get(ETAG).filter(|etag| is_strong(etag)).cloned();
        if self.received == 0 {
            self.validator = etag;
            return Some(0);
        }
        if etag != self.validator {
            return None;
        }
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok())?;
            return range.strip_prefix(&format!("bytes {}-", self.received)).map(|_| 0);
        }
        tracing::debug!(ranges = ?response.headers().get(ACCEPT_RANGES), "the server sends the whole file again");
        usize::try_from(self.received).ok()
    }
}

/// Reports whether equal tags mean equal bytes (RFC 9110, 8.8.1).
fn is_strong(etag: &HeaderValue) -> bool {
    etag.as_bytes().starts_with(b"\"")
}
