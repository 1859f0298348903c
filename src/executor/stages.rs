//! The order of things: unpack a base when a step first needs it, run the steps, write what they changed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diag::{Phase, Step as StepLine};
use crate::image::{BaseImage, Blob, BlobSource, LayerDescriptor};
use crate::layer::{self, Layer, LayerOptions, VerifyingReader};
use crate::plan::{Action, Base, CopyFrom, Plan, Stage, Step};
use crate::rootfs::Tree;
use crate::snapshot;

use super::copy::{CopySource, copy};
use super::users::{Owner, resolve_user};
use super::{BuiltLayer, ExecutorError, Resources, StepError, run, uses};

/// Runs every stage of `plan` and gives the target's layers, the base's included, lowest first.
///
/// # Errors
/// The first thing that goes wrong, with the step it went wrong in.
pub fn execute(plan: &Plan, resources: &mut Resources<'_>) -> Result<Vec<BuiltLayer>, ExecutorError> {
    let mut execution = Execution {
        plan,
        uses: uses(plan),
        stages: plan.stages.iter().map(|_| StageState::default()).collect(),
        image_trees: HashMap::new(),
        trees_made: 0,
        layers_made: 0,
        resources,
    };
    for index in 0..plan.stages.len() {
        execution.stage(index)?;
    }
    Ok(std::mem::take(&mut execution.stages[plan.target].layers))
}

#[derive(Default)]
struct StageState {
    layers: Vec<BuiltLayer>,
    /// Present once something needed the files.
    tree: Option<Tree>,
}

struct Execution<'a, 'r> {
    plan: &'a Plan,
    resources: &'a mut Resources<'r>,
    /// How many steps and stages still need each stage.
    uses: Vec<usize>,
    stages: Vec<StageState>,
    /// Roots of images that a `COPY --from` reads.
    image_trees: HashMap<usize, Tree>,
    trees_made: usize,
    layers_made: usize,
}

impl Execution<'_, '_> {
    fn stage(&mut self, index: usize) -> Result<(), ExecutorError> {
        let stage = &self.plan.stages[index];
        self.stages[index].layers = match stage.base {
            Base::Scratch => Vec::new(),
            Base::Image(image) => base_layers(&self.plan.images[image]),
            Base::Stage(parent) => self.stages[parent].layers.clone(),
        };
        let total = stage.steps.len() + 1;
        self.resources.progress.step(&stage.name, 1, total, &stage.from_text).done();
        for (number, step) in stage.steps.iter().enumerate() {
            let line = self.resources.progress.step(&stage.name, number + 2, total, &step.text);
            if step.action.makes_layer() {
                line.working();
                self.materialize(index)?;
            }
            self.step(index, step, &line).map_err(|cause| ExecutorError::Step {
                text: step.text.clone(),
                source_file: Arc::clone(&step.source),
                span: step.span.clone(),
                cause,
            })?;
            line.done();
            if let Action::Copy(copy) = &step.action
                && let CopyFrom::Stage(from) = copy.from
            {
                self.release(from)?;
            }
        }
        if let Base::Stage(parent) = stage.base {
            self.release(parent)?;
        }
        if self.uses[index] == 0 {
            self.discard(index)?;
        }
        Ok(())
    }

    fn step(&mut self, index: usize, step: &Step, line: &StepLine) -> Result<(), StepError> {
        match &step.action {
            Action::Configure => return Ok(()),
            Action::Workdir(workdir) => {
                let _phase = self.resources.progress.phase(Phase::Copy);
                let tree = self.tree(index)?;
                let user = resolve_user(tree, &workdir.user).map_err(StepError::User)?;
                run::working_directory(tree, &workdir.path, Owner { uid: user.uid, gid: user.gid })?;
            }
            Action::Copy(copy_step) => {
                let _phase = self.resources.progress.phase(Phase::Copy);
                if copy_step.link {
                    return self.copy_linked(index, copy_step);
                }
                self.copy(index, copy_step)?;
            }
            Action::Run(command) => {
                let _phase = self.resources.progress.phase(Phase::Run);
                let tree = self.stages[index].tree.as_mut().ok_or(StepError::NoRoot)?;
                let sandbox = self.resources.sandbox.as_mut().ok_or(StepError::NoSandbox)?;
                run::run(tree, command, sandbox.as_mut(), line)?;
            }
        }
        self.commit(index)
    }

