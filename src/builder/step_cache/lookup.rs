//! Looks up all steps of a plan by their definition keys, before anything runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::builder::request::CacheRequest;
use crate::cache::key_inputs::definition_inputs;
use crate::cache::lineage::consistent_subset;
use crate::cache::{BaseConfigurations, CacheEntry, Definitions, Inputs, Key, LayerCache, Miss, Record};
use crate::diag::{interrupt, with_causes};
use crate::executor::{BuiltLayer, CacheHits};
use crate::image::{Blob, Digest, Platform};
use crate::plan::{Action, Step, StepId};

use super::environment::Environment;
use super::inputs::InputReader;
use super::writer::EntryWriter;

/// The cache of one build.
pub(in crate::builder) struct StepCache<'a> {
    pub(super) env: Environment<'a>,
    pub(super) request: &'a CacheRequest,
    pub(super) cache: LayerCache,
    pub(super) inputs: HashMap<StepId, Inputs>,
    definitions: Definitions,
    /// All entries that were found, whether they fit together or not.
    found: Vec<Vec<Option<CacheEntry>>>,
    /// The stages whose layers are part of the image.
    pub(super) in_image: BTreeSet<usize>,
    record: Record,
    last: Option<Record>,
    layers: Mutex<CachedLayers>,
    pub(super) writer: EntryWriter,
    warnings: Warnings,
    /// A remote source no longer has the version in the keys, so nothing more is written.
    outdated: AtomicBool,
}

/// Layers of the cache that attempts have used.
#[derive(Default)]
struct CachedLayers {
    /// Their blobs turned out to be unusable.
    rejected: BTreeSet<Digest>,
    found_by_content: BTreeSet<Digest>,
}

/// The problems of the cache that have been reported. Each is reported once.
#[derive(Default)]
struct Warnings {
    /// It cannot be read or written.
    unusable: Arc<AtomicBool>,
    /// It has entries without a valid authentication code.
    untrusted: AtomicBool,
}

impl<'a> StepCache<'a> {
    /// Computes the definition keys of all steps and looks them up.
    pub(in crate::builder) fn open(request: &'a CacheRequest, env: Environment<'a>) -> Self {
        let cache = env.bases.cache().clone();
        if request.write {
            cache.location().remove_leftovers();
        }
        let mut inputs = HashMap::new();
        let reader = InputReader::new(&env);
        let definitions = definition_inputs(env.plan, env.format, &mut |id| {
            let read = reader.inputs(id)?;
            inputs.insert(id, read.clone());
            Some(read)
        });
        let warnings = Warnings::default();
        let mut cache = Self {
            found: env.plan.stages.iter().map(|stage| vec![None; stage.steps.len()]).collect(),
            last: None,
            layers: Mutex::default(),
            writer: EntryWriter::new(&env, cache.clone(), Arc::clone(&warnings.unusable)),
            warnings,
            outdated: AtomicBool::new(false),
            request,
            cache,
            inputs,
            record: Record::new(env.plan, &definitions),
            definitions,
            in_image: env.plan.image_stages().collect(),
            env,
        };
        if request.read {
            cache.look_up();
        }
        cache
    }

    fn look_up(&mut self) {
        let Environment { plan, session, dockerfile, .. } = self.env;
        let requested: Vec<(StepId, Key)> = plan
            .steps()
            .filter(|(id, step)| self.is_cached_kind(*id, &step.action))
            .filter_map(|(id, _)| Some((id, self.definition(id)?)))
            .collect();
        let keys: Vec<Key> = requested.iter().map(|(_, key)| key.clone()).collect();
        let found = session.runtime.block_on(self.cache.find(&keys));
        for ((id, key), found) in requested.into_iter().zip(found) {
            self.found[id.stage][id.step] = self.hit(id, &key, found);
        }
        let is_missing = |(id, step): (StepId, &Step)| {
            self.is_cached_kind(id, &step.action) && self.found[id.stage][id.step].is_none()
        };
        // If the cache cannot be read, the last build's record cannot, either.
        if plan.steps().any(is_missing) && !self.warnings.unusable.load(Ordering::Relaxed) {
            let tag = Record::tag(plan, dockerfile);
            match session.runtime.block_on(self.cache.manifest(&tag)) {
                Ok(manifest) => self.last = manifest.map(|manifest| Record::read(&manifest)),
                Err(error) => tracing::debug!("the changes since the last build are not known: {error}"),
            }
        }
    }

    /// Returns the entry, if there is one. Otherwise logs the reason, and warns once about a cache that cannot be read.
    pub(super) fn hit(&self, id: StepId, key: &Key, found: Result<CacheEntry, Miss>) -> Option<CacheEntry> {
        let step = &self.env.plan.step(id).text;
        let location = self.cache.location();
        let miss = match found {
            Ok(entry) => {
                tracing::debug!("cache: {step}: {key} is layer {}", entry.layer.digest);
                return Some(entry);
            }
            Err(miss) => miss,
        };
        tracing::debug!("cache: {step}: {key}: {miss}");
        match miss {
            Miss::Unreadable(problem) if !self.warnings.unusable.swap(true, Ordering::Relaxed) => {
                tracing::warn!("the cache {location} cannot be read: {problem}");
            }
            Miss::Unauthentic(problem) if !self.warnings.untrusted.swap(true, Ordering::Relaxed) => {
                tracing::warn!("an entry of the cache {location} is ignored, as are others like it: {problem}");
            }
            _ => {}
        }
        None
    }

    /// Returns the entries that fit together, without those whose layers were rejected.
    pub(super) fn entries(&self) -> Vec<Vec<Option<CacheEntry>>> {
        let layers = self.layers();
        let mut found = self.found.clone();
        for entry in found.iter_mut().flatten() {
            if entry.as_ref().is_some_and(|entry| layers.rejected.contains(&entry.layer.digest)) {
                *entry = None;
            }
        }
        consistent_subset(self.env.plan, &found)
    }

