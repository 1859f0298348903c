//! Fuzz target: the journal that a killed program left.

use super::directory::Directory;
use super::journal::Journal;
use crate::fuzzing::Scratch;

/// Any journal is read, or refused.
pub(crate) fn journal(input: &[u8]) {
    let scratch = Scratch::new();
    scratch.file("own-root.journal", input);
    let state = Directory::open(scratch.path()).expect("the directory");
    if let Ok(left) = Journal::left_in(state) {
        assert!(left.is_some());
    }
}
