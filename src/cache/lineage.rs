//! Which commands led to the files that a step starts from.
//!
//! A command run twice need not make the same files: it may ask a server for the newest version of something. Two builds that
//! fill one cache side by side can therefore leave the layer of one's first step and of the other's second under the keys
//! of the same Dockerfile, and an image with both would be one that nobody built. So an entry says what its step was made
//! on: the events before it, which are the layers that commands made, here and in the stages that files were copied from. A
//! step is taken from the cache only on top of the very events it was made on. COPY of the same files makes the same
//! files, and is no event.

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
    /// No command has run.
    pub fn start() -> Self {
        Self(Digest::sha256_of(b"nothing has run"))
    }

    /// One more event: a layer that a command made, or the end of another lineage.
    #[must_use]
    pub fn after_event(&self, event: &Digest) -> Self {
        Self(Digest::sha256_of(format!("{} {event}", self.0).as_bytes()))
    }

    /// What an entry says of a step that was carried out on `self`: what it started from, which is nothing for one that stands
    /// alone, and what it led to. `sources` are the lineages of the stages whose files it took.
    pub fn span_of_step(&self, action: &Action, sources: &[Self], diff_id: &Digest) -> (Self, Self) {
        let before = if is_base_independent(action) { Self::start() } else { self.clone() };
        let after = before.after_step(action, sources, diff_id);
        (before, after)
    }

    /// What a stage is at behind a step that starts from `self` and of which an entry says `after`.
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
