//! Remembers how large a request to a registry may be, as uploads find out.

use std::sync::atomic::{AtomicU64, Ordering};

/// The first chunk size after a request that was too large.
const FIRST_CHUNK: u64 = 16 << 20;
/// Smaller requests are not refused for their size.
const MIN_CHUNK: u64 = 64 << 10;

/// The largest request that a registry accepts; unknown at first.
#[derive(Debug, Default)]
pub(super) struct RequestLimit(AtomicU64);

impl RequestLimit {
    pub(super) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// Lowers the limit after a request of `refused` bytes was too large. Returns false if smaller ones make no sense.
    pub(super) fn lower(&self, refused: u64) -> bool {
        if refused <= MIN_CHUNK {
            return false;
        }
        let mut chunk = FIRST_CHUNK;
        while chunk >= refused {
            chunk /= 2;
        }
        // A concurrent upload may have found a lower limit.
        if self.get().is_none_or(|known| known > chunk) {
            self.0.store(chunk, Ordering::Relaxed);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_shrink_down_to_a_minimum() {
        let limit = RequestLimit::default();
        assert_eq!(limit.get(), None);
        assert!(limit.lower(100 << 20));
        assert_eq!(limit.get(), Some(FIRST_CHUNK));
        assert!(limit.lower(FIRST_CHUNK));
        assert_eq!(limit.get(), Some(FIRST_CHUNK / 2));
        assert!(limit.lower(100 << 20), "another upload, which did not know");
        assert_eq!(limit.get(), Some(FIRST_CHUNK / 2));
        assert!(limit.lower(2 * MIN_CHUNK));
        assert!(!limit.lower(MIN_CHUNK) && !limit.lower(0));
        assert_eq!(limit.get(), Some(MIN_CHUNK));
    }
}
