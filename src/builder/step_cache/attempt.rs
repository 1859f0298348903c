//! One attempt at a build with the hits of its cache. If a cached layer is rejected, a further attempt follows.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::cache::key_inputs::content_inputs;
use crate::cache::{CacheEntry, Files, Keys, Lineage};
use crate::executor::{BuiltLayer, CacheHits, CachedLayerError, ContentCache};
use crate::image::{Blob, BlobSource, Digest};
use crate::plan::{Action, StepId};

use super::lookup::StepCache;

/// An attempt, as the executor uses it.
pub(in crate::builder) struct Attempt<'c, 'a> {
    cache: &'c StepCache<'a>,
    /// The entries in use, by stage and step.
    entries: Vec<Vec<Option<CacheEntry>>>,
    state: Mutex<AttemptState>,
    executed: AtomicUsize,
}

/// The results of steps so far.
#[derive(Default)]
struct AttemptState {
    keys: HashMap<StepId, Keys>,
    /// The layers of steps that executed or were found by content.
    made: HashMap<StepId, Digest>,
    /// The lineage at the end of finished stages.
    ends: HashMap<usize, Lineage>,
}

impl<'c, 'a> Attempt<'c, 'a> {
    /// Uses the entries that are not rejected.
    pub(in crate::builder) fn new(cache: &'c StepCache<'a>) -> Self {
        Self { entries: cache.entries(), cache, state: Mutex::default(), executed: AtomicUsize::new(0) }
    }

    /// Returns the hits at the start of the attempt.
    pub(in crate::builder) fn hits(&self) -> CacheHits {
        self.cache.hits(&self.entries)
    }

    /// Returns the number of steps whose layer was made because the cache had none.
    pub(in crate::builder) fn executed(&self) -> usize {
        self.executed.load(Ordering::Relaxed)
    }

    /// Rejects a layer that turned out to be unusable. Returns `false` if it was rejected before.
    pub(in crate::builder) fn reject(&self, layer: &Digest) -> bool {
        self.cache.reject(layer)
    }

    /// Rejects all cached layers of an image that cannot be read. Returns `false` if there are none.
    pub(in crate::builder) fn reject_unusable(&self, layers: &[BuiltLayer]) -> bool {
        let used = self.used_layers();
        let mut any = false;
        for layer in layers.iter().filter(|layer| self.is_cached(&used, layer)) {
            let digest = &layer.blob.descriptor.digest;
            if let Err(error) = self.file(layer) {
                tracing::warn!("cached layer {digest}: cannot be used: {error}");
                any |= self.cache.reject(digest);
            }
        }
        any
    }

    fn used_layers(&self) -> BTreeSet<&Digest> {
        self.entries.iter().flatten().flatten().map(|entry| &entry.layer.digest).collect()
    }

    fn is_cached(&self, used: &BTreeSet<&Digest>, layer: &BuiltLayer) -> bool {
        let digest = &layer.blob.descriptor.digest;
        used.contains(digest) || self.cache.is_found_by_content(digest)
    }

    fn state(&self) -> MutexGuard<'_, AttemptState> {
        self.state.lock()
    }

    /// Returns the lineage before a step of a running stage, or that of a finished stage.
    fn lineage(&self, state: &mut AttemptState, stage: usize, steps: Option<usize>) -> Lineage {
        if let (None, Some(end)) = (steps, state.ends.get(&stage)) {
            return end.clone();
        }
        let planned = &self.cache.env.plan.stages[stage];
        let mut lineage = match planned.parent() {
            Some(parent) => self.lineage(state, parent, None),
            None => Lineage::start(),
        };
        for (number, step) in planned.steps.iter().enumerate().take(steps.unwrap_or(planned.steps.len())) {
            let id = StepId { stage, step: number };
            lineage = match (&self.entries[stage][number], state.made.get(&id).cloned()) {
                (Some(entry), _) => lineage.advance_past(&step.action, &entry.after),
                (None, Some(diff_id)) => {
                    let (_, after) = lineage.span_of_step(&step.action, &self.sources(state, &step.action), &diff_id);
                    lineage.advance_past(&step.action, &after)
                }
                (None, None) => lineage,
            };
        }
        if steps.is_none() {
            state.ends.insert(stage, lineage.clone());
        }
        lineage
    }

    fn sources(&self, state: &mut AttemptState, action: &Action) -> Vec<Lineage> {
        action.stage_dependencies().map(|stage| self.lineage(state, stage, None)).collect()
    }

    /// Returns the lineages before and after a step.
    fn span_of_step(&self, state: &mut AttemptState, id: StepId, diff_id: &Digest) -> (Lineage, Lineage) {
        let action = &self.cache.env.plan.step(id).action;
        let before = self.lineage(state, id.stage, Some(id.step));
        before.span_of_step(action, &self.sources(state, action), diff_id)
    }
}

