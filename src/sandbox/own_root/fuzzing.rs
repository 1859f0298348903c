//! Fuzz target: the journal of a killed program.

use super::directory::Directory;
use super::journal::Journal;
use crate::fuzzing::Scratch;

/// Reads any journal, or refuses it.
pub(crate) fn journal(input: &[u8]) {
    let scratch = Scratch::new();
    scratch.file("own-root.journal", input);
    let state = Directory::open(scratch.path()).expect("the directory");
    if let Ok(left) = Journal::left_in(state) {
        assert!(left.is_some());
    }
}
