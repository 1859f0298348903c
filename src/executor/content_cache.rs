//! Looks up steps by content: by the layers they start from and the files they read.
//!
//! A step whose definition is cached needs no inputs; it is [cached](super::Disposition::Cached) before anything runs.
//! Any other step waits for its inputs and is looked up by their content. A cached layer is unpacked only if a later
//! step needs the files: by [`StageRun::materialize`] while the stage runs, otherwise on first use of the finished
//! stage's files.

use std::path::PathBuf;

use crate::cache::Files;
use crate::image::Digest;
use crate::layer::{self, VerifyingReader};
use crate::plan::{Action, Base, Copy, CopyFrom, MountSource, Step, StepId};
use crate::rootfs::Tree;

use super::claims::ReadClaim;
use super::copy::{CopyError, CopySource, FileDigests, contents};
use super::stage::StageRun;
use super::stages::Execution;
use super::{BuiltLayer, ExecutorError};

/// Why the blob of a cached layer cannot be read.
pub type CachedLayerError = crate::diag::BoxedError;

/// The layers of earlier builds by content. This build adds its own.
pub trait ContentCache: Sync {
    /// Returns the layer that the step makes of these inputs, if an earlier build stored it: the diffIDs of the layers
    /// below, and the files that it reads from each of its origins that is a stage.
    fn lookup(&self, step: StepId, below: &[Digest], sources: Vec<Option<Files>>) -> Option<BuiltLayer>;

    /// Records the layer of an executed step for later builds.
    fn record(&self, step: StepId, layer: &BuiltLayer);

    /// Returns the blob of a cached or recorded layer as a local file, complete and verified.
    ///
    /// # Errors
    /// The blob can no longer be fetched, or its digest is wrong.
    fn file(&self, layer: &BuiltLayer) -> Result<PathBuf, CachedLayerError>;
}

/// Returns the files that a step reads from one of its origins, given that origin's tree. The directory `excluded`
/// (device and inode) counts as missing. Returns `None` for an image, which its layers identify.
///
/// # Errors
/// As when the step executes.
pub fn files_of(
    action: &Action,
    origin: usize,
    source: &CopySource<'_>,
    excluded: Option<(u64, u64)>,
    digests: &FileDigests,
) -> Result<Option<Files>, CopyError> {
    match action {
        Action::Copy(copy) => contents(copy, source, excluded, false, digests).map(Some),
        Action::Run(run) => {
            let mounts = run.mounts.iter().filter(|mount| mount.origin().is_some());
            let path = mounts.map(|mount| match &mount.source {
                MountSource::Bind { path, .. } | MountSource::Cache { content: Some((_, path)), .. } => path.as_str(),
                _ => "",
            });
            let Some(path) = path.into_iter().nth(origin) else { return Ok(None) };
            let path = if path.is_empty() { "." } else { path };
            let copy = Copy { sources: vec![path.to_owned()], ..Copy::default() };
            contents(&copy, source, excluded, true, digests).map(Some)
        }
        Action::Configure | Action::Workdir(_) => Ok(None),
    }
}

impl<'e> Execution<'e> {
    /// Returns the number of layers that a stage has before its first step.
    pub(super) fn base_layers_of(&self, stage: usize) -> usize {
        match self.plan.stages[stage].base {
            Base::Scratch => 0,
            Base::Image(image) => self.plan.images[image].layers.len(),
            Base::Stage(parent) => self.layers(parent).len(),
        }
    }

    /// Applies a cached layer to a tree.
    pub(super) fn apply_cached(&self, tree: &mut Tree, layer: &BuiltLayer) -> Result<(), ExecutorError> {
        let Some(cache) = self.cache else { return Ok(()) };
        let descriptor = &layer.blob.descriptor;
        // Every failure means that the cached layer is unusable: a different build made it.
        let unusable = |cause| ExecutorError::CachedLayer { digest: descriptor.digest.clone(), cause };
        let file = cache.file(layer).map_err(unusable)?;
        let opened = crate::fs::open(file).map_err(|error| unusable(error.into()))?;
        let reader = layer::reader(opened, &descriptor.media_type).map_err(|error| unusable(error.into()))?;
        let reader = VerifyingReader::new(reader, &layer.diff_id);
        tree.apply_layer(&descriptor.digest.to_string(), reader).map_err(|error| unusable(error.into()))?;
        Ok(())
    }
}

impl<'e> StageRun<'_, 'e> {
    /// Gives the stage a tree that holds all its layers so far.
    pub(super) fn materialize(&mut self) -> Result<(), ExecutorError> {
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
    pub(super) fn record(&self, number: usize, step: &Step) {
        if let (Some(cache), Some(layer), true) = (self.execution.cache, self.layers.last(), step.action.makes_layer())
        {
            cache.record(StepId { stage: self.index, step: number }, layer);
        }
    }

    /// Returns the step's layer if an earlier build made it of the same inputs. Returns `None` if its sources cannot be
    /// read: executing the step reports the same error.
    pub(super) fn lookup_by_content(
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
