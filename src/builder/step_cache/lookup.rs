//! The cache before anything runs: the definition keys of all steps, and what was found under them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::builder::request::CacheRequest;
use crate::cache::key_inputs::definition_keys;
use crate::cache::lineage::consistent_subset;
use crate::cache::{BaseConfigurations, Definitions, Entry, Inputs, Key, LayerCache, Miss, Record};
use crate::diag::{interrupt, with_causes};
use crate::executor::{BuiltLayer, CacheHits};
use crate::image::{Blob, Digest, Platform};
use crate::plan::{Action, Step, StepId};

use super::environment::Environment;
use super::inputs::Reader;
use super::writer::Writer;

/// The cache of one build.
pub(in crate::builder) struct StepCache<'a> {
    pub(super) env: Environment<'a>,
    pub(super) request: &'a CacheRequest,
    pub(super) cache: LayerCache,
    pub(super) inputs: HashMap<StepId, Inputs>,
    definitions: Definitions,
    /// Everything that was found, whether it fits together or not.
    found: Vec<Vec<Option<Entry>>>,
    /// The stages whose layers are part of the image.
    pub(super) in_image: BTreeSet<usize>,
    record: Record,
    last: Option<Record>,
    layers: Mutex<CachedLayers>,
    pub(super) writer: Writer,
    warnings: Warnings,
    /// A remote source is another version by now than the keys say: nothing more is written.
    outdated: AtomicBool,
}

/// Layers of the cache that attempts have come across.
#[derive(Default)]
struct CachedLayers {
    /// Their blobs turned out to be unusable.
    rejected: BTreeSet<Digest>,
    found_by_content: BTreeSet<Digest>,
}

/// Which of the cache's problems have been reported: each once.
#[derive(Default)]
struct Warnings {
    /// It cannot be read or written.
    unusable: Arc<AtomicBool>,
    /// It has entries without the right authentication code.
    strangers: AtomicBool,
}

impl<'a> StepCache<'a> {
    /// Computes the definition keys of all steps and looks them up.
    pub(in crate::builder) fn open(request: &'a CacheRequest, env: Environment<'a>) -> Self {
        let cache = env.bases.cache().clone();
        if request.write {
            cache.location().remove_leftovers();
        }
        let mut inputs = HashMap::new();
        let reader = Reader::new(&env);
        let definitions = definition_keys(env.plan, env.format, &mut |id| {
            let read = reader.inputs(id)?;
            inputs.insert(id, read.clone());
            Some(read)
        });
        let warnings = Warnings::default();
        let mut cache = Self {
            found: env.plan.stages.iter().map(|stage| vec![None; stage.steps.len()]).collect(),
            last: None,
            layers: Mutex::default(),
            writer: Writer::new(&env, cache.clone(), Arc::clone(&warnings.unusable)),
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
        let wanted: Vec<(StepId, Key)> = plan
            .steps()
            .filter(|(id, step)| self.is_kept(*id, &step.action))
            .filter_map(|(id, _)| Some((id, self.definition(id)?)))
            .collect();
        let keys: Vec<Key> = wanted.iter().map(|(_, key)| key.clone()).collect();
        let found = session.runtime.block_on(self.cache.find(&keys));
        for ((id, key), found) in wanted.into_iter().zip(found) {
            self.found[id.stage][id.step] = self.hit(id, &key, found);
        }
        let is_missing =
            |(id, step): (StepId, &Step)| self.is_kept(id, &step.action) && self.found[id.stage][id.step].is_none();
        // A cache that cannot be read need not be asked for more.
        if plan.steps().any(is_missing) && !self.warnings.unusable.load(Ordering::Relaxed) {
            let tag = Record::tag(plan, dockerfile);
            match session.runtime.block_on(self.cache.manifest(&tag)) {
                Ok(manifest) => self.last = manifest.map(|manifest| Record::read(&manifest)),
                Err(error) => tracing::debug!("what changed since the last build is not known: {error}"),
            }
        }
    }

    /// The entry, if there is one; otherwise logs the reason, and warns once of a cache that cannot be read.
    pub(super) fn hit(&self, id: StepId, key: &Key, found: Result<Entry, Miss>) -> Option<Entry> {
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
            Miss::Unauthentic(problem) if !self.warnings.strangers.swap(true, Ordering::Relaxed) => {
                tracing::warn!(
                    "an entry of the cache {location} is not used, and neither are others like it: {problem}"
                );
            }
            _ => {}
        }
        None
    }

