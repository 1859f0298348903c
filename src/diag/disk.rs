//! How much of the disk a build takes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Bytes of files by the place they are in, and the most there were at once.
#[derive(Debug, Default)]
pub(super) struct DiskUse(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    places: HashMap<PathBuf, u64>,
    now: u64,
    peak: u64,
}

impl DiskUse {
    /// The files in `place` take `bytes` from now on, whatever they took before.
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
    fn the_peak_is_of_what_was_there_at_once() {
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
