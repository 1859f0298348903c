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
use crate::plan::{Action, Plan};

use super::entry::Entry;
use super::recipe::stands_alone;

/// The events before a step, as one digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage(Digest);

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
    pub fn around_step(&self, action: &Action, sources: &[Self], diff_id: &Digest) -> (Self, Self) {
        let before = if stands_alone(action) { Self::start() } else { self.clone() };
        let after = before.after_step(action, sources, diff_id);
        (before, after)
    }

    /// What a stage is at behind a step that starts from `self` and of which an entry says `after`.
    #[must_use]
    pub fn behind(&self, action: &Action, after: &Self) -> Self {
        match stands_alone(action) {
            true if *after == Self::start() => self.clone(),
            true => self.after_event(&after.0),
            false => after.clone(),
        }
    }

    #[must_use]
    fn after_step(&self, action: &Action, sources: &[Self], diff_id: &Digest) -> Self {
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

/// Of entries that were found for a plan's steps, those that hang together, by stage and step.
///
/// A step that has no entry and can be carried out again to the same effect (COPY of files that are the same by the key, WORKDIR)
/// breaks nothing. Behind a command that has to run again only steps that stand alone are left: what comes of it is not
/// known before.
pub fn coherent(plan: &Plan, found: &[Vec<Option<Entry>>]) -> Vec<Vec<Option<Entry>>> {
    // What each stage ends with, where that is certain.
    let mut ends: Vec<Option<Lineage>> = Vec::new();
    let start = Lineage::start();
    let mut all = Vec::new();
    for (stage, found) in plan.stages.iter().zip(found) {
        let mut state = match stage.parent() {
            Some(parent) => ends[parent].clone(),
            None => Some(Lineage::start()),
        };
        let mut kept = Vec::new();
        for (step, entry) in stage.steps.iter().zip(found) {
            let action = &step.action;
            let sources = action.needs().map(|stage| ends[stage].clone());
            let sources: Option<Vec<Lineage>> = sources.collect();
            let fits = |entry: &&Entry| {
                let before = if stands_alone(action) { Some(&start) } else { state.as_ref() };
                // A stage that left nothing in the cache cannot contradict.
                let after = sources
                    .as_ref()
                    .is_none_or(|sources| entry.before.after_step(action, sources, &entry.diff_id) == entry.after);
                before == Some(&entry.before) && after
            };
            let entry = entry.as_ref().filter(fits).cloned();
            state = match (state, &entry, action) {
                (state, None, Action::Configure) => state,
                (Some(state), Some(entry), _) => Some(state.behind(action, &entry.after)),
                (Some(state), None, Action::Copy(_) | Action::Workdir(_)) => sources.map(|sources| {
                    let (_, after) = state.around_step(action, &sources, &start.0);
                    state.behind(action, &after)
                }),
                _ => None,
            };
            kept.push(entry);
        }
        ends.push(state);
        all.push(kept);
    }
    all
}
