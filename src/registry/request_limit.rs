//! How large a request to a registry may be, as uploads find out.

use std::sync::atomic::{AtomicU64, Ordering};

/// The first size of pieces, where one request turned out too large.
const FIRST_PIECE: u64 = 16 << 20;
/// Below this it is not the size that a server objects to.
const SMALLEST_PIECE: u64 = 64 << 10;

/// How large a request to a registry may be; nothing is known at first.
#[derive(Debug, Default)]
pub(super) struct RequestLimit(AtomicU64);

impl RequestLimit {
    pub(super) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// After a request of `refused` bytes was too large. False if smaller ones make no sense.
    pub(super) fn lower(&self, refused: u64) -> bool {
        if refused <= SMALLEST_PIECE {
            return false;
        }
        let mut piece = FIRST_PIECE;
        while piece >= refused {
            piece /= 2;
        }
        // Another upload may have found a smaller one meanwhile.
        if self.get().is_none_or(|known| known > piece) {
            self.0.store(piece, Ordering::Relaxed);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_smaller_until_it_makes_no_sense() {
        let limit = RequestLimit::default();
        assert_eq!(limit.get(), None);
        assert!(limit.lower(100 << 20));
        assert_eq!(limit.get(), Some(FIRST_PIECE));
        assert!(limit.lower(FIRST_PIECE));
        assert_eq!(limit.get(), Some(FIRST_PIECE / 2));
        assert!(limit.lower(100 << 20), "another upload, which did not know");
        assert_eq!(limit.get(), Some(FIRST_PIECE / 2));
        assert!(limit.lower(2 * SMALLEST_PIECE));
        assert!(!limit.lower(SMALLEST_PIECE) && !limit.lower(0));
        assert_eq!(limit.get(), Some(SMALLEST_PIECE));
    }
}