    fn copy(&mut self, index: usize, step: &crate::plan::Copy) -> Result<(), StepError> {
        // The source may be another stage's tree: the destination is taken out of the list meanwhile.
        let mut destination = self.stages[index].tree.take().ok_or(StepError::NoRoot)?;
        let result = self.copy_into(step, &mut destination);
        self.stages[index].tree = Some(destination);
        result
    }

    /// Copies into an empty root directory, makes that a layer, and lays it over the stage's files.
    fn copy_linked(&mut self, index: usize, step: &crate::plan::Copy) -> Result<(), StepError> {
        let path = self.tree_path();
        let mut apart = Tree::create(&path).map_err(StepError::Rootfs)?;
        self.copy_into(step, &mut apart)?;
        let layer = self.write_layer(&mut apart)?;
        let opened = crate::fs::open(&layer.path).map_err(|error| StepError::ReadLayer(error.into()))?;
        let reader = layer::reader(opened, &layer.descriptor.media_type).map_err(StepError::ReadLayer)?;
        let reader = VerifyingReader::new(reader, &layer.diff_id);
        self.tree(index)?.apply_layer(&layer.descriptor.digest.to_string(), reader).map_err(StepError::Overlay)?;
        crate::fs::remove_dir_all(&path).map_err(|error| StepError::Rootfs(error.into()))?;
        self.keep(index, layer);
        Ok(())
    }

    fn copy_into(&self, step: &crate::plan::Copy, destination: &mut Tree) -> Result<(), StepError> {
        let result = match step.from {
            CopyFrom::Context | CopyFrom::Directory(_) => {
                let context = match step.from {
                    CopyFrom::Directory(number) => &self.resources.named_contexts[number],
                    _ => self.resources.context,
                };
                let tree = Tree::open(&context.root).map_err(StepError::Rootfs)?;
                let source = CopySource {
                    tree: &tree,
                    ignore: Some(&context.ignore),
                    reset_owner: true,
                    describe: &context.description,
                };
                copy(step, &source, destination)
            }
            CopyFrom::Stage(from) => match &self.stages[from].tree {
                Some(tree) => copy(step, &from_tree(tree, &self.plan.stages[from].name), destination),
                None => return Err(StepError::NoRoot),
            },
            CopyFrom::Image(image) => match self.image_trees.get(&image) {
                Some(tree) => {
                    let name = self.plan.images[image].reference.to_string();
                    copy(step, &from_tree(tree, &name), destination)
                }
                None => return Err(StepError::NoRoot),
            },
        };
        result.map_err(StepError::Copy)
    }

    /// Makes a layer of what the step changed.
    fn commit(&mut self, index: usize) -> Result<(), StepError> {
        let mut tree = self.stages[index].tree.take().ok_or(StepError::NoRoot)?;
        let layer = self.write_layer(&mut tree);
        self.stages[index].tree = Some(tree);
        self.keep(index, layer?);
        Ok(())
    }

    /// Writes the layer of everything that changed in `tree` since its baseline, and moves the baseline there.
    fn write_layer(&mut self, tree: &mut Tree) -> Result<Layer, StepError> {
        let phase = self.resources.progress.phase(Phase::Snapshot);
        let changes = snapshot::compare(tree, &snapshot::Options::default()).map_err(StepError::Snapshot)?;
        drop(phase);
        let _phase = self.resources.progress.phase(Phase::Layer);
        let spool = self.resources.directory.join(format!("layer-{}", self.layers_made));
        self.layers_made += 1;
        let options = LayerOptions { clamp_mtime: self.resources.clamp_mtime, ..LayerOptions::default() };
        let layer = layer::write(tree, &changes, &spool, &options).map_err(StepError::Layer)?;
        tree.absorb(&changes, &layer.hashes).map_err(StepError::Rootfs)?;
        Ok(layer)
    }

    fn keep(&mut self, index: usize, layer: Layer) {
        let blob = Blob { descriptor: layer.descriptor, source: BlobSource::File(layer.path) };
        self.stages[index].layers.push(BuiltLayer { blob, diff_id: layer.diff_id });
    }

    fn tree(&mut self, index: usize) -> Result<&mut Tree, StepError> {
        self.stages[index].tree.as_mut().ok_or(StepError::NoRoot)
    }