impl ContentCache for Attempt<'_, '_> {
    fn lookup(&self, id: StepId, below: &[Digest], sources: Vec<Option<Files>>) -> Option<BuiltLayer> {
        let cache = self.cache;
        let inputs = cache.inputs.get(&id)?;
        // Files of build contexts were known before; files of stages are known now.
        let files = sources.into_iter().enumerate();
        let files = files.map(|(origin, read)| read.or_else(|| inputs.files.get(origin).cloned().flatten())).collect();
        let key_inputs = content_inputs(cache.env.plan, id, cache.env.format, below, files, &inputs.versions);
        let keys = Keys { definition: cache.definition(id), content: key_inputs.map(|key_inputs| key_inputs.key()) };
        self.state().keys.insert(id, keys.clone());
        let key = keys.content.clone()?;
        if !cache.request.read || !cache.is_cached_kind(id, &cache.env.plan.step(id).action) {
            return None;
        }
        let found = cache.env.session.runtime.block_on(cache.cache.find(std::slice::from_ref(&key))).pop()?;
        let entry = cache.hit(id, &key, found)?;
        if cache.is_rejected(&entry.layer.digest) {
            return None;
        }
        let mut state = self.state();
        let (before, after) = self.span_of_step(&mut state, id, &entry.diff_id);
        state.made.insert(id, entry.diff_id.clone());
        drop(state);
        cache.add_found_by_content(&entry.layer.digest);
        let layer = cache.layer_of(&entry);
        if cache.writes() {
            // The next build of this Dockerfile finds the entry by definition.
            let entry = CacheEntry { keys, before, after, ..entry };
            cache.writer.write(&entry, layer.blob.clone(), &cache.platform(id));
        }
        Some(layer)
    }

    fn record(&self, id: StepId, layer: &BuiltLayer) {
        let cache = self.cache;
        self.executed.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let (before, after) = self.span_of_step(&mut state, id, &layer.diff_id);
        state.made.insert(id, layer.diff_id.clone());
        let keys = state.keys.get(&id).cloned();
        drop(state);
        let keys = keys.unwrap_or_else(|| Keys { definition: cache.definition(id), content: None });
        cache.check_versions(id);
        let is_cached_kind = cache.is_cached_kind(id, &cache.env.plan.step(id).action);
        if !cache.writes() || !is_cached_kind || keys.iter().next().is_none() {
            return;
        }
        let created = cache.env.session.now;
        let (descriptor, diff_id) = (layer.blob.descriptor.clone().into_oci(), layer.diff_id.clone());
        let entry = CacheEntry { keys, layer: descriptor.clone(), diff_id, created, before, after };
        let blob = Blob { descriptor, source: layer.blob.source.clone() };
        let platform = cache.platform(id);
        if cache.in_image.contains(&id.stage) {
            cache.writer.write_with_image(entry, blob, platform);
        } else {
            cache.writer.write(&entry, blob, &platform);
        }
    }

    fn file(&self, layer: &BuiltLayer) -> Result<PathBuf, CachedLayerError> {
        match &layer.blob.source {
            BlobSource::File(path) if !self.is_cached(&self.used_layers(), layer) => Ok(path.clone()),
            _ => {
                let session = self.cache.env.session;
                let file = self.cache.cache.file(&layer.blob.descriptor, &session.store);
                Ok(session.runtime.block_on(file)?)
            }
        }
    }
}
