//! Runs all stages of a build, and makes their trees: empty, from the layers of an image, or as a copy.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::context::Context;
use crate::diag::{Phase, with_causes};
use crate::fs::{Completion, GrowingFileReader, ReadAt};
use crate::image::LayerDescriptor;
use crate::layer;
use crate::plan::{CopyFrom, Plan, Stage};
use crate::rootfs::{RootfsError, Tree};
use crate::sandbox::Stop;

use super::claims::{Claims, claims};
use super::schedule::{self, Scheduler, Slot};
use super::stage::StageRun;
use super::trees::OwnedTree;
use super::users::DATABASES;
use super::{BuiltLayer, ContentCache, ExecutorError, Resolution, Resources, RootfsNeed};

/// Executes `plan` as resolved, and returns the layers of the target, including those of its base, lowest first. Steps
/// without a hit by definition are looked up in `cache` by content.
///
/// # Errors
/// A step, or the preparation of a stage's files, failed. The first error is returned.
pub fn execute(
    plan: &Plan,
    resolution: &Resolution,
    cache: Option<&dyn ContentCache>,
    resources: &Resources<'_>,
) -> Result<Vec<BuiltLayer>, ExecutorError> {
    let execution = Execution {
        plan,
        resolution,
        cache,
        resources,
        layers: plan.stages.iter().map(|_| OnceLock::new()).collect(),
        trees_made: AtomicUsize::new(0),
        layers_made: AtomicUsize::new(0),
        stop: Stop::new().map_err(ExecutorError::Stop)?,
    };
    let claims = claims(plan, resolution);
    let claims: Vec<Mutex<Option<Claims<'_>>>> = claims.into_iter().map(|claims| Mutex::new(Some(claims))).collect();
    let bases: Vec<Option<usize>> = plan.stages.iter().map(Stage::parent).collect();
    let work = |stage: usize, slot: &mut Slot, scheduler: &Scheduler<ExecutorError>| {
        let claims = claims[stage].lock().take();
        let claims = claims.ok_or(ExecutorError::NotMade)?;
        StageRun::new(&execution, stage, claims, slot).run(scheduler)
    };
    let errors = schedule::run(&bases, resources.parallel, work, || execution.stop.ask());
    // Stages that miss a tree fail as well, but only one of them has the reason.
    match errors.into_iter().min_by_key(|error| matches!(error, ExecutorError::NotMade)) {
        Some(error) => Err(error),
        None => Ok(execution.layers(plan.target)),
    }
}

/// The state of a build that its threads share.
pub(super) struct Execution<'a> {
    pub(super) plan: &'a Plan,
    pub(super) resolution: &'a Resolution,
    pub(super) cache: Option<&'a dyn ContentCache>,
    pub(super) resources: &'a Resources<'a>,
    /// The layers of finished stages, including those of their bases.
    layers: Vec<OnceLock<Vec<BuiltLayer>>>,
    trees_made: AtomicUsize,
    layers_made: AtomicUsize,
    /// Stops the commands of other stages when a stage fails.
    pub(super) stop: Stop,
}

impl<'a> Execution<'a> {
    /// Returns the layers of a finished stage.
    pub(super) fn layers(&self, stage: usize) -> Vec<BuiltLayer> {
        self.layers[stage].get().cloned().unwrap_or_default()
    }

    /// Stores the layers of a finished stage.
    pub(super) fn finish(&self, stage: usize, layers: Vec<BuiltLayer>) {
        self.layers[stage].get_or_init(|| layers);
    }

    /// Returns the build context, or a named one.
    pub(super) fn context(&self, from: CopyFrom) -> &Context {
        match from {
            CopyFrom::Directory(number) => &self.resources.named_contexts[number],
            _ => self.resources.context,
        }
    }

