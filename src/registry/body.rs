//! Request bodies: empty, bytes, a file that is streamed in bounded chunks, or a file that is still being written.

use std::future::Future;
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::error::RegistryError;
use super::traffic::Meter;
use crate::diag::progress::Transfer;
use crate::fs::gate::{self, Pass};
use crate::fs::{GrowingFile, GrowingFileReader, ReadAt as _, failed_to, gated};

/// The size of a chunk, and how many may wait between the file and the connection.
const CHUNK_BYTES: usize = 256 << 10;
const MAX_QUEUED_CHUNKS: usize = 4;

/// The time limit for a response after the last byte of the request. Registries that move an upload to an object store
/// answer late.
pub(super) const RESPONSE_LIMIT: Duration = Duration::from_secs(300);
/// The limit for a file that is sent while it grows, because there is a fallback. It includes pauses of the writer:
/// servers do not wait longer either.
const GROWING_LIMIT: Duration = Duration::from_secs(60);

/// The payload of a request.
pub(super) enum Payload<'a> {
    None,
    Bytes(Bytes),
    File(FilePayload<'a>),
    Growing(GrowingPayload<'a>),
}

impl Payload<'_> {
    /// Returns how long a request may make no progress before it fails.
    pub(super) fn idle_limit(&self) -> Duration {
        match self {
            Self::None | Self::Bytes(_) | Self::File(_) => RESPONSE_LIMIT,
            Self::Growing(_) => GROWING_LIMIT,
        }
    }
}

/// A file or a part of one to upload; opened again for each attempt.
pub(super) struct FilePayload<'a> {
    pub(super) path: &'a Path,
    /// Size of the complete file.
    pub(super) size: u64,
    /// Offset of the part.
    pub(super) offset: u64,
    /// Length of the part.
    pub(super) length: u64,
    pub(super) transfer: &'a Transfer,
}

impl FilePayload<'_> {
    /// Waits until the file can be opened: while a command has the root directory, a blob in a user's layout cannot.
    pub(super) async fn advance_to(&self) -> Result<Option<Pass>, RegistryError> {
        let path = self.path;
        Ok(gate::passed_for(path).await.map_err(failed_to("open", path))?)
    }

    /// Returns a body that reads the file and counts the sent bytes.
    pub(super) fn open(&self, activity: &Activity) -> Result<reqwest::Body, RegistryError> {
        let mut file = gated::open(self.path).map_err(failed_to("open", self.path))?;
        let found = file.metadata().map_err(failed_to("read the size of", self.path))?.len();
        if found != self.size {
            let problem = format!("the file has {found} bytes, its descriptor says {}", self.size);
            let changed = io::Error::new(io::ErrorKind::InvalidData, problem);
            return Err(failed_to("upload", self.path)(changed).into());
        }
        file.seek(io::SeekFrom::Start(self.offset)).map_err(failed_to("read", self.path))?;
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_CHUNKS);
        tokio::spawn(read_pieces(tokio::fs::File::from_std(file), self.path.to_owned(), self.length, sender));
        let (transfer, activity) = (self.transfer.clone(), activity.clone());
        let on_sent = Box::new(move |bytes| {
            transfer.add(bytes);
            activity.touch();
        });
        Ok(reqwest::Body::wrap(StreamedBody { receiver, remaining: Some(self.length), on_sent }))
    }
}

/// A file that is sent while it is being written, from its beginning for each attempt.
pub(super) struct GrowingPayload<'a> {
    pub(super) growing: &'a Arc<GrowingFile>,
    pub(super) state: &'a Arc<StreamState>,
}

