//! How much registries were asked.

use std::sync::atomic::{AtomicU64, Ordering};

/// Requests and bytes of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Requests to registries and to where they redirect; those to token servers excepted.
    pub requests: u64,
    /// Bytes of the answers, as they were announced.
    pub received: u64,
    /// Bytes of the requests.
    pub sent: u64,
}

/// Counts while tasks send.
#[derive(Debug, Default)]
pub(super) struct Meter {
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Meter {
    pub(super) fn request(&self, sent: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.sent.fetch_add(sent, Ordering::Relaxed);
    }

    /// Bytes of a request whose length was not known when it began.
    pub(super) fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn answer(&self, received: u64) {
        self.received.fetch_add(received, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Traffic {
        Traffic {
            requests: self.requests.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
        }
    }
}
