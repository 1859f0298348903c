//! The state that a checkout's thread shares with the task that waits for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::diag::progress::Transfer;
use crate::fs::gate::Pass;

/// What the worker and the task that waits for it share: bytes received, the time of the last ones, and the wish to
/// stop.
#[derive(Clone)]
pub(super) struct Watch {
    shared: Arc<Shared>,
}

struct Shared {
    /// Keeps `/` the container's own while the library may open files.
    _pass: Pass,
    started: Instant,
    /// When something last arrived, in milliseconds after the start.
    last: AtomicU64,
    given_up: AtomicBool,
    parting: Notify,
    runtime: Handle,
    too_large: OnceLock<usize>,
    received: AtomicU64,
    transfer: Transfer,
}

impl Watch {
    pub(super) fn new(pass: Pass, runtime: Handle, transfer: Transfer) -> Self {
        let shared = Shared {
            _pass: pass,
            started: Instant::now(),
            last: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            parting: Notify::new(),
            runtime,
            too_large: OnceLock::new(),
            received: AtomicU64::new(0),
            transfer,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Notes that something arrived. Returns `false` if the worker should stop.
    pub(super) fn touch(&self) -> bool {
        let now = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.last.store(now, Ordering::Relaxed);
        !self.shared.given_up.load(Ordering::Relaxed)
    }

    /// Waits on the worker's thread for something on the network. Returns `None` if the worker should stop.
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.shared.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.given_up() => None,
                done = work => Some(done),
            }
        })
    }

    async fn given_up(&self) {
        while !self.shared.given_up.load(Ordering::Relaxed) {
            self.shared.parting.notified().await;
        }
    }

    /// Notes that one fetch has received `bytes` so far. Returns `false` if it should stop.
    pub(super) fn received(&self, bytes: usize, limit: usize) -> bool {
        let total = bytes as u64;
        let before = self.shared.received.swap(total, Ordering::Relaxed);
        self.shared.transfer.add(total.saturating_sub(before));
        if bytes > limit {
            // The error names the first limit that was exceeded.
            self.shared.too_large.get_or_init(|| limit);
            return false;
        }
        self.touch()
    }

    /// Returns the limit that was exceeded, if any.
    pub(super) fn too_large(&self) -> Option<usize> {
        self.shared.too_large.get().copied()
    }

    /// Returns how long ago something last arrived.
    pub(super) fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.shared.last.load(Ordering::Relaxed));
        self.shared.started.elapsed().saturating_sub(last)
    }

    /// Asks the worker to stop.
    pub(super) fn give_up(&self) {
        self.shared.given_up.store(true, Ordering::Relaxed);
        self.shared.parting.notify_one();
    }
}
