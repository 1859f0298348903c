//! One stage: its steps in order, each step's changes becoming a layer.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diag::{Phase, Step as StepLine};
use crate::fs::Timestamp;
use crate::image::{BaseImage, Blob, BlobSource};
use crate::layer::{self, Layer, VerifyingReader};
use crate::plan::{Action, Base, Copy, CopyFrom, RemoteSource, Run, Step};
use crate::rootfs::Tree;
use crate::snapshot;

use super::claims::{Claims, Reading};
use super::copy::{CopySource, Fetched, copy};
use super::schedule::{Board, Slot};
use super::stages::Execution;
use super::trees::{FinishedTree, OwnedTree};
use super::users::resolve_directory_owner;
use super::{
    BaseLayers, BuiltLayer, Disposition, ExecutorError, FetchedFiles, LayerObserver, RootfsNeed, StepError, mounts, run,
};

/// A stage under way.
pub(super) struct StageRun<'p, 'e> {
    pub(super) execution: &'e Execution<'e>,
    pub(super) index: usize,
    pub(super) claims: Claims<'e>,
    /// Says which of the sandboxes is this stage's.
    place: &'p mut Slot,
    pub(super) layers: Vec<BuiltLayer>,
    /// Present once something needed the files.
    pub(super) tree: Option<OwnedTree<'e>>,
    /// How many of the layers are in the tree.
    pub(super) unpacked: usize,
    /// How many of the layers the observer knows of.
    announced: usize,
}

impl<'p, 'e> StageRun<'p, 'e> {
    /// Nothing is done yet.
    pub(super) fn new(execution: &'e Execution<'e>, index: usize, claims: Claims<'e>, place: &'p mut Slot) -> Self {
        Self { execution, index, claims, place, layers: Vec::new(), tree: None, unpacked: 0, announced: 0 }
    }

    /// Runs the stage to its end, or until nobody wants it any more.
    pub(super) fn run(mut self, board: &Board<ExecutorError>) -> Result<(), ExecutorError> {
        let execution = self.execution;
        let (plan, progress) = (execution.plan, &execution.resources.progress);
        let stage = &plan.stages[self.index];
        let resolved = &execution.resolution.stages[self.index];
        if !resolved.needed {
            return Ok(());
        }
        self.layers = match stage.base {
            Base::Scratch => Vec::new(),
            Base::Image(image) => base_layers(&plan.images[image], execution.resources.base_layers),
            Base::Stage(parent) => execution.layers(parent),
        };
        let total = stage.steps.len() + 1;
        let last_change = stage.steps.iter().rposition(|step| step.action.makes_layer());
        progress.step(&stage.name, 1, total, &stage.from_text).done();
        // Those of a step end with it.
        let claims = std::mem::take(&mut self.claims.steps);
        for (number, ((step, disposition), claims)) in stage.steps.iter().zip(&resolved.steps).zip(claims).enumerate() {
            if board.is_given_up() {
                return Ok(());
            }
            let line = || progress.step(&stage.name, number + 2, total, &step.text);
            let miss = match disposition {
                Disposition::Skip => continue,
                Disposition::Cached(layer) => {
                    self.layers.push((**layer).clone());
                    line().cached();
                    continue;
                }
                Disposition::Execute { miss } => miss,
            };
            let needs_tree = step.action.makes_layer() && resolved.rootfs > RootfsNeed::None;
            // The step may still be found by content. Until its inputs are there the time would pass anyway.
            let waits = || !step.action.stage_dependencies().all(|needed| board.is_done(needed));
            if needs_tree && self.tree.is_none() && (execution.cache.is_none() || waits()) {
                self.materialize()?;
            }
            if !step.action.stage_dependencies().all(|needed| board.wait_for(needed, self.place)) {
                return Ok(());
            }
            let mut line = line();
            if let Some(layer) = self.lookup_by_content(number, step, &claims)? {
                self.layers.push(layer);
                line.cached();
            } else {
                if execution.resources.sandboxes.len() > 1 {
                    line = line.with_marked_output();
                }
                if step.action.makes_layer() {
                    line.working();
                    if let Some(miss) = miss {
                        line.note(miss);
                    }
                }
                if needs_tree {
                    self.materialize()?;
                }
                let deferred = execution.resources.single_snapshot && Some(number) != last_change;
                match self.step(step, &claims, deferred, &line) {
                    Ok(()) => line.done(),
                    Err(_) if board.is_given_up() => {
                        line.canceled();
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
                self.record(number, step);
                self.announce();
            }
        }
        if self.tree.is_some() && self.claims.is_claimed() {
            self.materialize()?;
        }
        match self.tree {
            Some(tree) => self.claims.leave_tree(tree),
            None => self.claims.leave_layers(&self.layers[execution.base_layers_of(self.index)..]),
        }
        execution.finish(self.index, self.layers);
        Ok(())
    }

    /// Tells of the layers that are there by now, if they are the image's. Not before a step has made one: those of the base
    /// should not be in the way of their own fetching, and a build that only configures has nothing to go on with.
    fn announce(&mut self) {
        if self.unpacked > 0
            && let Some(observer) = self.observer()
        {
            self.layers[self.announced..].iter().for_each(|layer| observer.ready(layer));
            self.announced = self.layers.len();
        }
    }

    /// Whom the stage's layers are told to: nobody unless they are the image's.
    fn observer(&self) -> Option<&'e dyn LayerObserver> {
        let execution = self.execution;
        let observer = execution.resources.layer_observer?;
        execution.plan.image_stages().any(|stage| stage == self.index).then_some(observer)
    }

    /// Runs a step. What a `deferred` one changed becomes part of a later step's layer.
    fn step(
        &mut self,
        step: &Step,
        claims: &[Option<Reading<'e>>],
        deferred: bool,
        line: &StepLine,
    ) -> Result<(), ExecutorError> {
        let sources = self.sources(claims)?;
        self.act(&step.action, &sources, deferred, line).map_err(|cause| ExecutorError::Step {
            text: step.text.clone(),
            source_file: Arc::clone(&step.source),
            span: step.span.clone(),
            cause,
        })
    }

    /// The trees that a step takes files from, one for each of its origins; none for a build context.
    pub(super) fn sources<'c>(
        &self,
        claims: &'c [Option<Reading<'e>>],
    ) -> Result<Vec<Option<&'c FinishedTree<'e>>>, ExecutorError> {
        claims.iter().map(|claim| claim.as_ref().map(|claim| claim.tree(self.execution)).transpose()).collect()
    }