    /// Makes a tree one of this build: dropping it removes its directory.
    pub(super) fn own(&self, tree: Tree) -> OwnedTree<'a> {
        OwnedTree::new(tree, self.resources.removals, &self.resources.progress)
    }

    /// Makes an empty tree. `stage` is for messages.
    pub(super) fn empty_tree(&self, stage: &str) -> Result<OwnedTree<'a>, ExecutorError> {
        Ok(self.own(Tree::create(self.tree_path()).map_err(|cause| prepare(stage, cause))?))
    }

    /// Copies `tree` for `stage`.
    pub(super) fn copy_tree(&self, tree: &Tree, stage: &str) -> Result<OwnedTree<'a>, ExecutorError> {
        let progress = &self.resources.progress;
        let _phase = progress.phase(Phase::Unpack);
        let copy = self.own(tree.copy_to(self.tree_path()).map_err(|cause| prepare(stage, cause))?);
        progress.disk_use(copy.path(), copy.index().content_size());
        Ok(copy)
    }

    /// Unpacks an image into a new tree, as far as its files are needed.
    pub(super) fn unpack(&self, index: usize, need: RootfsNeed) -> Result<OwnedTree<'a>, ExecutorError> {
        let name = self.plan.images[index].reference.to_string();
        let failed = |cause| prepare(&name, cause);
        if need < RootfsNeed::Full {
            let metadata_only = self
                .with_layers(index, need, || Tree::create_metadata_only(self.tree_path(), DATABASES).map_err(failed))?;
            let mut omitted = DATABASES.iter().map(|database| metadata_only.is_omitted(Path::new(database)));
            if omitted.try_fold(false, |any, this| this.map(|this| any || this)).map_err(failed)? {
                // The user database is a link to a file that was omitted. That is too rare to be checked in advance.
                drop(metadata_only);
            } else {
                return Ok(metadata_only);
            }
        }
        self.with_layers(index, RootfsNeed::Full, || Tree::create(self.tree_path()).map_err(failed))
    }

    /// Makes a tree and unpacks the layers of an image into it while they are downloaded. If a download has to be
    /// repeated, the tree is made again.
    fn with_layers(
        &self,
        index: usize,
        need: RootfsNeed,
        create: impl Fn() -> Result<Tree, ExecutorError>,
    ) -> Result<OwnedTree<'a>, ExecutorError> {
        loop {
            let mut tree = self.own(create()?);
            if self.apply_layers(index, need, &mut tree)? {
                return Ok(tree);
            }
        }
    }

    /// Returns `false` if the layers must be applied to a new tree.
    fn apply_layers(&self, index: usize, need: RootfsNeed, tree: &mut Tree) -> Result<bool, ExecutorError> {
        let image = &self.plan.images[index];
        let name = image.reference.to_string();
        let Resources { base_layers, progress, .. } = self.resources;
        for (number, layer) in image.layers.iter().enumerate() {
            let digest = &layer.descriptor.digest;
            // Layers of a local layout take no additional disk space.
            let is_outside = image.reference.layout_directory().is_some();
            let not_fetched = |cause| ExecutorError::Fetch { image: name.clone(), digest: digest.clone(), cause };
            let growing = base_layers.growing(image, number).map_err(not_fetched)?;
            let growing = Arc::new(GrowingFileReader::new(growing));
            let content: Arc<dyn ReadAt> = Arc::clone(&growing) as _;
            let unpacking = progress.phase(Phase::Unpack);
            let unpacked = unpack_layer(tree, &content, &name, layer, need);
            drop(unpacking);
            let waiting = progress.phase(Phase::Pull);
            let completion = growing.wait();
            // If the download failed, its error explains the one of unpacking.
            let file = match completion {
                Completion::Reclaimed => None,
                Completion::Complete | Completion::Failed => {
                    Some(base_layers.file(image, number).map_err(not_fetched)?)
                }
            };
            drop(waiting);
            match unpacked {
                Ok(()) => {}
                Err(error) if completion != Completion::Failed => return Err(error),
                Err(error) => {
                    tracing::debug!(
                        "layer {digest}: unpacked again after its second download: {}",
                        with_causes(&error)
                    );
                    return Ok(false);
                }
            }
            if let Some(file) = file.filter(|_| !is_outside) {
                progress.disk_use(&file, layer.descriptor.size);
            }
        }
        progress.disk_use(tree.path(), tree.index().content_size());
        Ok(true)
    }

    /// Returns a path for a new tree.
    pub(super) fn tree_path(&self) -> PathBuf {
        let number = self.trees_made.fetch_add(1, Ordering::Relaxed) + 1;
        self.resources.trees.join(format!("root-{number}"))
    }

    /// Returns a path for a new layer.
    pub(super) fn layer_path(&self) -> PathBuf {
        let number = self.layers_made.fetch_add(1, Ordering::Relaxed);
        self.resources.directory.join(format!("layer-{number}"))
    }
}

fn unpack_layer(
    tree: &mut Tree,
    content: &Arc<dyn ReadAt>,
    image: &str,
    layer: &LayerDescriptor,
    need: RootfsNeed,
) -> Result<(), ExecutorError> {
    let digest = &layer.descriptor.digest;
    let unreadable = |cause| ExecutorError::ReadLayer { image: image.to_owned(), digest: digest.clone(), cause };
    // If the content is not used, the blob's digest is enough, and the diffID is not verified: hashing the content
    // would double the time.
    let diff_id = (need == RootfsNeed::Full).then_some(&layer.diff_id);
    let content = layer::read_ahead(content, &layer.descriptor.media_type, diff_id).map_err(unreadable)?;
    tree.apply_layer(&digest.to_string(), content).map_err(|cause| ExecutorError::Unpack {
        image: image.to_owned(),
        digest: digest.clone(),
        directory: tree.path().to_owned(),
        cause,
    })?;
    Ok(())
}

fn prepare(stage: &str, cause: RootfsError) -> ExecutorError {
    ExecutorError::Prepare { stage: stage.to_owned(), cause }
}
