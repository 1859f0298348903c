//! Measures the disk space of a build.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// The bytes of files by path, and their peak.
#[derive(Debug, Default)]
pub(super) struct DiskUse(Mutex<DiskSizes>);

#[derive(Debug, Default)]
struct DiskSizes {
    places: HashMap<PathBuf, u64>,
    now: u64,
    peak: u64,
}

impl DiskUse {
    /// Records that the files at `place` have `bytes` now, instead of the previous size.
    pub(super) fn set(&self, place: &Path, bytes: u64) {
        let mut state = self.0.lock();
        let before = state.places.insert(place.to_owned(), bytes).unwrap_or(0);
        state.now = state.now.saturating_add(bytes).saturating_sub(before);
        state.peak = state.peak.max(state.now);
    }

    pub(super) fn peak(&self) -> u64 {
        self.0.lock().peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_largest_total() {
        let disk = DiskUse::default();
        disk.set(Path::new("a"), 10);
        disk.set(Path::new("b"), 5);
        disk.set(Path::new("a"), 2);
        disk.set(Path::new("c"), 7);
        assert_eq!(disk.peak(), 15);
        disk.set(Path::new("c"), 9);
        assert_eq!(disk.peak(), 16);
    }
}