    fn act(
        &mut self,
        action: &Action,
        sources: &[Option<&FinishedTree<'_>>],
        deferred: bool,
        line: &StepLine,
    ) -> Result<(), StepError> {
        let progress = &self.execution.resources.progress;
        match action {
            Action::Configure => return Ok(()),
            Action::Workdir(workdir) => {
                let _phase = progress.phase(Phase::Copy);
                let tree = self.tree()?;
                let owner = resolve_directory_owner(tree, &workdir.user).map_err(StepError::User)?;
                run::working_directory(tree, &workdir.path, owner)?;
            }
            Action::Copy(step) => {
                let _phase = progress.phase(Phase::Copy);
                let source = sources.iter().flatten().next().map(|tree| -> &Tree { tree });
                // A layer of several steps is not apart from the files it lies on.
                if step.link && !self.execution.resources.single_snapshot {
                    return self.copy_linked(step, source);
                }
                let execution = self.execution;
                copy_into(execution, step, source, self.tree()?)?;
            }
            Action::Run(command) => self.command(command, sources, line)?,
        }
        if deferred { Ok(()) } else { self.commit() }
    }

    fn command(
        &mut self,
        command: &Run,
        sources: &[Option<&FinishedTree<'_>>],
        line: &StepLine,
    ) -> Result<(), StepError> {
        let execution = self.execution;
        let resources = execution.resources;
        let number = self.place.number().checked_rem(resources.sandboxes.len()).ok_or(StepError::NoSandbox)?;
        let mut sandbox = resources.sandboxes[number].lock();
        let prepared = mounts::prepare(execution, command, sources, sandbox.features().read_only_mounts, line)?;
        let running = resources.progress.phase(Phase::Run);
        let result = run::run(self.tree()?, command, &prepared, sandbox.as_mut(), &execution.stop, line);
        drop(running);
        prepared.clear(resources.shared_caches, result.is_ok());
        result
    }

    /// Copies into an empty root directory, makes that a layer, and lays it over the stage's files if somebody needs them.
    fn copy_linked(&mut self, step: &Copy, source: Option<&Tree>) -> Result<(), StepError> {
        let execution = self.execution;
        let mut apart = execution.own(Tree::create(execution.tree_path()).map_err(StepError::Rootfs)?);
        copy_into(execution, step, source, &mut apart)?;
        let layer = self.write_layer(&mut apart)?;
        if let Some(tree) = &mut self.tree {
            overlay(tree, &layer)?;
        }
        self.keep(layer);
        Ok(())
    }

    /// Makes a layer of what the step changed.
    fn commit(&mut self) -> Result<(), StepError> {
        let mut tree = self.tree.take().ok_or(StepError::NoRoot)?;
        let layer = self.write_layer(&mut tree);
        self.tree = Some(tree);
        self.keep(layer?);
        Ok(())
    }

    /// Writes the layer of everything that changed in `tree` since its baseline, and moves the baseline there.
    fn write_layer(&self, tree: &mut Tree) -> Result<Layer, StepError> {
        let resources = self.execution.resources;
        let phase = resources.progress.phase(Phase::Snapshot);
        let options = snapshot::Options { ignored: resources.ignored_paths.clone() };
        let changes = snapshot::compare(tree, &options).map_err(StepError::Snapshot)?;
        drop(phase);
        let _phase = resources.progress.phase(Phase::Layer);
        let path = self.execution.layer_path();
        let growing = Arc::default();
        if let Some(observer) = self.observer() {
            observer.coming(&path, &growing);
        }
        let layer = layer::write_growing(tree, &changes, &path, &resources.layers, &growing);
        let layer = layer.map_err(StepError::Layer)?;
        let latest = resources.layers.clamp_mtime.map(Timestamp::from_seconds);
        tree.absorb(&changes, &layer.hashes, latest).map_err(StepError::Rootfs)?;
        resources.progress.disk_use(tree.path(), tree.index().content_size());
        resources.progress.disk_use(&layer.path, layer.descriptor.size);
        Ok(layer)
    }

    fn keep(&mut self, layer: Layer) {
        let blob = Blob { descriptor: layer.descriptor, source: BlobSource::File(layer.path) };
        self.layers.push(BuiltLayer { blob, diff_id: layer.diff_id });
        self.unpacked = self.layers.len();
    }

    fn tree(&mut self) -> Result<&mut Tree, StepError> {
        self.tree.as_deref_mut().ok_or(StepError::NoRoot)
    }
}

/// Lays a layer over a tree.
fn overlay(tree: &mut Tree, layer: &Layer) -> Result<(), StepError> {
    let opened = crate::fs::open(&layer.path).map_err(|error| StepError::ReadLayer(error.into()))?;
    let reader = layer::reader(opened, &layer.descriptor.media_type).map_err(StepError::ReadLayer)?;
    let reader = VerifyingReader::new(reader, &layer.diff_id);
    tree.apply_layer(&layer.descriptor.digest.to_string(), reader).map_err(StepError::Overlay)?;
    Ok(())
}

/// Does a COPY or ADD. The tree of a stage or an image is given, a build context is opened.
pub(super) fn copy_into(
    execution: &Execution<'_>,
    step: &Copy,
    source: Option<&Tree>,
    destination: &mut Tree,
) -> Result<(), StepError> {
    let plan = execution.plan;
    let fetched = fetch(execution, step)?;
    let result = match step.from {
        CopyFrom::Context | CopyFrom::Directory(_) => {
            let context = execution.context(step.from);
            let tree = Tree::open(&context.root).map_err(StepError::Rootfs)?;
            let ignore = Some(&context.ignore);
            let source = CopySource { tree: &tree, ignore, reset_owner: true, describe: &context.description };
            copy(step, &source, &fetched, destination)
        }
        CopyFrom::Stage(stage) => copy(step, &from_tree(source, &plan.stages[stage].name)?, &fetched, destination),
        CopyFrom::Image(image) => {
            let name = plan.images[image].reference.to_string();
            copy(step, &from_tree(source, &name)?, &fetched, destination)
        }
    };
    result.map_err(StepError::Copy)
}

/// Brings the sources of a step that are on the network.
fn fetch(execution: &Execution<'_>, step: &Copy) -> Result<BTreeMap<usize, Fetched>, StepError> {
    let mut fetched = BTreeMap::new();
    for (position, source) in &step.remotes {
        let location = source.to_string();
        let unpack = matches!(source, RemoteSource::File { unpack: true, .. });
        let files = execution.resources.remote_sources.fetch(source);
        let FetchedFiles { directory, name } =
            files.map_err(|cause| StepError::Fetch { location: location.clone(), cause })?;
        let tree = Tree::open(directory).map_err(StepError::Rootfs)?;
        fetched.insert(*position, Fetched { tree, name, describe: location, unpack });
    }
    Ok(fetched)
}

fn from_tree<'t>(tree: Option<&'t Tree>, describe: &'t str) -> Result<CopySource<'t>, StepError> {
    Ok(CopySource { tree: tree.ok_or(StepError::NoRoot)?, ignore: None, reset_owner: false, describe })
}

fn base_layers(image: &BaseImage, sources: &dyn BaseLayers) -> Vec<BuiltLayer> {
    image
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| BuiltLayer {
            blob: Blob { descriptor: layer.descriptor.clone(), source: sources.source(image, index) },
            diff_id: layer.diff_id.clone(),
        })
        .collect()
}
