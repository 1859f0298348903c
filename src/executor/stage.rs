//! Runs the steps of one stage in order; each step's changes become a layer.

use std::sync::Arc;

use crate::diag::{Phase, Step as StepLine};
use crate::fs::Timestamp;
use crate::image::{BaseImage, Blob, BlobSource, Digest};
use crate::layer::{self, Layer, VerifyingReader};
use crate::plan::{Action, Base, Copy, CopyFrom, Run, Stage, Step, StepId};
use crate::rootfs::Tree;
use crate::snapshot;

use super::claims::{Claims, ReadClaim};
use super::copy_step::copy_into;
use super::execution::Execution;
use super::schedule::{Scheduler, Slot};
use super::trees::{FinishedTree, OwnedTree};
use super::users::resolve_directory_owner;
use super::{BaseLayers, BuiltLayer, Disposition, ExecutorError, LayerObserver, RootfsNeed, StepError, mounts, run};

/// A stage that is running.
pub(super) struct StageRun<'p, 'e> {
    execution: &'e Execution<'e>,
    index: usize,
    claims: Claims<'e>,
    /// The right to run; its number selects the sandbox.
    slot: &'p mut Slot,
    layers: Vec<BuiltLayer>,
    /// `None` until a step needs the files.
    tree: Option<OwnedTree<'e>>,
    /// The number of layers that the tree holds.
    unpacked: usize,
    /// The number of layers that the observer knows.
    announced: usize,
}

impl<'p, 'e> StageRun<'p, 'e> {
    pub(super) fn new(execution: &'e Execution<'e>, index: usize, claims: Claims<'e>, slot: &'p mut Slot) -> Self {
        Self { execution, index, claims, slot, layers: Vec::new(), tree: None, unpacked: 0, announced: 0 }
    }

    /// Runs the stage to its end, or until the build is cancelled.
    pub(super) fn run(mut self, scheduler: &Scheduler<ExecutorError>) -> Result<(), ExecutorError> {
        let (execution, stage) = (self.execution, self.stage());
        let resolved = &execution.resolution.stages[self.index];
        if !resolved.needed {
            return Ok(());
        }
        self.layers = match stage.base {
            Base::Scratch => Vec::new(),
            Base::Image(image) => base_layers(&execution.plan.images[image], execution.resources.base_layers),
            Base::Stage(parent) => execution.layers(parent),
        };
        self.progress_line(1, &stage.from_text).done();
        // The claims of a step are dropped with it.
        let claims = std::mem::take(&mut self.claims.steps);
        for (number, (disposition, claims)) in resolved.steps.iter().zip(claims).enumerate() {
            if scheduler.is_cancelled() {
                return Ok(());
            }
            match disposition {
                Disposition::Skip => {}
                Disposition::Cached(layer) => {
                    self.layers.push((**layer).clone());
                    self.step_line(number).cached();
                }
                Disposition::Execute { miss } => {
                    if !self.find_or_execute(number, miss.as_deref(), &claims, scheduler)? {
                        return Ok(());
                    }
                }
            }
        }
        self.finish()
    }

