//! Tracks which commands led to the files that a step starts from.
//!
//! A command that runs twice need not make the same files: it may download the newest version of something. Two builds
//! that fill a cache at the same time can therefore store the layer of one's first step and of the other's second under
//! the keys of the same Dockerfile. An image with both would match no build. So an entry records what its step was made
//! on: the preceding events, which are the layers of commands, in its own stage and in stages that files were copied
//! from. A step is taken from the cache only on top of the same events. A `COPY` of the same files makes the same
//! files, so it is not an event.

use std::fmt;
use std::str::FromStr;

use crate::image::{Digest, DigestError};
use crate::plan::Action;

use super::key_inputs::is_base_independent;

pub use super::coherence::consistent_subset;

/// The events before a step, as one digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage(pub(super) Digest);

impl Lineage {
    /// Returns the lineage without events.
    pub fn start() -> Self {
        Self(Digest::sha256_of(b"nothing has run"))
    }

    /// Returns the lineage with one more event: the layer of a command, or the end of a different lineage.
    #[must_use]
    pub fn after_event(&self, event: &Digest) -> Self {
        Self(Digest::sha256_of(format!("{} {event}", self.0).as_bytes()))
    }

    /// Returns the lineages before and after a step that was executed on `self`. An independent step starts from the
    /// empty lineage. `sources` are the lineages of the stages that it copied from.
    pub fn span_of_step(&self, action: &Action, sources: &[Self], diff_id: &Digest) -> (Self, Self) {
        let before = if is_base_independent(action) { Self::start() } else { self.clone() };
        let after = before.after_step(action, sources, diff_id);
        (before, after)
    }

    /// Returns the lineage of the stage after a step on `self` whose entry says `after`.
    #[must_use]
    pub fn advance_past(&self, action: &Action, after: &Self) -> Self {
        match is_base_independent(action) {
            true if *after == Self::start() => self.clone(),
            true => self.after_event(&after.0),
            false => after.clone(),
        }
    }

    #[must_use]
    pub(super) fn after_step(&self, action: &Action, sources: &[Self], diff_id: &Digest) -> Self {
        let start = Self::start();
        let others = sources.iter().filter(|source| **source != start);
        let with_sources = others.fold(self.clone(), |lineage, source| lineage.after_event(&source.0));
        match action {
            Action::Run(_) => with_sources.after_event(diff_id),
            _ => with_sources,
        }
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Lineage {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self)
    }
}
