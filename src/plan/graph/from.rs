//! Finds the words with which instructions name the sources of their files.

use crate::dockerfile::ast::{Instruction, Kind, Word};
use crate::dockerfile::mount::MountFlag;

/// A `from`: of a COPY, which may be a stage's number, or of a mount.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) word: &'a Word,
    pub(super) numbered: bool,
    pub(super) verb: &'static str,
}

pub(super) fn origins(instruction: &Instruction) -> Vec<Origin<'_>> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().map(|word| Origin { word, numbered: true, verb: "copy" }).collect(),
        Kind::Run(run) => {
            let words = run.mounts.iter().filter_map(MountFlag::from);
            words.map(|word| Origin { word, numbered: false, verb: "mount" }).collect()
        }
        _ => Vec::new(),
    }
}
