//! The layers of earlier builds, as the executor sees them, and those of this build on their way to later ones.
//!
//! Before the build the keys of all steps are written ([`inputs`]) and looked up side by side. What was found and fits
//! together decides which stages come to life at all. Layers that this build makes are written in the background
//! ([`writer`]).

mod inputs;
mod writer;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::runtime::Handle;

use crate::cache::lineage::coherent;
use crate::cache::recipe::{content, definitions};
use crate::cache::{
    BaseConfigurations, BlobStore, Clock, Definitions, Entry, Files, Inputs, Key, Keys, LayerCache, LayerFormat,
    Lineage, Miss, Record,
};
use crate::context::Context;
use crate::diag::{interrupt, with_causes};
use crate::executor::{BuiltLayer, KnownLayerError, KnownLayers, Position};
use crate::image::{Blob, BlobSource, Digest, Platform, Reference};
use crate::plan::{Action, Plan, Step};
use crate::registry::Client;

use super::known_bases::KnownBases;
use super::remotes::Remotes;
use super::request::CacheRequest;
use inputs::Reader;
use writer::Writer;

pub(super) use writer::{PATIENCE, write_to};

/// The steps of a plan with their positions.
pub(super) fn positions(plan: &Plan) -> impl Iterator<Item = (Position, &Step)> {
    plan.stages.iter().enumerate().flat_map(|(stage, planned)| {
        planned.steps.iter().enumerate().map(move |(step, action)| (Position { stage, step }, action))
    })
}

/// What a cache needs of the build.
pub(super) struct Surroundings<'a> {
    pub(super) plan: &'a Plan,
    pub(super) context: &'a Context,
    pub(super) named_contexts: &'a [Context],
    pub(super) remotes: &'a Remotes,
    pub(super) runtime: &'a Handle,
    pub(super) client: &'a Client,
    pub(super) store: &'a BlobStore,
    /// Counts as not there, should it lie in a context.
    pub(super) work_directory: &'a Path,
    /// The name of the Dockerfile.
    pub(super) dockerfile: &'a str,
    /// What the cache has of the last build's base images.
    pub(super) bases: &'a KnownBases,
    pub(super) destinations: &'a [Reference],
    pub(super) format: LayerFormat,
    /// Now, in seconds since 1970.
    pub(super) now: i64,
}

/// The cache of one build.
pub(super) struct StepCache<'a> {
    around: Surroundings<'a>,
    request: &'a CacheRequest,
    cache: LayerCache,
    format: LayerFormat,
    inputs: HashMap<Position, Inputs>,
    definitions: Definitions,
    /// Everything that was found, whether it fits together or not.
    found: Vec<Vec<Option<Entry>>>,
    choice: RwLock<Choice>,
    /// The stages whose layers are part of the image.
    in_image: BTreeSet<usize>,
    record: Record,
    last: Option<Record>,
    state: Mutex<State>,
    writer: Writer,
    /// Whether the cache's troubles have been told of.
    warned: Arc<AtomicBool>,
    /// Whether entries without the right code have been told of.
    told_of_strangers: AtomicBool,
    /// Something on the network is another version by now than the keys say: nothing more is kept.
    outdated: AtomicBool,
    carried_out: AtomicUsize,
}

/// Which of the entries are used.
struct Choice {
    entries: Vec<Vec<Option<Entry>>>,
    needed: Vec<bool>,
}

/// What is known of the steps so far.
#[derive(Default)]
struct State {
    keys: HashMap<Position, Keys>,
    /// The layers of steps that were carried out, or found by their content.
    made: HashMap<Position, Digest>,
    found_by_content: BTreeSet<Digest>,
    /// What finished stages end with.
    ends: HashMap<usize, Lineage>,
    /// Layers whose bytes turned out to be unusable.
    rejected: BTreeSet<Digest>,
}