    /// Takes a step's layer from the cache by its content, or executes the step. Returns `false` if the build is
    /// cancelled.
    fn find_or_execute(
        &mut self,
        number: usize,
        miss: Option<&str>,
        claims: &[Option<ReadClaim<'e>>],
        scheduler: &Scheduler<ExecutorError>,
    ) -> Result<bool, ExecutorError> {
        let execution = self.execution;
        let step = &self.stage().steps[number];
        let needs_tree = self.needs_tree(step);
        // The step may still be found by content, and then needs no tree. If it waits for its inputs, making one costs
        // no time.
        let waits = || !step.action.stage_dependencies().all(|needed| scheduler.is_done(needed));
        if needs_tree && self.tree.is_none() && (execution.cache.is_none() || waits()) {
            self.materialize()?;
        }
        if !step.action.stage_dependencies().all(|needed| scheduler.wait_for(needed, self.slot)) {
            return Ok(false);
        }
        let line = self.step_line(number);
        if let Some(layer) = self.lookup_by_content(number, step, claims)? {
            self.layers.push(layer);
            line.cached();
            return Ok(true);
        }
        let line = if execution.resources.sandboxes.len() > 1 { line.with_marked_output() } else { line };
        if step.action.makes_layer() {
            line.working();
            if let Some(miss) = miss {
                line.note(miss);
            }
        }
        if needs_tree {
            self.materialize()?;
        }
        match self.execute(number, step, claims, &line) {
            Ok(()) => line.done(),
            Err(_) if scheduler.is_cancelled() => {
                line.canceled();
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.record(number, step);
        self.announce();
        Ok(true)
    }

    fn stage(&self) -> &'e Stage {
        &self.execution.plan.stages[self.index]
    }

    fn needs_tree(&self, step: &Step) -> bool {
        let resolved = &self.execution.resolution.stages[self.index];
        step.action.makes_layer() && resolved.rootfs > RootfsNeed::None
    }

    /// Returns the progress line of a step. The `FROM` is line 1.
    fn step_line(&self, number: usize) -> StepLine {
        self.progress_line(number + 2, &self.stage().steps[number].text)
    }

    fn progress_line(&self, number: usize, text: &str) -> StepLine {
        let stage = self.stage();
        self.execution.resources.progress.step(&stage.name, number, stage.steps.len() + 1, text)
    }

    /// Passes the stage's files on to the claims on them, and its layers to the stages that start from it.
    fn finish(mut self) -> Result<(), ExecutorError> {
        let execution = self.execution;
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

    /// Reports new layers to the observer, if they are the image's. The base's layers wait for the first layer of a
    /// step: uploading them earlier would compete with their download, and a build that only configures saves no time
    /// by it.
    fn announce(&mut self) {
        if self.unpacked > 0
            && let Some(observer) = self.observer()
        {
            self.layers[self.announced..].iter().for_each(|layer| observer.ready(layer));
            self.announced = self.layers.len();
        }
    }

    /// Returns the observer if the stage's layers are the image's.
    fn observer(&self) -> Option<&'e dyn LayerObserver> {
        let execution = self.execution;
        let observer = execution.resources.layer_observer?;
        execution.plan.image_stages().any(|stage| stage == self.index).then_some(observer)
    }

    /// Executes a step. With a single snapshot, only the last step that changes files writes a layer.
    fn execute(
        &mut self,
        number: usize,
        step: &Step,
        claims: &[Option<ReadClaim<'e>>],
        line: &StepLine,
    ) -> Result<(), ExecutorError> {
        let mut later = self.stage().steps.iter().skip(number + 1);
        let deferred = self.execution.resources.single_snapshot && later.any(|step| step.action.makes_layer());
        let sources = self.sources(claims)?;
        self.execute_action(&step.action, &sources, deferred, line).map_err(|cause| ExecutorError::Step {
            text: step.text.clone(),
            source_file: Arc::clone(&step.source),
            span: step.span.clone(),
            cause,
        })
    }

    /// Returns the trees that a step reads, one for each of its origins; `None` for a build context.
    fn sources<'c>(
        &self,
        claims: &'c [Option<ReadClaim<'e>>],
    ) -> Result<Vec<Option<&'c FinishedTree<'e>>>, ExecutorError> {
        claims.iter().map(|claim| claim.as_ref().map(|claim| claim.tree(self.execution)).transpose()).collect()
    }

    /// Executes an action. The changes of a `deferred` one become part of a later step's layer.
    fn execute_action(
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
                run::make_working_directory(tree, &workdir.path, owner)?;
            }
            Action::Copy(step) => {
                let _phase = progress.phase(Phase::Copy);
                let source = sources.iter().flatten().next().map(|tree| -> &Tree { tree });
                // A layer of several steps depends on the files below, so `--link` has no effect on it.
                if step.link && !self.execution.resources.single_snapshot {
                    return self.copy_linked(step, source);
                }
                let execution = self.execution;
                copy_into(execution, step, source, self.tree()?)?;
            }
            Action::Run(command) => self.run_command(command, sources, line)?,
        }
        if deferred { Ok(()) } else { self.commit() }
    }

    fn run_command(
        &mut self,
        command: &Run,
        sources: &[Option<&FinishedTree<'_>>],
        line: &StepLine,
    ) -> Result<(), StepError> {
        let execution = self.execution;
        let resources = execution.resources;
        let number = self.slot.number().checked_rem(resources.sandboxes.len()).ok_or(StepError::NoSandbox)?;
        let mut sandbox = resources.sandboxes[number].lock();
        let prepared = mounts::prepare(execution, command, sources, sandbox.features().read_only_mounts, line)?;
        let running = resources.progress.phase(Phase::Run);
        let result = run::run(self.tree()?, command, &prepared, sandbox.as_mut(), &execution.stop, line);
        drop(running);
        prepared.clear(resources.shared_cache_mounts, result.is_ok());
        result
    }

    /// Copies into an empty tree, writes that as a layer, and applies the layer to the stage's tree if there is one.
    fn copy_linked(&mut self, step: &Copy, source: Option<&Tree>) -> Result<(), StepError> {
        let execution = self.execution;
        let mut new_tree = execution.own(Tree::create(execution.tree_path()).map_err(StepError::Rootfs)?);
        copy_into(execution, step, source, &mut new_tree)?;
        let layer = self.write_layer(&mut new_tree)?;
        if let Some(tree) = &mut self.tree {
            overlay(tree, &layer)?;
        }
        self.push_layer(layer);
        Ok(())
    }

    /// Writes the step's changes as a layer.
    fn commit(&mut self) -> Result<(), StepError> {
        let mut tree = self.tree.take().ok_or(StepError::NoRoot)?;
        let layer = self.write_layer(&mut tree);
        self.tree = Some(tree);
        self.push_layer(layer?);
        Ok(())
    }

    /// Writes a layer of all changes in `tree` since its baseline, and updates the baseline.
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
            observer.writing(&path, &growing);
        }
        let layer = layer::write_growing(tree, &changes, &path, &resources.layers, &growing);
        let layer = layer.map_err(StepError::Layer)?;
        let latest = resources.layers.clamp_mtime.map(Timestamp::from_seconds);
        tree.absorb(&changes, &layer.hashes, latest).map_err(StepError::Rootfs)?;
        resources.progress.disk_use(tree.path(), tree.index().content_size());
        resources.progress.disk_use(&layer.path, layer.descriptor.size);
        Ok(layer)
    }

    fn push_layer(&mut self, layer: Layer) {
        let blob = Blob { descriptor: layer.descriptor, source: BlobSource::File(layer.path) };
        self.layers.push(BuiltLayer { blob, diff_id: layer.diff_id });
        self.unpacked = self.layers.len();
    }

    fn tree(&mut self) -> Result<&mut Tree, StepError> {
        self.tree.as_deref_mut().ok_or(StepError::NoRoot)
    }

    /// Gives the stage a tree that holds all its layers so far.
    fn materialize(&mut self) -> Result<(), ExecutorError> {
        let execution = self.execution;
        let mut tree = match self.tree.take() {
            Some(tree) => tree,
            None => {
                self.unpacked = execution.base_layers_of(self.index);
                self.claims.start.take().ok_or(ExecutorError::NotMade)?.make_tree(execution)?
            }
        };
        for layer in self.layers.get(self.unpacked..).unwrap_or_default() {
            execution.apply_cached(&mut tree, layer)?;
        }
        self.unpacked = self.layers.len();
        self.tree = Some(tree);
        Ok(())
    }

    /// Records the layer that a step has just made, for later builds.
    fn record(&self, number: usize, step: &Step) {
        if let (Some(cache), Some(layer), true) = (self.execution.cache, self.layers.last(), step.action.makes_layer())
        {
            cache.record(StepId { stage: self.index, step: number }, layer);
        }
    }

    /// Returns the step's layer if an earlier build made it of the same inputs. Returns `None` if its sources cannot be
    /// read: executing the step reports the same error.
    fn lookup_by_content(
        &self,
        number: usize,
        step: &Step,
        claims: &[Option<ReadClaim<'e>>],
    ) -> Result<Option<BuiltLayer>, ExecutorError> {
        let execution = self.execution;
        let Some(cache) = execution.cache.filter(|_| step.action.makes_layer()) else { return Ok(None) };
        let trees = self.sources(claims)?;
        let mut sources = Vec::new();
        for (origin, (from, tree)) in step.action.origins().into_iter().zip(&trees).enumerate() {
            let (CopyFrom::Stage(stage), Some(tree)) = (from, tree) else {
                sources.push(None);
                continue;
            };
            match tree.files_of(&step.action, origin, &execution.plan.stages[stage].name) {
                Ok(files) => sources.push(files),
                Err(error) => {
                    tracing::debug!("{}: cannot be looked up by content: {error}", step.text);
                    return Ok(None);
                }
            }
        }
        let below: Vec<Digest> = self.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        Ok(cache.lookup(StepId { stage: self.index, step: number }, &below, sources))
    }
}

/// Applies a layer to a tree.
fn overlay(tree: &mut Tree, layer: &Layer) -> Result<(), StepError> {
    let opened = crate::fs::open(&layer.path).map_err(|error| StepError::ReadLayer(error.into()))?;
    let reader = layer::reader(opened, &layer.descriptor.media_type).map_err(StepError::ReadLayer)?;
    let reader = VerifyingReader::new(reader, &layer.diff_id);
    tree.apply_layer(&layer.descriptor.digest.to_string(), reader).map_err(StepError::Overlay)?;
    Ok(())
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
