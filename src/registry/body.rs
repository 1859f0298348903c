//! Request bodies: nothing, bytes, a file that is streamed in bounded pieces, or one that is still being written.

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

/// Size of a piece, and how many wait between the file and the connection.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

/// How long a response may take after the last byte of the request; registries that move an upload to an object store
/// answer late.
pub(super) const RESPONSE_LIMIT: Duration = Duration::from_secs(300);
/// The same for a file that is sent while it grows, where there is another way. Silence of who writes it counts, too: servers do
/// not wait longer either.
const ARRIVING_LIMIT: Duration = Duration::from_secs(60);

/// What a request carries.
pub(super) enum Payload<'a> {
    None,
    Bytes(Bytes),
    File(FilePayload<'a>),
    Arriving(ArrivingPayload<'a>),
}

impl Payload<'_> {
    /// How long nothing may move before the request is given up.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::None | Self::Bytes(_) | Self::File(_) => RESPONSE_LIMIT,
            Self::Arriving(_) => ARRIVING_LIMIT,
        }
    }
}

/// A file, or a part of one, to be uploaded; opened anew for each attempt.
pub(super) struct FilePayload<'a> {
    pub(super) path: &'a Path,
    /// Bytes of the whole file.
    pub(super) size: u64,
    /// Where the part begins.
    pub(super) offset: u64,
    /// Bytes of the part.
    pub(super) length: u64,
    pub(super) transfer: &'a Transfer,
}

impl FilePayload<'_> {
    /// Waits until the file can be opened: a blob of somebody's layout cannot while a command has the root directory.
    pub(super) async fn advance_to(&self) -> Result<Option<Pass>, RegistryError> {
        let path = self.path;
        Ok(gate::passed_for(path).await.map_err(failed_to("open", path))?)
    }

    /// A body that reads the file, counting what goes out.
    pub(super) fn open(&self, activity: &Activity) -> Result<reqwest::Body, RegistryError> {
        let mut file = gated::open(self.path).map_err(failed_to("open", self.path))?;
        let found = file.metadata().map_err(failed_to("read the size of", self.path))?.len();
        if found != self.size {
            let problem = format!("the file has {found} bytes, its descriptor says {}", self.size);
            let changed = io::Error::new(io::ErrorKind::InvalidData, problem);
            return Err(failed_to("upload", self.path)(changed).into());
        }
        file.seek(io::SeekFrom::Start(self.offset)).map_err(failed_to("read", self.path))?;
        let (sender, receiver) = mpsc::channel(PIECES);
        tokio::spawn(read_pieces(tokio::fs::File::from_std(file), self.path.to_owned(), self.length, sender));
        let (transfer, activity) = (self.transfer.clone(), activity.clone());
        let went_out = Box::new(move |bytes| {
            transfer.add(bytes);
            activity.touch();
        });
        Ok(reqwest::Body::wrap(StreamedBody { receiver, remaining: Some(self.length), went_out }))
    }
}

/// A file that is sent while it is being written, to its end; from its beginning for each attempt.
pub(super) struct ArrivingPayload<'a> {
    pub(super) growing: &'a Arc<GrowingFile>,
    pub(super) state: &'a Arc<StreamState>,
}

impl ArrivingPayload<'_> {
    /// A body that ends when the file is complete, or nothing more is to come. It never breaks off by itself: there are registries
    /// that do not let go of an upload whose last request they have not answered.
    pub(super) fn open(&self, activity: &Activity, meter: &Arc<Meter>) -> reqwest::Body {
        let content = GrowingFileReader::new(Arc::clone(self.growing));
        let (sender, receiver) = mpsc::channel(PIECES);
        let state = Arc::clone(self.state);
        tokio::task::spawn_blocking(move || read_arriving(&content, &state, &sender));
        self.state.sent.store(0, Ordering::Relaxed);
        let (state, activity, meter) = (Arc::clone(self.state), activity.clone(), Arc::clone(meter));
        let went_out = Box::new(move |bytes| {
            state.sent.fetch_add(bytes, Ordering::Relaxed);
            meter.sent(bytes);
            activity.touch();
        });
        reqwest::Body::wrap(StreamedBody { receiver, remaining: None, went_out })
    }
}

/// Waits for content in a thread of its own, so that the writer never waits for the connection.
fn read_arriving(content: &GrowingFileReader, state: &StreamState, sender: &mpsc::Sender<io::Result<Bytes>>) {
    let mut offset = 0;
    while !state.stopped.load(Ordering::Relaxed) {
        let mut piece = BytesMut::zeroed(PIECE);
        match content.read_at(&mut piece, offset) {
            Ok(0) => return,
            Ok(read) => {
                offset += read as u64;
                piece.truncate(read);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::debug!("nothing more is sent: {error}");
                return;
            }
        }
        // The receiver is gone when the request has failed; nobody needs the rest then.
        if sender.blocking_send(Ok(piece.freeze())).is_err() {
            return;
        }
    }
}

/// What a stream and who waits for it tell each other.
#[derive(Debug, Default)]
pub struct StreamState {
    sent: AtomicU64,
    stopped: AtomicBool,
}

impl StreamState {
    /// Bytes that have gone out.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Nobody wants the rest.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

async fn read_pieces(mut file: tokio::fs::File, path: PathBuf, size: u64, sender: mpsc::Sender<io::Result<Bytes>>) {
    let mut remaining = size;
    while remaining > 0 {
        let mut piece = BytesMut::with_capacity(PIECE);
        let result = match (&mut file).take(remaining.min(PIECE as u64)).read_buf(&mut piece).await {
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
        // The receiver is gone when the request has failed; nobody needs the rest then.
        if sender.send(result).await.is_err() || failed {
            return;
        }
    }
}

struct StreamedBody {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    /// Bytes that are still to come, where that is known.
    remaining: Option<u64>,
    /// Is told of bytes that go out.
    went_out: Box<dyn Fn(u64) + Send + Sync>,
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
                (self.went_out)(bytes);
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

/// When bytes last went out; tells a slow upload from a dead one.
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

    /// Waits for `future` as long as no pause in the activity is longer than `limit`; else gives the pause.
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
    async fn silence_ends_a_wait_and_activity_prolongs_it() {
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