impl<'a> StepCache<'a> {
    /// Writes the keys of all steps and looks them up.
    pub(super) fn open(request: &'a CacheRequest, around: Surroundings<'a>) -> Self {
        let plan = around.plan;
        let clock = Clock { lifetime: request.lifetime, now: around.now };
        let cache = LayerCache::new(around.client.clone(), request.place.clone(), clock)
            .authenticated(request.authenticator.clone());
        if request.write {
            request.place.remove_leftovers();
        }
        let format = around.format.clone();
        let mut inputs = HashMap::new();
        let reader = Reader::new(&around);
        let definitions = definitions(plan, &format, &mut |stage, step| {
            let position = Position { stage, step };
            let read = reader.inputs(position)?;
            inputs.insert(position, read.clone());
            Some(read)
        });
        let record = Record::new(plan, &definitions);
        let in_image = plan.image_stages().collect();
        let warned = Arc::default();
        let mut cache = Self {
            choice: RwLock::new(Choice { entries: Vec::new(), needed: Vec::new() }),
            found: plan.stages.iter().map(|stage| vec![None; stage.steps.len()]).collect(),
            last: None,
            state: Mutex::default(),
            writer: Writer::new(&around, request, Arc::clone(&warned)),
            warned,
            told_of_strangers: AtomicBool::new(false),
            outdated: AtomicBool::new(false),
            carried_out: AtomicUsize::new(0),
            around,
            request,
            cache,
            format,
            inputs,
            definitions,
            in_image,
            record,
        };
        cache.look_up();
        cache.choose();
        cache
    }

    /// Whether a step is not known, and its stage is wanted.
    pub(super) fn is_carried_out(&self, position: Position) -> bool {
        self.is_needed(position.stage) && self.entry(position).is_none()
    }

    /// How many steps make layers, and how many of those were carried out.
    pub(super) fn steps(&self) -> (usize, usize) {
        let all = positions(self.around.plan).filter(|(_, step)| step.action.makes_layer()).count();
        (all, self.carried_out.load(Ordering::Relaxed))
    }

    fn look_up(&mut self) {
        if !self.request.read {
            return;
        }
        let plan = self.around.plan;
        let wanted: Vec<(Position, Key)> = positions(plan)
            .filter(|(position, step)| self.is_kept(*position, &step.action))
            .filter_map(|(position, _)| Some((position, self.definition(position)?)))
            .collect();
        let keys: Vec<Key> = wanted.iter().map(|(_, key)| key.clone()).collect();
        let found = self.around.runtime.block_on(self.cache.find(&keys));
        for ((position, key), found) in wanted.into_iter().zip(found) {
            self.found[position.stage][position.step] = self.taken(position, &key, found);
        }
        let is_missing = |(position, step): (Position, &Step)| {
            self.is_kept(position, &step.action) && self.found[position.stage][position.step].is_none()
        };
        // What nobody can read by now need not be asked for more.
        if positions(plan).any(is_missing) && !self.warned.load(Ordering::Relaxed) {
            let tag = Record::tag(plan, self.around.dockerfile);
            match self.around.runtime.block_on(self.cache.manifest(&tag)) {
                Ok(manifest) => self.last = manifest.map(|manifest| Record::read(&manifest)),
                Err(error) => tracing::debug!("what changed since the last build is not known: {error}"),
            }
        }
    }

    /// The entry, if there is one; otherwise the reason is logged, and a cache that cannot be read told of.
    fn taken(&self, position: Position, key: &Key, found: Result<Entry, Miss>) -> Option<Entry> {
        let step = &self.around.plan.stages[position.stage].steps[position.step].text;
        match found {
            Ok(entry) => {
                tracing::debug!("cache: {step}: {key} is layer {}", entry.layer.digest);
                Some(entry)
            }
            Err(miss) => {
                tracing::debug!("cache: {step}: {key}: {miss}");
                match miss {
                    Miss::Unreadable(problem) if !self.warned.swap(true, Ordering::Relaxed) => {
                        tracing::warn!("the cache {} cannot be read: {problem}", self.cache.place());
                    }
                    Miss::Unauthentic(problem) if !self.told_of_strangers.swap(true, Ordering::Relaxed) => {
                        let place = self.cache.place();
                        tracing::warn!(
                            "an entry of the cache {place} is not used, and neither are others like it: {problem}"
                        );
                    }
                    _ => {}
                }
                None
            }
        }
    }

