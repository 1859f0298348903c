//! Counts requests to registries and their bytes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers of requests and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Requests to registries and to the targets of redirects, without those to token servers.
    pub requests: u64,
    /// Bytes of the responses, as announced.
    pub received: u64,
    /// Bytes of the requests.
    pub sent: u64,
}

/// A counter that tasks share.
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

    /// Adds bytes of a request whose length was unknown at its start.
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