    /// The entries that fit together, without those whose layers were rejected.
    pub(super) fn entries(&self) -> Vec<Vec<Option<Entry>>> {
        let layers = self.layers();
        let mut found = self.found.clone();
        for entry in found.iter_mut().flatten() {
            if entry.as_ref().is_some_and(|entry| layers.rejected.contains(&entry.layer.digest)) {
                *entry = None;
            }
        }
        consistent_subset(self.env.plan, &found)
    }

    /// These entries as hits, and what is known of the misses.
    pub(super) fn hits(&self, entries: &[Vec<Option<Entry>>]) -> CacheHits {
        let (mut layers, mut misses) = (BTreeMap::new(), BTreeMap::new());
        for (id, _) in self.env.plan.steps() {
            match &entries[id.stage][id.step] {
                Some(entry) => drop(layers.insert(id, self.layer_of(entry))),
                None => misses.extend(self.explain(id).map(|reason| (id, reason))),
            }
        }
        CacheHits { layers, misses }
    }

    /// Why a step has no entry, where something can be said about it.
    fn explain(&self, id: StepId) -> Option<String> {
        let key_inputs = &self.definitions[id.stage];
        key_inputs[id.step].as_ref()?;
        let number = key_inputs[..id.step].iter().flatten().count();
        let stage = &self.env.plan.stages[id.stage];
        let changes = self.record.changes(self.last.as_ref()?, &stage.name, number)?;
        match self.is_kept(id, &stage.steps[id.step].action) {
            true => Some(format!("not cached: {changes}")),
            // It executes in any case, and is worth a word only where others have to because of it.
            false => changes.has_own().then(|| changes.to_string()),
        }
    }

    /// Rejects a layer that cannot be used after all. `false` if it had been rejected before.
    pub(super) fn reject(&self, layer: &Digest) -> bool {
        let mut layers = self.layers();
        if !layers.rejected.insert(layer.clone()) {
            return false;
        }
        // Where one is damaged another may be, and each would cost one more attempt.
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

    /// Whether layers of such a step are kept in the cache.
    pub(super) fn is_kept(&self, id: StepId, action: &Action) -> bool {
        let in_image = self.in_image.contains(&id.stage);
        match action {
            Action::Configure => false,
            Action::Run(_) => self.request.run_layers,
            Action::Copy(_) => self.request.copy_layers.unwrap_or(in_image),
            // Its layer is as small as a layer can be: it is kept where that saves unpacking a base.
            Action::Workdir(_) => in_image,
        }
    }

    pub(super) fn definition(&self, id: StepId) -> Option<Key> {
        self.definitions[id.stage][id.step].as_ref().map(crate::cache::KeyInputs::key)
    }

    pub(super) fn layer_of(&self, entry: &Entry) -> BuiltLayer {
        let blob = Blob { descriptor: entry.layer.clone(), source: self.cache.source(&entry.layer) };
        BuiltLayer { blob, diff_id: entry.diff_id.clone() }
    }

    pub(super) fn platform(&self, id: StepId) -> Platform {
        self.env.plan.stages[id.stage].config.platform()
    }

    /// Whether layers are still written: until a remote source turns out to be another version than the keys say.
    pub(super) fn writes(&self) -> bool {
        self.request.write && !self.outdated.load(Ordering::Relaxed)
    }

    /// Notices where a source that the step fetched is another version than its key says.
    pub(super) fn check_versions(&self, id: StepId) {
        let (Action::Copy(copy), Some(inputs)) = (&self.env.plan.step(id).action, self.inputs.get(&id)) else { return };
        let versions = copy.remotes.iter().filter_map(|(number, source)| Some((source, inputs.versions.get(number)?)));
        let changed = versions.into_iter().find(|(source, version)| !self.env.remotes.is_still(source, version));
        if let Some((source, _)) = changed
            && !self.outdated.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("{source} was changed during the build: its layers are not kept in the cache from here on");
        }
    }

    /// Waits until everything is written. `pushed`: the image is where it was to go; `executed`: how many steps made a layer.
    /// After a signal nothing more is written.
    pub(in crate::builder) fn finish(&self, pushed: bool, executed: usize) {
        self.writer.release(pushed);
        if pushed && self.writes() && interrupt::requested().is_none() {
            self.write_records(executed > 0);
        }
        self.writer.finish();
    }

    /// Writes what the next build wants to know of this one and does not find in the cache.
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