    /// Decides which entries are used, and which stages are wanted then.
    fn choose(&self) {
        let plan = self.around.plan;
        let state = self.state();
        let mut found = self.found.clone();
        for entry in found.iter_mut().flatten() {
            if entry.as_ref().is_some_and(|entry| state.rejected.contains(&entry.layer.digest)) {
                *entry = None;
            }
        }
        drop(state);
        let entries = coherent(plan, &found);
        let mut needed = vec![false; plan.stages.len()];
        // Whatever nobody else needs is there because it was asked for.
        let mut open: Vec<usize> = (0..plan.stages.len()).filter(|stage| !is_used(plan, *stage)).collect();
        open.push(plan.target);
        while let Some(stage) = open.pop() {
            if std::mem::replace(&mut needed[stage], true) {
                continue;
            }
            open.extend(plan.stages[stage].parent());
            let steps = plan.stages[stage].steps.iter().zip(&entries[stage]);
            open.extend(steps.filter(|(_, entry)| entry.is_none()).flat_map(|(step, _)| step.action.needs()));
        }
        *self.choice.write().unwrap_or_else(PoisonError::into_inner) = Choice { entries, needed };
    }

    /// Gives up a layer that cannot be used after all; what was made so far is forgotten. `false` if it had been given up before.
    pub(super) fn reject(&self, layer: &Digest) -> bool {
        let mut state = self.state();
        if !state.rejected.insert(layer.clone()) {
            return false;
        }
        // Where one is broken another may be, and each would cost one more beginning.
        if state.rejected.len() > 1 {
            let found = self.found.iter().flatten().flatten().map(|entry| entry.layer.digest.clone());
            let all: Vec<Digest> = found.chain(state.found_by_content.iter().cloned()).collect();
            state.rejected.extend(all);
        }
        state.keys.clear();
        state.made.clear();
        state.ends.clear();
        drop(state);
        self.carried_out.store(0, Ordering::Relaxed);
        self.choose();
        true
    }

    /// Gives up every layer among those of an image that cannot be had. `false`: all can, or there is none.
    pub(super) fn reject_unusable(&self, layers: &[BuiltLayer]) -> bool {
        let used: BTreeSet<Digest> = self.used_layers();
        let mut any = false;
        for layer in layers.iter().filter(|layer| used.contains(&layer.blob.descriptor.digest)) {
            if let Err(error) = self.file(layer) {
                tracing::warn!("the cached layer {} cannot be used: {error}", layer.blob.descriptor.digest);
                any |= self.reject(&layer.blob.descriptor.digest);
            }
        }
        any
    }

    fn used_layers(&self) -> BTreeSet<Digest> {
        let choice = self.choice.read().unwrap_or_else(PoisonError::into_inner);
        let known = choice.entries.iter().flatten().flatten().map(|entry| entry.layer.digest.clone());
        known.chain(self.state().found_by_content.iter().cloned()).collect()
    }

    /// Whether layers of such a step are kept in the cache.
    fn is_kept(&self, position: Position, action: &Action) -> bool {
        let in_image = self.in_image.contains(&position.stage);
        match action {
            Action::Configure => false,
            Action::Run(_) => self.request.run_layers,
            Action::Copy(_) => self.request.copy_layers.unwrap_or(in_image),
            // Its layer is as small as a layer can be: it is kept where that saves unpacking a base.
            Action::Workdir(_) => in_image,
        }
    }

    fn definition(&self, position: Position) -> Option<Key> {
        self.definitions[position.stage][position.step].as_ref().map(crate::cache::Recipe::key)
    }

    fn entry(&self, position: Position) -> Option<Entry> {
        let choice = self.choice.read().unwrap_or_else(PoisonError::into_inner);
        choice.entries[position.stage][position.step].clone()
    }

