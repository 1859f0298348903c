//! An archive on its way from the network to whoever unpacks it.
//!
//! A task fetches, the reader unpacks on a thread of its own; between them are so many pieces as fit a bounded queue. The archive is
//! never in memory as a whole, and not on disk at all.

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

/// Pieces in the queue; each is as large as what one read of a connection gives, some ten KiB.
const QUEUE: usize = 64;

/// An archive that did not come.
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
    /// Whether the transfer broke, and only one of the whole archive may succeed.
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

/// Nothing is tried again here: the two sources do so themselves.
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
    /// Fetches a file behind a URL. `authorization` is for the URL's own server alone.
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

    /// Fetches an object from a bucket.
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
        // The reader is told that there is nothing more only when the failure can be seen.
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

    /// Why the transfer ended early, if it did. Whoever reads only learns that it did.
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

/// Whoever stops reading needs nothing more.
impl Drop for Incoming {
    fn drop(&mut self) {
        self.task.abort();
    }
}
