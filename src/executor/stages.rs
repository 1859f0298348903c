//! The build's stages beside each other, and the files they share: trees of finished stages and of images.
//!
//! A stage owns its tree while it runs; once it is done the tree is only read, by every stage that needs it at once. A base
//! is unpacked when a step first needs its files, and a tree goes as soon as nobody needs it any more.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::context::Context;
use crate::diag::{Phase, with_causes};
use crate::fs::{Arrived, ArrivingFile, ReadAt};
use crate::image::LayerDescriptor;
use crate::layer;
use crate::plan::{Base, CopyFrom, Plan, Stage};
use crate::rootfs::{RootfsError, Tree};
use crate::sandbox::Stop;

use super::stage::StageRun;
use super::users::DATABASES;
use super::{BuiltLayer, ExecutorError, KnownLayers, Need, Position, Resources, needs, schedule};

/// Runs every stage of `plan` and gives the target's layers, the base's included, lowest first.
///
/// # Errors
/// The first thing that goes wrong, with the step it went wrong in.
pub fn execute(plan: &Plan, resources: &Resources<'_>) -> Result<Vec<BuiltLayer>, ExecutorError> {
    let uses: Vec<Vec<usize>> = (0..plan.stages.len()).map(|stage| uses(plan, stage, resources.known_layers)).collect();
    let uses = |stage: usize| uses.iter().flatten().filter(|needed| **needed == stage).count();
    let execution = Execution {
        plan,
        resources,
        stage_needs: needs(plan, resources.single_snapshot, &|position| {
            resources
                .known_layers
                .is_none_or(|known| known.is_needed(position.stage) && known.known(position).is_none())
        }),
        stages: (0..plan.stages.len())
            .map(|stage| Finished { uses: AtomicUsize::new(uses(stage)), ..Finished::default() })
            .collect(),
        images: plan.images.iter().map(|_| Mutex::default()).collect(),
        trees_made: AtomicUsize::new(0),
        layers_made: AtomicUsize::new(0),
        stop: Stop::new().map_err(ExecutorError::Stop)?,
    };
    let bases: Vec<Option<usize>> = plan.stages.iter().map(Stage::parent).collect();
    let work = |stage, place: &mut _, board: &_| StageRun::new(&execution, stage, place).run(board);
    schedule::run(&bases, resources.parallel, work, || execution.stop.ask())?;
    Ok(execution.layers(plan.target))
}

/// The stages whose files a stage may need, once for each time it does.
fn uses(plan: &Plan, number: usize, known: Option<&dyn KnownLayers>) -> Vec<usize> {
    if known.is_some_and(|known| !known.is_needed(number)) {
        return Vec::new();
    }
    let stage = &plan.stages[number];
    let is_known = |step| known.is_some_and(|known| known.known(Position { stage: number, step }).is_some());
    let steps = stage.steps.iter().enumerate().filter(|(step, _)| !is_known(*step));
    stage.parent().into_iter().chain(steps.flat_map(|(_, step)| step.action.needs())).collect()
}

/// What a stage leaves to those that need it.
#[derive(Default)]
struct Finished {
    /// How many steps and stages still need it.
    uses: AtomicUsize,
    layers: Mutex<Vec<BuiltLayer>>,
    /// Present once something needed the files.
    tree: Mutex<Option<Arc<Tree>>>,
}

/// What the threads share.
pub(super) struct Execution<'a> {
    pub(super) plan: &'a Plan,
    pub(super) resources: &'a Resources<'a>,
    stage_needs: Vec<Need>,
    stages: Vec<Finished>,
    /// Trees of images that a `COPY --from` reads.
    images: Vec<Mutex<Option<Arc<Tree>>>>,
    trees_made: AtomicUsize,
    layers_made: AtomicUsize,
    /// For commands of other stages, once one has failed.
    pub(super) stop: Stop,
}