    /// Returns these entries as hits, with the known reasons of misses.
    pub(super) fn hits(&self, entries: &[Vec<Option<CacheEntry>>]) -> CacheHits {
        let (mut layers, mut misses) = (BTreeMap::new(), BTreeMap::new());
        for (id, _) in self.env.plan.steps() {
            match &entries[id.stage][id.step] {
                Some(entry) => drop(layers.insert(id, self.layer_of(entry))),
                None => misses.extend(self.explain(id).map(|reason| (id, reason))),
            }
        }
        CacheHits { layers, misses }
    }

    /// Explains why a step has no entry, if something is known about it.
    fn explain(&self, id: StepId) -> Option<String> {
        let key_inputs = &self.definitions[id.stage];
        key_inputs[id.step].as_ref()?;
        let number = key_inputs[..id.step].iter().flatten().count();
        let stage = &self.env.plan.stages[id.stage];
        let changes = self.record.changes(self.last.as_ref()?, &stage.name, number)?;
        match self.is_cached_kind(id, &stage.steps[id.step].action) {
            true => Some(format!("not cached: {changes}")),
            // It executes in any case. The reason is interesting only if the step causes others to execute.
            false => changes.has_own().then(|| changes.to_string()),
        }
    }

    /// Rejects a layer that turned out to be unusable. Returns `false` if it was rejected before.
    pub(super) fn reject(&self, layer: &Digest) -> bool {
        let mut layers = self.layers();
        if !layers.rejected.insert(layer.clone()) {
            return false;
        }
        // If two layers are damaged, more may be, and each would cost one more attempt: reject all.
        if layers.rejected.len() > 1 {
            let found = self.found.iter().flatten().flatten().map(|entry| entry.layer.digest.clone());
            let all: Vec<Digest> = found.chain(layers.found_by_content.iter().cloned()).collect();
            layers.rejected.extend(all);
        }
        true
    }

    pub(super) fn is_rejected(&self, layer: &Digest) -> bool {
        self.layers().rejected.contains(layer)
    }

    pub(super) fn add_found_by_content(&self, layer: &Digest) {
        self.layers().found_by_content.insert(layer.clone());
    }

    pub(super) fn is_found_by_content(&self, layer: &Digest) -> bool {
        self.layers().found_by_content.contains(layer)
    }

    /// Reports whether the layer of such a step is written to the cache.
    pub(super) fn is_cached_kind(&self, id: StepId, action: &Action) -> bool {
        let in_image = self.in_image.contains(&id.stage);
        match action {
            Action::Configure => false,
            Action::Run(_) => self.request.run_layers,
            Action::Copy(_) => self.request.copy_layers.unwrap_or(in_image),
            // Its layer is tiny. It is cached if that saves unpacking a base.
            Action::Workdir(_) => in_image,
        }
    }

    pub(super) fn definition(&self, id: StepId) -> Option<Key> {
        self.definitions[id.stage][id.step].as_ref().map(crate::cache::KeyInputs::key)
    }

    pub(super) fn layer_of(&self, entry: &CacheEntry) -> BuiltLayer {
        let blob = Blob { descriptor: entry.layer.clone(), source: self.cache.source(&entry.layer) };
        BuiltLayer { blob, diff_id: entry.diff_id.clone() }
    }

    pub(super) fn platform(&self, id: StepId) -> Platform {
        self.env.plan.stages[id.stage].config.platform()
    }

    /// Reports whether layers are still written: not after a remote source has changed.
    pub(super) fn writes(&self) -> bool {
        self.request.write && !self.outdated.load(Ordering::Relaxed)
    }

    /// Detects that a source which the step fetched has changed since its key was computed.
    pub(super) fn check_versions(&self, id: StepId) {
        let (Action::Copy(copy), Some(inputs)) = (&self.env.plan.step(id).action, self.inputs.get(&id)) else { return };
        let versions = copy.remotes.iter().filter_map(|(number, source)| Some((source, inputs.versions.get(number)?)));
        let changed = versions.into_iter().find(|(source, version)| !self.env.remotes.is_unchanged(source, version));
        if let Some((source, _)) = changed
            && !self.outdated.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("{source} changed during the build: no more layers are written to the cache");
        }
    }

    /// Waits until everything is written. `pushed` says whether the image was pushed, `executed` is the number of steps
    /// whose layer was made. After a signal, nothing more is written.
    pub(in crate::builder) fn finish(&self, pushed: bool, executed: usize) {
        self.writer.release(pushed);
        if pushed && self.writes() && interrupt::requested().is_none() {
            self.write_records(executed > 0);
        }
        self.writer.finish();
    }

    /// Writes the records of this build that the cache does not have.
    fn write_records(&self, is_new: bool) {
        let Environment { plan, bases, dockerfile, session, .. } = self.env;
        let platform = plan.stages[plan.target].config.platform();
        let record = is_new.then(|| (Record::tag(plan, dockerfile), self.record.to_image(&platform, session.now)));
        let used = BaseConfigurations::new(&plan.images);
        let is_missing =
            !used.is_empty() && session.runtime.block_on(bases.read()).map_or(is_new, |kept| !used.are_in(kept));
        let used = is_missing.then(|| (bases.tag().to_owned(), used.to_image(&platform, session.now)));
        for (tag, image) in record.into_iter().chain(used) {
            match image {
                Ok(image) => self.writer.write_image(image, vec![tag]),
                Err(error) => tracing::debug!("{}", with_causes(&error)),
            }
        }
    }

    fn layers(&self) -> MutexGuard<'_, CachedLayers> {
        self.layers.lock()
    }
}
