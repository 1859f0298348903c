//! The layers of earlier builds, as the executor sees them, and those of this build on their way to later ones.
//!
//! Before the build the keys of all steps are written and looked up side by side. What was found and fits together decides
//! which stages come to life at all. Layers that this build makes are written in the background; those that are pushed
//! with the image anyway wait for that, and are then mounted from its repository instead of being uploaded twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::cache::lineage::coherent;
use crate::cache::recipe::{content, definitions};
use crate::cache::{
    BlobStore, Clock, Definitions, Entry, Files, Inputs, Key, Keys, LayerCache, LayerCacheError, LayerFormat, Lineage,
    Miss, Place, Record,
};
use crate::context::Context;
use crate::diag::progress::Progress;
use crate::diag::{interrupt, with_causes};
use crate::executor::copy::{CopySource, KnownFiles};
use crate::executor::{BuiltLayer, KnownLayerError, KnownLayers, Position, files_of};
use crate::image::{Blob, BlobSource, Digest, Image, Reference};
use crate::plan::{Action, CopyFrom, Plan, Step};
use crate::push::{self, ExistingTags, PushError, Uploads};
use crate::registry::Client;
use crate::rootfs::Tree;

use super::remotes::Remotes;
use super::request::CacheRequest;

/// How many entries are written at once.
const PARALLEL_WRITES: usize = 4;
/// How often a write is tried: a build does not wait long for what it can do without.
pub(super) const PATIENCE: u32 = 2;

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
    /// Whether the stage's layers are part of the image.
    in_image: Vec<bool>,
    record: Record,
    last: Option<Record>,
    files: KnownFiles,
    state: Mutex<State>,
    writes: Mutex<Vec<JoinHandle<()>>>,
    /// Layers of the image, to be written when it has been pushed.
    waiting: Mutex<Vec<(Entry, Blob, Position)>>,
    permits: Arc<Semaphore>,
    warned: Arc<AtomicBool>,
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
        let cache = LayerCache::new(around.client.clone(), request.place.clone(), clock);
        let format = around.format.clone();
        let files = KnownFiles::default();
        let mut inputs = HashMap::new();
        let definitions = definitions(plan, &format, &mut |stage, step| {
            let position = Position { stage, step };
            let read = read_inputs(&around, position, &files)?;
            inputs.insert(position, read.clone());
            Some(read)
        });
        let record = Record::new(plan, &definitions);
        let in_image = stages_of_image(plan);
        let mut cache = Self {
            choice: RwLock::new(Choice { entries: Vec::new(), needed: Vec::new() }),
            found: plan.stages.iter().map(|stage| vec![None; stage.steps.len()]).collect(),
            last: None,
            state: Mutex::default(),
            writes: Mutex::default(),
            waiting: Mutex::default(),
            permits: Arc::new(Semaphore::new(PARALLEL_WRITES)),
            warned: Arc::default(),
            carried_out: AtomicUsize::new(0),
            around,
            request,
            cache,
            format,
            inputs,
            definitions,
            in_image,
            record,
            files,
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
                if let Miss::Unreadable(problem) = miss
                    && !self.warned.swap(true, Ordering::Relaxed)
                {
                    tracing::warn!("the cache {} cannot be read: {problem}", self.cache.place());
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
        let in_image = self.in_image[position.stage];
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

    fn write(&self, entry: &Entry, blob: Blob, position: Position) {
        let platform = self.around.plan.stages[position.stage].config.platform();
        match entry.to_image(blob, &platform) {
            Ok(image) => self.write_image(image, entry.keys.iter().map(ToString::to_string).collect()),
            Err(error) => tracing::warn!("a layer is not kept in the cache: {}", with_causes(&error)),
        }
    }

    /// Writes in the background. A cache that cannot be written is told of once, and fails no build.
    fn write_image(&self, image: Image, names: Vec<String>) {
        let (client, store) = (self.around.client.with_patience(PATIENCE), self.around.store.clone());
        let (permits, warned) = (Arc::clone(&self.permits), Arc::clone(&self.warned));
        let place = self.cache.place().clone();
        let task = self.around.runtime.spawn(async move {
            let Ok(_permit) = permits.acquire().await else { return };
            let existing = ExistingTags::KeepImmutable;
            if let Err(error) = write_to(&client, &place, image, names, existing, &store).await {
                if warned.swap(true, Ordering::Relaxed) {
                    tracing::debug!("the cache {place} cannot be written: {error}");
                } else {
                    tracing::warn!("the cache {place} cannot be written: {error}");
                }
            }
        });
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Waits until everything is written. `pushed`: the image is where it was to go. After a signal nothing more is written.
    pub(super) fn finish(&self, pushed: bool) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let stopped = interrupt::requested().is_some();
        for (entry, mut blob, position) in waiting.into_iter().filter(|_| !stopped) {
            if pushed
                && let Some(destination) = self.neighbour()
                && let BlobSource::File(file) = &blob.source
            {
                match self.around.store.adopt(&blob.descriptor, file) {
                    Ok(()) => blob.source = BlobSource::Registry(destination.clone()),
                    Err(error) => tracing::debug!("{}", with_causes(&error)),
                }
            }
            self.write(&entry, blob, position);
        }
        let is_new = self.carried_out.load(Ordering::Relaxed) > 0;
        if pushed && is_new && self.request.write && !stopped {
            let plan = self.around.plan;
            match self.record.to_image(&plan.stages[plan.target].config.platform(), self.around.now) {
                Ok(image) => self.write_image(image, vec![Record::tag(plan, self.around.dockerfile)]),
                Err(error) => tracing::debug!("{}", with_causes(&error)),
            }
        }
        let writes = std::mem::take(&mut *self.writes.lock().unwrap_or_else(PoisonError::into_inner));
        for write in writes {
            if stopped {
                write.abort();
            }
            if let Err(error) = self.around.runtime.block_on(write)
                && !error.is_cancelled()
            {
                tracing::warn!("writing into the cache {} ended early: {error}", self.cache.place());
            }
        }
    }

    /// A destination in the cache's registry, from whose repository layers can be mounted.
    fn neighbour(&self) -> Option<&Reference> {
        let Place::Repository(repository) = self.cache.place() else { return None };
        self.around.destinations.iter().find(|destination| destination.registry == repository.registry)
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
        if self.request.write {
            // The next build of this Dockerfile finds it before anything runs.
            self.write(&Entry { keys, before, after, ..entry }, layer.blob.clone(), position);
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
        if !self.request.write || !self.is_kept(position, action) || keys.iter().next().is_none() {
            return;
        }
        let created = self.around.now;
        let (descriptor, diff_id) = (layer.blob.descriptor.clone().into_oci(), layer.diff_id.clone());
        let entry = Entry { keys, layer: descriptor.clone(), diff_id, created, before, after };
        let blob = Blob { descriptor, source: layer.blob.source.clone() };
        if self.in_image[position.stage] && self.neighbour().is_some() {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((entry, blob, position));
        } else {
            self.write(&entry, blob, position);
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

    fn known_files(&self) -> &KnownFiles {
        &self.files
    }
}

/// Whether another stage needs a stage.
fn is_used(plan: &Plan, stage: usize) -> bool {
    plan.stages.iter().any(|other| other.needs().any(|needed| needed == stage))
}

/// Which stages the image's layers come from.
fn stages_of_image(plan: &Plan) -> Vec<bool> {
    let mut in_image = vec![false; plan.stages.len()];
    let mut stage = Some(plan.target);
    while let Some(number) = stage {
        in_image[number] = true;
        stage = plan.stages[number].parent();
    }
    in_image
}

/// What a step reads that is known before anything runs; nothing where that cannot be told, because the step itself will fail.
fn read_inputs(around: &Surroundings<'_>, position: Position, known: &KnownFiles) -> Option<Inputs> {
    let step = &around.plan.stages[position.stage].steps[position.step];
    let unknown = |error: &(dyn std::error::Error + 'static)| {
        tracing::debug!("cache: {}: it has no key: {}", step.text, with_causes(error));
    };
    let spared = std::fs::metadata(around.work_directory).ok().map(|metadata| {
        use std::os::unix::fs::MetadataExt as _;
        (metadata.dev(), metadata.ino())
    });
    let mut inputs = Inputs::default();
    for (origin, from) in step.action.origins().into_iter().enumerate() {
        let context = match from {
            CopyFrom::Context => around.context,
            CopyFrom::Directory(number) => &around.named_contexts[number],
            CopyFrom::Stage(_) | CopyFrom::Image(_) => {
                inputs.files.push(None);
                continue;
            }
        };
        let tree = Tree::open(&context.root).map_err(|error| unknown(&error)).ok()?;
        let ignore = Some(&context.ignore);
        let source = CopySource { tree: &tree, ignore, reset_owner: true, describe: &context.description };
        let files = files_of(&step.action, origin, &source, spared, known).map_err(|error| unknown(&error)).ok()?;
        inputs.files.push(files);
    }
    let remotes = match &step.action {
        Action::Copy(copy) => copy.remotes.clone(),
        _ => BTreeMap::new(),
    };
    for (position, remote) in &remotes {
        let version = around.remotes.version(remote).map_err(|error| unknown(error.as_ref())).ok()?;
        inputs.versions.insert(*position, version);
    }
    Some(inputs)
}

/// Why something could not be written into a cache.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Push(#[from] PushError),
    #[error(transparent)]
    Cache(#[from] LayerCacheError),
}

/// Writes an image into a cache under names, all blobs first, the tags last. The error is told with its causes.
pub(super) async fn write_to(
    client: &Client,
    place: &Place,
    image: Image,
    names: Vec<String>,
    existing: ExistingTags,
    store: &BlobStore,
) -> Result<(), String> {
    let written: Result<(), WriteError> = match place {
        Place::Repository(repository) => {
            let tags: Vec<Reference> = names.into_iter().map(|name| repository.with_tag(name)).collect();
            match Uploads::new(client, &tags, &Progress::hidden(), store.clone()) {
                Ok(uploads) => push::push(&uploads, &image, existing).await.map(drop),
                Err(error) => Err(error),
            }
            .map_err(WriteError::from)
        }
        Place::Directory(directory) => {
            LayerCache::add_to_directory(directory, image, names).await.map_err(WriteError::from)
        }
    };
    written.map_err(|error| with_causes(&error))
}