    fn layer_of(&self, entry: &Entry) -> BuiltLayer {
        let blob = Blob { descriptor: entry.layer.clone(), source: self.cache.source(&entry.layer) };
        BuiltLayer { blob, diff_id: entry.diff_id.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events before a step of a stage under way, or those of the whole stage.
    fn lineage(&self, state: &mut State, stage: usize, steps: Option<usize>) -> Lineage {
        if let (None, Some(end)) = (steps, state.ends.get(&stage)) {
            return end.clone();
        }
        let planned = &self.around.plan.stages[stage];
        let mut lineage = match planned.parent() {
            Some(parent) => self.lineage(state, parent, None),
            None => Lineage::start(),
        };
        for (number, step) in planned.steps.iter().enumerate().take(steps.unwrap_or(planned.steps.len())) {
            let position = Position { stage, step: number };
            lineage = match (self.entry(position), state.made.get(&position).cloned()) {
                (Some(entry), _) => lineage.behind(&step.action, &entry.after),
                (None, Some(diff_id)) => {
                    let (_, after) = lineage.around_step(&step.action, &self.sources(state, &step.action), &diff_id);
                    lineage.behind(&step.action, &after)
                }
                (None, None) => lineage,
            };
        }
        if steps.is_none() {
            state.ends.insert(stage, lineage.clone());
        }
        lineage
    }

    fn sources(&self, state: &mut State, action: &Action) -> Vec<Lineage> {
        action.needs().map(|stage| self.lineage(state, stage, None)).collect()
    }

    /// The events that a step starts from, and those it leads to.
    fn around_step(&self, state: &mut State, position: Position, diff_id: &Digest) -> (Lineage, Lineage) {
        let action = &self.around.plan.stages[position.stage].steps[position.step].action;
        let before = self.lineage(state, position.stage, Some(position.step));
        before.around_step(action, &self.sources(state, action), diff_id)
    }

    fn platform(&self, position: Position) -> Platform {
        self.around.plan.stages[position.stage].config.platform()
    }

    /// Whether layers may be kept: until something that a step fetched turns out to be another version than the keys say.
    fn may_keep(&self, position: Position, action: &Action) -> bool {
        let told = self.inputs.get(&position).map(|inputs| &inputs.versions);
        if let (Action::Copy(copy), Some(told)) = (action, told) {
            let pairs = copy.remotes.iter().filter_map(|(number, source)| Some((source, told.get(number)?)));
            if let Some((source, _)) =
                pairs.into_iter().find(|(source, told)| !self.around.remotes.is_still(source, told))
                && !self.outdated.swap(true, Ordering::Relaxed)
            {
                tracing::warn!(
                    "{source} was changed during the build: its layers are not kept in the cache from here on"
                );
            }
        }
        self.request.write && !self.outdated.load(Ordering::Relaxed)
    }

    /// Waits until everything is written. `pushed`: the image is where it was to go. After a signal nothing more is written.
    pub(super) fn finish(&self, pushed: bool) {
        self.writer.release(pushed);
        let is_kept = self.request.write && !self.outdated.load(Ordering::Relaxed);
        if pushed && is_kept && interrupt::requested().is_none() {
            self.write_records();
        }
        self.writer.finish();
    }

    /// Writes what the next build wants to know of this one and does not find in the cache.
    fn write_records(&self) {
        let Surroundings { plan, bases, dockerfile, now, runtime, .. } = self.around;
        let platform = plan.stages[plan.target].config.platform();
        let is_new = self.carried_out.load(Ordering::Relaxed) > 0;
        let record = is_new.then(|| (Record::tag(plan, dockerfile), self.record.to_image(&platform, now)));
        let used = BaseConfigurations::new(&plan.images);
        let is_missing = !used.is_empty() && runtime.block_on(bases.read()).map_or(is_new, |kept| !used.are_in(kept));
        let used = is_missing.then(|| (bases.tag().to_owned(), used.to_image(&platform, now)));
        for (tag, image) in record.into_iter().chain(used) {
            match image {
                Ok(image) => self.writer.write_image(image, vec![tag]),
                Err(error) => tracing::debug!("{}", with_causes(&error)),
            }
        }
    }
}

impl KnownLayers for StepCache<'_> {
    fn is_needed(&self, stage: usize) -> bool {
        self.choice.read().unwrap_or_else(PoisonError::into_inner).needed[stage]
    }

    fn known(&self, position: Position) -> Option<BuiltLayer> {
        self.entry(position).map(|entry| self.layer_of(&entry))
    }

    fn find(&self, position: Position, below: &[Digest], sources: Vec<Option<Files>>) -> Option<BuiltLayer> {
        let plan = self.around.plan;
        let inputs = self.inputs.get(&position)?;
        // What is read of a build context is known; of a stage only now.
        let files = sources.into_iter().enumerate();
        let files = files.map(|(origin, read)| read.or_else(|| inputs.files.get(origin).cloned().flatten())).collect();
        let at = (position.stage, position.step);
        let content = content(plan, at, &self.format, below, files, &inputs.versions).map(|recipe| recipe.key());
        let keys = Keys { definition: self.definition(position), content };
        self.state().keys.insert(position, keys.clone());
        let key = keys.content.clone()?;
        let action = &plan.stages[position.stage].steps[position.step].action;
        if !self.request.read || !self.is_kept(position, action) {
            return None;
        }
        let found = self.around.runtime.block_on(self.cache.find(std::slice::from_ref(&key))).pop()?;
        let entry = self.taken(position, &key, found)?;
        let mut state = self.state();
        if state.rejected.contains(&entry.layer.digest) {
            return None;
        }
        let (before, after) = self.around_step(&mut state, position, &entry.diff_id);
        state.made.insert(position, entry.diff_id.clone());
        state.found_by_content.insert(entry.layer.digest.clone());
        drop(state);
        let layer = self.layer_of(&entry);
        if self.request.write && !self.outdated.load(Ordering::Relaxed) {
            // The next build of this Dockerfile finds it before anything runs.
            let entry = Entry { keys, before, after, ..entry };
            self.writer.write(&entry, layer.blob.clone(), &self.platform(position));
        }
        Some(layer)
    }

    fn keep(&self, position: Position, layer: &BuiltLayer) {
        self.carried_out.fetch_add(1, Ordering::Relaxed);
        let action = &self.around.plan.stages[position.stage].steps[position.step].action;
        let mut state = self.state();
        let (before, after) = self.around_step(&mut state, position, &layer.diff_id);
        state.made.insert(position, layer.diff_id.clone());
        let keys = state.keys.get(&position).cloned();
        drop(state);
        let keys = keys.unwrap_or_else(|| Keys { definition: self.definition(position), content: None });
        if !self.may_keep(position, action) || !self.is_kept(position, action) || keys.iter().next().is_none() {
            return;
        }
        let created = self.around.now;
        let (descriptor, diff_id) = (layer.blob.descriptor.clone().into_oci(), layer.diff_id.clone());
        let entry = Entry { keys, layer: descriptor.clone(), diff_id, created, before, after };
        let blob = Blob { descriptor, source: layer.blob.source.clone() };
        let platform = self.platform(position);
        if self.in_image.contains(&position.stage) {
            self.writer.write_with_image(entry, blob, platform);
        } else {
            self.writer.write(&entry, blob, &platform);
        }
    }

    fn explain(&self, position: Position) -> Option<String> {
        let recipes = &self.definitions[position.stage];
        recipes[position.step].as_ref()?;
        let number = recipes[..position.step].iter().flatten().count();
        let stage = &self.around.plan.stages[position.stage];
        let changes = self.record.changes(self.last.as_ref()?, &stage.name, number)?;
        match self.is_kept(position, &stage.steps[position.step].action) {
            true => Some(format!("not cached: {changes}")),
            // It is carried out in any case, and worth a word only where others have to be because of it.
            false => changes.has_own().then(|| changes.to_string()),
        }
    }

    fn file(&self, layer: &BuiltLayer) -> Result<PathBuf, KnownLayerError> {
        let descriptor = &layer.blob.descriptor;
        let here = self.used_layers().contains(&descriptor.digest);
        match &layer.blob.source {
            BlobSource::File(path) if !here => Ok(path.clone()),
            _ => Ok(self.around.runtime.block_on(self.cache.file(descriptor, self.around.store))?),
        }
    }
}

/// Whether another stage needs a stage.
fn is_used(plan: &Plan, stage: usize) -> bool {
    plan.stages.iter().any(|other| other.needs().any(|needed| needed == stage))
}