impl GrowingPayload<'_> {
    /// Returns a body that ends when the file is complete or a stop is requested. It never fails by itself: some
    /// registries keep an upload open as long as its last request is unanswered.
    pub(super) fn open(&self, activity: &Activity, meter: &Arc<Meter>) -> reqwest::Body {
        let content = GrowingFileReader::new(Arc::clone(self.growing));
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_CHUNKS);
        let state = Arc::clone(self.state);
        tokio::task::spawn_blocking(move || read_growing(&content, &state, &sender));
        self.state.sent.store(0, Ordering::Relaxed);
        let (state, activity, meter) = (Arc::clone(self.state), activity.clone(), Arc::clone(meter));
        let on_sent = Box::new(move |bytes| {
            state.sent.fetch_add(bytes, Ordering::Relaxed);
            meter.sent(bytes);
            activity.touch();
        });
        reqwest::Body::wrap(StreamedBody { receiver, remaining: None, on_sent })
    }
}

/// Waits for content in a separate thread, so that the writer never waits for the connection.
fn read_growing(content: &GrowingFileReader, state: &StreamState, sender: &mpsc::Sender<io::Result<Bytes>>) {
    let mut offset = 0;
    while !state.stopped.load(Ordering::Relaxed) {
        let mut piece = BytesMut::zeroed(CHUNK_BYTES);
        match content.read_at(&mut piece, offset) {
            Ok(0) => return,
            Ok(read) => {
                offset += read as u64;
                piece.truncate(read);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::debug!("the stream ends: {error}");
                return;
            }
        }
        // The receiver is dropped when the request has failed; the rest is then not needed.
        if sender.blocking_send(Ok(piece.freeze())).is_err() {
            return;
        }
    }
}

/// The state that a stream shares with the code that waits for it.
#[derive(Debug, Default)]
pub struct StreamState {
    sent: AtomicU64,
    stopped: AtomicBool,
}

impl StreamState {
    /// Returns the number of bytes sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Requests the stream to stop.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

async fn read_pieces(mut file: tokio::fs::File, path: PathBuf, size: u64, sender: mpsc::Sender<io::Result<Bytes>>) {
    let mut remaining = size;
    while remaining > 0 {
        let mut piece = BytesMut::with_capacity(CHUNK_BYTES);
        let result = match (&mut file).take(remaining.min(CHUNK_BYTES as u64)).read_buf(&mut piece).await {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} ends {remaining} bytes early", path.display()),
            )),
            Ok(read) => {
                remaining = remaining.saturating_sub(read as u64);
                Ok(piece.freeze())
            }
            Err(error) => Err(error),
        };
        let failed = result.is_err();
        // The receiver is dropped when the request has failed; the rest is then not needed.
        if sender.send(result).await.is_err() || failed {
            return;
        }
    }
}

struct StreamedBody {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    /// The remaining bytes, if known.
    remaining: Option<u64>,
    /// Called with the number of bytes sent.
    on_sent: Box<dyn Fn(u64) + Send + Sync>,
}

impl Body for StreamedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.receiver.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Some(Ok(piece))) => {
                let bytes = piece.len() as u64;
                self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(bytes));
                (self.on_sent)(bytes);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == Some(0)
    }
}

/// The time at which bytes were last sent, to distinguish a slow upload from a dead one.
#[derive(Debug, Clone)]
pub(super) struct Activity {
    started: Instant,
    last: Arc<AtomicU64>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), last: Arc::new(AtomicU64::new(0)) }
    }

    fn touch(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    fn idle(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Waits for `future` as long as no pause in the activity is longer than `limit`; otherwise returns the pause.
    pub(super) async fn limit<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, Duration> {
        let mut future = std::pin::pin!(future);
        loop {
            let left = limit.saturating_sub(self.idle());
            if left.is_zero() {
                return Err(limit);
            }
            if let Ok(output) = tokio::time::timeout(left, future.as_mut()).await {
                return Ok(output);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_ends_the_wait_and_activity_prolongs_it() {
        let limit = Duration::from_millis(60);
        let quiet = Activity::new();
        assert!(quiet.limit(limit, std::future::pending::<()>()).await.is_err());
        let busy = Activity::new();
        let work = async {
            for _ in 0..6 {
                tokio::time::sleep(limit / 3).await;
                busy.touch();
            }
        };
        assert!(busy.limit(limit, work).await.is_ok());
    }
}
