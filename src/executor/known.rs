//! Steps whose layers are there already.
//!
//! The executor asks twice. Before a stage begins, whether a step's layer is known from its definition: such a step waits for
//! nobody and reads nothing. And before it would carry a step out, now that the files it starts from are there, whether
//! somebody has done just this with just these files. A known layer is unpacked only if a later step needs the files;
//! [`StageRun::catch_up`] does that for a stage under way; for one that is done they are laid over its files when those are first asked for.

use std::path::PathBuf;

use crate::cache::Files;
use crate::diag::Step as StepLine;
use crate::image::Digest;
use crate::layer::{self, VerifyingReader};
use crate::plan::{Action, Base, Copy, CopyFrom, MountSource, Step};
use crate::rootfs::Tree;

use super::claims::Reading;
use super::copy::{CopyError, CopySource, KnownFiles, contents};
use super::stage::StageRun;
use super::stages::Execution;
use super::{BuiltLayer, ExecutorError};

/// A step of a plan, by the number of its stage and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// In [`Plan::stages`].
    pub stage: usize,
    /// In [`crate::plan::Stage::steps`].
    pub step: usize,
}

/// Why the blob of a known layer cannot be had.
pub type KnownLayerError = crate::diag::BoxedError;

/// What earlier builds have left.
pub trait KnownLayers: Sync {
    /// Whether anybody needs the stage: its layers, or its files.
    fn is_needed(&self, stage: usize) -> bool;

    /// The step's layer, known from its definition. Always the same answer.
    fn known(&self, position: Position) -> Option<BuiltLayer>;

    /// The layer that the step makes of these files: the diffIDs it is laid over, and what it reads of each of its origins
    /// that is a stage.
    fn find(&self, position: Position, below: &[Digest], sources: Vec<Option<Files>>) -> Option<BuiltLayer>;

    /// Takes a layer that the step made, to be found by later builds.
    fn keep(&self, position: Position, layer: &BuiltLayer);

    /// Why the step is carried out, if something can be said about it.
    fn explain(&self, position: Position) -> Option<String>;

    /// The blob of a layer, known or kept, as a local file: complete and verified.
    ///
    /// # Errors
    /// It cannot be had any more.
    fn file(&self, layer: &BuiltLayer) -> Result<PathBuf, KnownLayerError>;
}

/// What a step reads of one of its origins, given that origin's tree. `spared` is a directory that counts as not there. `None` for
/// an image, which is known by its layers.
///
/// # Errors
/// As when the step is carried out.
pub fn files_of(
    action: &Action,
    origin: usize,
    source: &CopySource<'_>,
    spared: Option<(u64, u64)>,
    known: &KnownFiles,
) -> Result<Option<Files>, CopyError> {
    match action {
        Action::Copy(copy) => contents(copy, source, spared, false, known).map(Some),
        Action::Run(run) => {
            let mounts = run.mounts.iter().filter(|mount| mount.origin().is_some());
            let path = mounts.map(|mount| match &mount.source {
                MountSource::Bind { path, .. } | MountSource::Cache { content: Some((_, path)), .. } => path.as_str(),
                _ => "",
            });
            let Some(path) = path.into_iter().nth(origin) else { return Ok(None) };
            let path = if path.is_empty() { "." } else { path };
            let copy = Copy { sources: vec![path.to_owned()], ..Copy::default() };
            contents(&copy, source, spared, true, known).map(Some)
        }
        Action::Configure | Action::Workdir(_) => Ok(None),
    }
}

impl<'e> Execution<'e> {
    pub(super) fn known_layers(&self) -> Option<&'e dyn KnownLayers> {
        self.resources.known_layers
    }

    pub(super) fn known(&self, stage: usize, step: usize) -> Option<BuiltLayer> {
        self.known_layers()?.known(Position { stage, step })
    }

    /// How many layers a stage has before its first step.
    pub(super) fn base_layers_of(&self, stage: usize) -> usize {
        match self.plan.stages[stage].base {
            Base::Scratch => 0,
            Base::Image(image) => self.plan.images[image].layers.len(),
            Base::Stage(parent) => self.layers(parent).len(),
        }
    }

    /// Lays a known layer over a tree.
    pub(super) fn lay(&self, tree: &mut Tree, layer: &BuiltLayer) -> Result<(), ExecutorError> {
        let Some(known_layers) = self.known_layers() else { return Ok(()) };
        let descriptor = &layer.blob.descriptor;
        // Whatever is wrong with it: somebody else made it.
        let unusable = |cause| ExecutorError::KnownLayer { digest: descriptor.digest.clone(), cause };
        let file = known_layers.file(layer).map_err(unusable)?;
        let opened = crate::fs::open(file).map_err(|error| unusable(error.into()))?;
        let reader = layer::reader(opened, &descriptor.media_type).map_err(|error| unusable(error.into()))?;
        let reader = VerifyingReader::new(reader, &layer.diff_id);
        tree.apply_layer(&descriptor.digest.to_string(), reader).map_err(|error| unusable(error.into()))?;
        Ok(())
    }
}

impl<'e> StageRun<'_, 'e> {
    /// Gives the stage a tree that holds all its layers so far.
    pub(super) fn catch_up(&mut self) -> Result<(), ExecutorError> {
        let execution = self.execution;
        let mut tree = match self.tree.take() {
            Some(tree) => tree,
            None => {
                self.unpacked = execution.base_layers_of(self.index);
                self.claims.start.take().ok_or(ExecutorError::NotMade)?.begin(execution)?
            }
        };
        for layer in self.layers.get(self.unpacked..).unwrap_or_default() {
            execution.lay(&mut tree, layer)?;
        }
        self.unpacked = self.layers.len();
        self.tree = Some(tree);
        Ok(())
    }

    /// Says why a step is carried out.
    pub(super) fn tell_why(&self, step: usize, line: &StepLine) {
        let position = Position { stage: self.index, step };
        if let Some(why) = self.execution.known_layers().and_then(|known| known.explain(position)) {
            line.note(&why);
        }
    }

    /// Leaves the layer that a step has just made to later builds.
    pub(super) fn keep_known(&self, number: usize, step: &Step) {
        if let (Some(known), Some(layer), true) =
            (self.execution.known_layers(), self.layers.last(), step.action.makes_layer())
        {
            known.keep(Position { stage: self.index, step: number }, layer);
        }
    }

    /// The step's layer, if somebody has made it of the files that there are now. What keeps its sources from being looked at
    /// will keep the step from being carried out, and is told then.
    pub(super) fn find_known(
        &self,
        number: usize,
        step: &Step,
        claims: &[Option<Reading<'e>>],
    ) -> Result<Option<BuiltLayer>, ExecutorError> {
        let execution = self.execution;
        let Some(known_layers) = execution.known_layers().filter(|_| step.action.makes_layer()) else {
            return Ok(None);
        };
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
                    tracing::debug!("{}: cannot be looked up by its files: {error}", step.text);
                    return Ok(None);
                }
            }
        }
        let below: Vec<Digest> = self.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        Ok(known_layers.find(Position { stage: self.index, step: number }, &below, sources))
    }
}
