//! An archive that is unpacked while it is downloaded.
//!
//! A task downloads, and the reader unpacks on its own thread. Between them is a bounded queue of pieces. The archive
//! is never completely in memory, and not on disk at all.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;

use crate::diag::Hint;
use crate::diag::progress::Progress;
use crate::diag::redact::Secret;
use crate::http::{self, Interrupted, RetryPolicy, Transient};
use crate::location::{BucketLocation, HttpLocation};

use super::bucket::{self, BucketError, Variables};
use super::http::{DownloadError, Downloader};

/// The most pieces in the queue; each is the result of one read of a connection, some ten KiB.
const QUEUE: usize = 64;

/// Why an archive could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// From a URL.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// From a bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The build was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl TransferError {
    /// Reports whether the transfer broke and only an attempt for the whole archive may succeed.
    pub fn may_begin_again(&self) -> bool {
        matches!(self, Self::Download(DownloadError::Final(error)) if error.transient().is_some())
    }
}

impl Hint for TransferError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Download(error) => error.hint(),
            Self::Bucket(error) => error.hint(),
            Self::Interrupted(_) => None,
        }
    }
}

/// Nothing is retried here: both sources retry by themselves.
impl Transient for TransferError {
    fn transient(&self) -> Option<Option<std::time::Duration>> {
        None
    }
}

/// The bytes of an archive, in order.
#[derive(Debug)]
pub struct Incoming {
    pieces: Receiver<Bytes>,
    current: Bytes,
    failure: Arc<Mutex<Option<TransferError>>>,
    task: JoinHandle<()>,
}

impl Incoming {
    /// Downloads a file from a URL. `authorization` is only sent to the URL's server.
    pub fn file(
        runtime: &Handle,
        downloader: Downloader,
        location: HttpLocation,
        authorization: Option<Secret<String>>,
    ) -> Self {
        Self::start(runtime, |pieces| async move {
            Ok(downloader.stream(&location, authorization.as_ref(), &pieces).await?)
        })
    }

    /// Downloads an object from a bucket.
    pub fn object(runtime: &Handle, location: BucketLocation, variables: Variables, progress: Progress) -> Self {
        Self::start(runtime, |pieces| async move {
            let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
            http::run(&once, &format!("fetch {location}"), || async {
                Ok(bucket::stream(&location, &variables, &progress, &pieces).await?)
            })
            .await
        })
    }

    fn start<T>(runtime: &Handle, transfer: impl FnOnce(mpsc::Sender<Bytes>) -> T) -> Self
    where
        T: Future<Output = Result<(), TransferError>> + Send + 'static,
    {
        let (sender, pieces) = mpsc::channel(QUEUE);
        // The error is stored before the reader sees the end.
        let held = sender.clone();
        let transfer = transfer(sender);
        let failure = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&failure);
        let task = runtime.spawn(async move {
            if let Err(error) = transfer.await {
                *seen.lock() = Some(error);
            }
            drop(held);
        });
        Self { pieces, current: Bytes::new(), failure, task }
    }

    /// Returns why the transfer ended early, if it did. The reader only sees that it did.
    pub fn failure(&self) -> Option<TransferError> {
        self.failure.lock().take()
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece,
                None if self.failure.lock().is_some() => {
                    return Err(io::Error::other("the transfer failed"));
                }
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// The reader needs no more pieces.
impl Drop for Incoming {
    fn drop(&mut self) {
        self.task.abort();
    }
}