    /// Makes the stage's root directory, and those its steps copy from, if they are not there yet.
    fn materialize(&mut self, index: usize) -> Result<(), ExecutorError> {
        if self.stages[index].tree.is_some() {
            return Ok(());
        }
        let stage = &self.plan.stages[index];
        let tree = match stage.base {
            Base::Scratch => {
                let path = self.tree_path();
                Tree::create(&path).map_err(|cause| prepare(stage, cause))?
            }
            Base::Image(image) => self.unpack(image)?,
            Base::Stage(parent) => {
                self.materialize(parent)?;
                let path = self.tree_path();
                if self.uses[parent] == 1 {
                    // Nobody else needs the parent's files: they are taken over instead of copied.
                    match self.stages[parent].tree.take() {
                        Some(tree) => tree,
                        None => Tree::create(&path).map_err(|cause| prepare(stage, cause))?,
                    }
                } else {
                    match &self.stages[parent].tree {
                        Some(tree) => tree.copy_to(&path).map_err(|cause| prepare(stage, cause))?,
                        None => Tree::create(&path).map_err(|cause| prepare(stage, cause))?,
                    }
                }
            }
        };
        self.stages[index].tree = Some(tree);
        for step in &stage.steps {
            let Action::Copy(step) = &step.action else { continue };
            match step.from {
                CopyFrom::Context | CopyFrom::Directory(_) => {}
                CopyFrom::Stage(from) => self.materialize(from)?,
                CopyFrom::Image(image) => {
                    if !self.image_trees.contains_key(&image) {
                        let tree = self.unpack(image)?;
                        self.image_trees.insert(image, tree);
                    }
                }
            }
        }
        Ok(())
    }

    fn tree_path(&mut self) -> PathBuf {
        self.trees_made += 1;
        self.resources.directory.join(format!("root-{}", self.trees_made))
    }

    fn unpack(&mut self, index: usize) -> Result<Tree, ExecutorError> {
        let image = &self.plan.images[index];
        let name = image.reference.to_string();
        let path = self.tree_path();
        let mut tree = Tree::create(&path).map_err(|cause| ExecutorError::Prepare { stage: name.clone(), cause })?;
        for (number, layer) in image.layers.iter().enumerate() {
            let digest = layer.descriptor.digest.clone();
            let waiting = self.resources.progress.phase(Phase::Pull);
            let file = self.resources.base_layers.file(image, number).map_err(|cause| ExecutorError::Fetch {
                image: name.clone(),
                digest: digest.clone(),
                cause,
            })?;
            drop(waiting);
            let _phase = self.resources.progress.phase(Phase::Unpack);
            self.unpack_layer(&mut tree, &file, &name, layer)?;
        }
        Ok(tree)
    }

    fn unpack_layer(
        &self,
        tree: &mut Tree,
        file: &Path,
        image: &str,
        layer: &LayerDescriptor,
    ) -> Result<(), ExecutorError> {
        let digest = &layer.descriptor.digest;
        let unreadable = |cause| ExecutorError::ReadLayer { image: image.to_owned(), digest: digest.clone(), cause };
        let opened = crate::fs::open(file).map_err(|error| unreadable(error.into()))?;
        let reader = layer::reader(opened, &layer.descriptor.media_type).map_err(unreadable)?;
        let reader = VerifyingReader::new(reader, &layer.diff_id);
        tree.apply_layer(&digest.to_string(), reader).map_err(|cause| ExecutorError::Unpack {
            image: image.to_owned(),
            digest: digest.clone(),
            directory: tree.path().to_owned(),
            cause,
        })?;
        Ok(())
    }

    /// One use of a stage is over.
    fn release(&mut self, index: usize) -> Result<(), ExecutorError> {
        self.uses[index] = self.uses[index].saturating_sub(1);
        if self.uses[index] == 0 { self.discard(index) } else { Ok(()) }
    }

    fn discard(&mut self, index: usize) -> Result<(), ExecutorError> {
        match self.stages[index].tree.take() {
            Some(tree) => {
                crate::fs::remove_dir_all(tree.path()).map_err(|cause| prepare(&self.plan.stages[index], cause.into()))
            }
            None => Ok(()),
        }
    }
}

fn from_tree<'t>(tree: &'t Tree, describe: &'t str) -> CopySource<'t> {
    CopySource { tree, ignore: None, reset_owner: false, describe }
}

fn base_layers(image: &BaseImage) -> Vec<BuiltLayer> {
    image
        .layers
        .iter()
        .map(|layer| BuiltLayer {
            blob: Blob { descriptor: layer.descriptor.clone(), source: BlobSource::Registry(image.reference.clone()) },
            diff_id: layer.diff_id.clone(),
        })
        .collect()
}

fn prepare(stage: &Stage, cause: crate::rootfs::RootfsError) -> ExecutorError {
    ExecutorError::Prepare { stage: stage.name.clone(), cause }
}