impl Execution<'_> {
    /// The layers of a stage that is done.
    pub(super) fn layers(&self, stage: usize) -> Vec<BuiltLayer> {
        lock(&self.stages[stage].layers).clone()
    }

    /// Takes what a stage made; its files are kept if somebody will need them.
    pub(super) fn finish(
        &self,
        stage: usize,
        layers: Vec<BuiltLayer>,
        tree: Option<Tree>,
    ) -> Result<(), ExecutorError> {
        let finished = &self.stages[stage];
        *lock(&finished.layers) = layers;
        *lock(&finished.tree) = tree.map(Arc::new);
        if finished.uses.load(Ordering::Acquire) == 0 { self.discard(stage) } else { Ok(()) }
    }

    /// Whether somebody will need the files of a stage that is done.
    pub(super) fn is_used(&self, stage: usize) -> bool {
        self.stages[stage].uses.load(Ordering::Acquire) > 0
    }

    /// The files of a stage that is done: for reading.
    pub(super) fn files(&self, stage: usize) -> Result<Arc<Tree>, ExecutorError> {
        let mut slot = lock(&self.stages[stage].tree);
        if let Some(tree) = &*slot {
            return Ok(Arc::clone(tree));
        }
        // Nothing in the stage made a file: it has those of its base, and of layers that were known.
        let mut tree = self.start(stage)?;
        self.unpack_known(&mut tree, stage, &self.layers(stage))?;
        let tree = Arc::new(tree);
        *slot = Some(Arc::clone(&tree));
        Ok(tree)
    }

    /// The build context, or a named one.
    pub(super) fn context(&self, from: CopyFrom) -> &Context {
        match from {
            CopyFrom::Directory(number) => &self.resources.named_contexts[number],
            _ => self.resources.context,
        }
    }

    /// The files of an image: for reading.
    pub(super) fn image_files(&self, image: usize) -> Result<Arc<Tree>, ExecutorError> {
        let mut slot = lock(&self.images[image]);
        if let Some(tree) = &*slot {
            return Ok(Arc::clone(tree));
        }
        let tree = Arc::new(self.unpack(image, Need::Content)?);
        *slot = Some(Arc::clone(&tree));
        Ok(tree)
    }

    /// A tree of its own for a stage, as its `FROM` says.
    pub(super) fn start(&self, stage: usize) -> Result<Tree, ExecutorError> {
        let need = self.need(stage);
        let stage = &self.plan.stages[stage];
        match stage.base {
            Base::Scratch => Tree::create(self.tree_path()).map_err(|cause| prepare(stage, cause)),
            Base::Image(image) => self.unpack(image, need),
            Base::Stage(parent) => {
                let tree = self.files(parent)?;
                if self.stages[parent].uses.load(Ordering::Acquire) == 1 {
                    // Nobody else needs the parent's files: they are taken over instead of copied.
                    drop(tree);
                    let mut slot = lock(&self.stages[parent].tree);
                    match slot.take().map(Arc::try_unwrap) {
                        Some(Ok(tree)) => return Ok(tree),
                        Some(Err(shared)) => *slot = Some(shared),
                        None => {}
                    }
                }
                let tree = self.files(parent)?;
                let _phase = self.resources.progress.phase(Phase::Unpack);
                let tree = tree.copy_to(self.tree_path()).map_err(|cause| prepare(stage, cause))?;
                self.resources.progress.disk_use(tree.path(), tree.index().content_size());
                Ok(tree)
            }
        }
    }

    /// What a stage and all that build on it need of its files.
    pub(super) fn need(&self, stage: usize) -> Need {
        self.stage_needs[stage]
    }

    fn unpack(&self, index: usize, need: Need) -> Result<Tree, ExecutorError> {
        let name = self.plan.images[index].reference.to_string();
        let failed = |cause| ExecutorError::Prepare { stage: name.clone(), cause };
        if need < Need::Content {
            let skeleton =
                self.with_layers(index, need, || Tree::create_skeleton(self.tree_path(), DATABASES).map_err(failed))?;
            let mut left_out = DATABASES.iter().map(|database| skeleton.is_left_out(Path::new(database)));
            if left_out.try_fold(false, |any, this| this.map(|this| any || this)).map_err(failed)? {
                // Somewhere else, behind a link: that is too rare to find out before.
                self.resources.removals.start(skeleton.path()).map_err(|cause| failed(cause.into()))?;
            } else {
                return Ok(skeleton);
            }
        }
        self.with_layers(index, Need::Content, || Tree::create(self.tree_path()).map_err(failed))
    }

    /// A new tree with the layers of an image, which are unpacked while they come. When one of them had to be fetched anew
    /// meanwhile, another tree gets them: that one is complete then.
    fn with_layers(
        &self,
        index: usize,
        need: Need,
        create: impl Fn() -> Result<Tree, ExecutorError>,
    ) -> Result<Tree, ExecutorError> {
        loop {
            let mut tree = create()?;
            if self.apply_layers(index, need, &mut tree)? {
                return Ok(tree);
            }
            let image = self.plan.images[index].reference.to_string();
            let started = self.resources.removals.start(tree.path());
            started.map_err(|cause| ExecutorError::Prepare { stage: image, cause: cause.into() })?;
        }
    }

    /// False where the layers have to be applied to another tree.
    fn apply_layers(&self, index: usize, need: Need, tree: &mut Tree) -> Result<bool, ExecutorError> {
        let image = &self.plan.images[index];
        let name = image.reference.to_string();
        let Resources { base_layers, progress, .. } = self.resources;
        for (number, layer) in image.layers.iter().enumerate() {
            let digest = &layer.descriptor.digest;
            // Layers of a layout stay where the user has them.
            let is_outside = image.reference.layout_directory().is_some();
            let not_fetched = |cause| ExecutorError::Fetch { image: name.clone(), digest: digest.clone(), cause };
            let arrival = base_layers.arrival(image, number).map_err(not_fetched)?;
            let arriving = Arc::new(ArrivingFile::new(arrival));
            let content: Arc<dyn ReadAt> = Arc::clone(&arriving) as _;
            let unpacking = progress.phase(Phase::Unpack);
            let unpacked = unpack_layer(tree, &content, &name, layer, need);
            drop(unpacking);
            let waiting = progress.phase(Phase::Pull);
            let arrived = arriving.wait();
            // What is wrong with the download explains what is wrong with its content.
            let file = match arrived {
                Arrived::LetGo => None,
                Arrived::Kept | Arrived::Broken => Some(base_layers.file(image, number).map_err(not_fetched)?),
            };
            drop(waiting);
            match unpacked {
                Ok(()) => {}
                Err(error) if arrived != Arrived::Broken => return Err(error),
                Err(error) => {
                    tracing::debug!("once more, with the layer that came in the end: {}", with_causes(&error));
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

    /// Where a new tree may be made.
    pub(super) fn tree_path(&self) -> PathBuf {
        let number = self.trees_made.fetch_add(1, Ordering::Relaxed) + 1;
        self.resources.trees.join(format!("root-{number}"))
    }

    /// Where a new layer may be written.
    pub(super) fn layer_path(&self) -> PathBuf {
        let number = self.layers_made.fetch_add(1, Ordering::Relaxed);
        self.resources.directory.join(format!("layer-{number}"))
    }

    /// One use of a stage is over.
    pub(super) fn release(&self, stage: usize) -> Result<(), ExecutorError> {
        let before = self.stages[stage].uses.fetch_sub(1, Ordering::AcqRel);
        if before == 1 { self.discard(stage) } else { Ok(()) }
    }

    fn discard(&self, stage: usize) -> Result<(), ExecutorError> {
        match lock(&self.stages[stage].tree).take() {
            Some(tree) => {
                self.resources.progress.disk_use(tree.path(), 0);
                let started = self.resources.removals.start(tree.path());
                started.map_err(|cause| prepare(&self.plan.stages[stage], cause.into()))
            }
            None => Ok(()),
        }
    }
}

fn unpack_layer(
    tree: &mut Tree,
    content: &Arc<dyn ReadAt>,
    image: &str,
    layer: &LayerDescriptor,
    need: Need,
) -> Result<(), ExecutorError> {
    let digest = &layer.descriptor.digest;
    let unreadable = |cause| ExecutorError::ReadLayer { image: image.to_owned(), digest: digest.clone(), cause };
    // Where the content is not used, nobody has to know more of it than that the manifest meant this blob: hashing it costs
    // about as much as all the rest.
    let diff_id = (need == Need::Content).then_some(&layer.diff_id);
    let content = layer::read_ahead(content, &layer.descriptor.media_type, diff_id).map_err(unreadable)?;
    tree.apply_layer(&digest.to_string(), content).map_err(|cause| ExecutorError::Unpack {
        image: image.to_owned(),
        digest: digest.clone(),
        directory: tree.path().to_owned(),
        cause,
    })?;
    Ok(())
}

fn prepare(stage: &Stage, cause: RootfsError) -> ExecutorError {
    ExecutorError::Prepare { stage: stage.name.clone(), cause }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
