//! What the threads of a build share, and how trees are made: empty, of the layers of an image, or as a copy.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::context::Context;
use crate::diag::{Phase, with_causes};
use crate::fs::{Completion, GrowingFileReader, ReadAt};
use crate::image::LayerDescriptor;
use crate::layer::{self, VerifyingReader};
use crate::plan::{Base, CopyFrom, Plan};
use crate::rootfs::{RootfsError, Tree};
use crate::sandbox::Stop;

use super::content_cache::ContentCache;
use super::error::ExecutorError;
use super::resolution::Resolution;
use super::resources::{BuiltLayer, Resources};
use super::rootfs_need::RootfsNeed;
use super::trees::OwnedTree;
use super::users::DATABASES;

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
    /// Starts a build in which nothing has run yet.
    pub(super) fn new(
        plan: &'a Plan,
        resolution: &'a Resolution,
        cache: Option<&'a dyn ContentCache>,
        resources: &'a Resources<'a>,
    ) -> Result<Self, ExecutorError> {
        Ok(Self {
            plan,
            resolution,
            cache,
            resources,
            layers: plan.stages.iter().map(|_| OnceLock::new()).collect(),
            trees_made: AtomicUsize::new(0),
            layers_made: AtomicUsize::new(0),
            stop: Stop::new().map_err(ExecutorError::Stop)?,
        })
    }

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
        // Every failure means that the cached layer is unusable: another build made it.
        let unusable = |cause| ExecutorError::CachedLayer { digest: descriptor.digest.clone(), cause };
        let file = cache.file(layer).map_err(unusable)?;
        let opened = crate::fs::open(file).map_err(|error| unusable(error.into()))?;
        let reader = layer::reader(opened, &descriptor.media_type).map_err(|error| unusable(error.into()))?;
        let reader = VerifyingReader::new(reader, &layer.diff_id);
        tree.apply_layer(&descriptor.digest.to_string(), reader).map_err(|error| unusable(error.into()))?;
        Ok(())
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
