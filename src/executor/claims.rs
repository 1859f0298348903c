//! Tracks which steps and stages still need the files of a stage or an image.
//!
//! The plan determines this before anything runs. Every step that reads files of a stage or image, and every stage that
//! starts from one, has a claim from the beginning. It drops the claim when it has read the files or has a tree of its
//! own. No claim is added later. The last claim owns the tree, so the files exist exactly as long as they may still be
//! read.
//!
//! A stage that starts from a different one gets a copy of its tree. One such stage, the [successor](successors), may
//! take over the tree itself, if no other claim is left.

use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::plan::{Base, CopyFrom, Plan, Step};

use super::execution::Execution;
use super::trees::{FinishedTree, OwnedTree};
use super::{BuiltLayer, Disposition, ExecutorError, Resolution, RootfsNeed};

/// The files of a finished stage, or of an image. Their tree is made on first use.
#[derive(Default)]
pub(super) struct StageFiles<'a> {
    /// `None` while the stage runs, and once the tree is being made.
    pending: Mutex<Option<PendingTree<'a>>>,
    tree: OnceLock<FinishedTree<'a>>,
}

/// A tree that is not made yet.
pub(super) struct PendingTree<'a> {
    /// The state that it starts from.
    pub(super) start: TreeStart<'a>,
    /// The layers to apply to that.
    pub(super) layers: Vec<BuiltLayer>,
}

/// The initial state of a tree.
pub(super) enum TreeStart<'a> {
    /// An empty directory.
    Scratch {
        /// The stage, for messages.
        stage: &'a str,
    },
    /// An image by its number in the plan, and how much of its files is needed.
    Image(usize, RootfsNeed),
    /// A different stage: a claim on its files.
    Stage {
        /// The stage that starts from it, for messages.
        stage: &'a str,
        /// The files of that stage.
        files: Arc<StageFiles<'a>>,
        /// Whether this stage may take over the tree.
        is_successor: bool,
    },
}

/// The claim of a step on files that it reads.
pub(super) struct ReadClaim<'a>(Arc<StageFiles<'a>>);

/// The claims of a stage, and the link to the claims on its own files.
pub(super) struct Claims<'a> {
    /// `None` once the stage has a tree, or if it never needs one.
    pub(super) start: Option<TreeStart<'a>>,
    /// For each step, one for each of its origins: `None` for a build context. Empty for steps that do not execute.
    pub(super) steps: Vec<Vec<Option<ReadClaim<'a>>>>,
    /// The stage's own files, while there is a claim on them.
    own: Weak<StageFiles<'a>>,
}

/// Returns the claims of every stage. Steps that do not execute and stages that are not needed have none.
pub(super) fn claims<'a>(plan: &'a Plan, resolution: &Resolution) -> Vec<Claims<'a>> {
    let successors = successors(plan, resolution);
    let images: Vec<Arc<StageFiles<'a>>> =
        (0..plan.images.len()).map(|image| Arc::new(StageFiles::of_image(image))).collect();
    let stages: Vec<Arc<StageFiles<'a>>> = plan.stages.iter().map(|_| Arc::default()).collect();
    let reading = |from| match from {
        CopyFrom::Context | CopyFrom::Directory(_) => None,
        CopyFrom::Stage(stage) => Some(ReadClaim(Arc::clone(&stages[stage]))),
        CopyFrom::Image(image) => Some(ReadClaim(Arc::clone(&images[image]))),
    };
    let of_stage = |(number, own): (usize, &Arc<StageFiles<'a>>)| {
        let (stage, resolved) = (&plan.stages[number], &resolution.stages[number]);
        let name = stage.name.as_str();
        let start = || match stage.base {
            Base::Scratch => TreeStart::Scratch { stage: name },
            Base::Image(image) => TreeStart::Image(image, resolved.rootfs),
            Base::Stage(parent) => {
                let files = Arc::clone(&stages[parent]);
                TreeStart::Stage { stage: name, files, is_successor: successors[parent] == Some(number) }
            }
        };
        let of_step = |(step, disposition): (&Step, &Disposition)| match disposition.is_execute() {
            true => step.action.origins().into_iter().map(reading).collect(),
            false => Vec::new(),
        };
        Claims {
            start: (resolved.rootfs > RootfsNeed::None).then(start),
            steps: stage.steps.iter().zip(&resolved.steps).map(of_step).collect(),
            own: Arc::downgrade(own),
        }
    };
    stages.iter().enumerate().map(of_stage).collect()
}

/// Returns for each stage the one that may take over its tree: the last that starts from it and needs a tree.
fn successors(plan: &Plan, resolution: &Resolution) -> Vec<Option<usize>> {
    let mut successors = vec![None; plan.stages.len()];
    for (number, stage) in plan.stages.iter().enumerate() {
        if let (Base::Stage(parent), true) = (stage.base, resolution.stages[number].rootfs > RootfsNeed::None) {
            successors[parent] = Some(number);
        }
    }
    successors
}

impl<'a> Claims<'a> {
    /// Reports whether there is a claim on the stage's own files.
    pub(super) fn is_claimed(&self) -> bool {
        self.own.strong_count() > 0
    }

    /// Passes the tree of the finished stage on to the claims on it.
    pub(super) fn leave_tree(self, tree: OwnedTree<'a>) {
        if let Some(own) = self.own.upgrade() {
            own.tree.get_or_init(|| FinishedTree::new(tree));
        }
    }

    /// Passes on what makes a tree of the finished stage, if it has none: its initial state and its own layers.
    pub(super) fn leave_layers(self, layers: &[BuiltLayer]) {
        if let (Some(own), Some(start)) = (self.own.upgrade(), self.start) {
            *own.pending.lock() = Some(PendingTree { start, layers: layers.to_vec() });
        }
    }
}

impl<'a> ReadClaim<'a> {
    /// Returns the files, which exist as long as the claim.
    ///
    /// # Errors
    /// The tree cannot be made.
    pub(super) fn tree(&self, execution: &Execution<'a>) -> Result<&FinishedTree<'a>, ExecutorError> {
        self.0.tree(execution)
    }
}

impl<'a> TreeStart<'a> {
    /// Makes a tree of it.
    ///
    /// # Errors
    /// The tree cannot be made.
    pub(super) fn make_tree(self, execution: &Execution<'a>) -> Result<OwnedTree<'a>, ExecutorError> {
        match self {
            Self::Scratch { stage } => execution.empty_tree(stage),
            Self::Image(image, need) => execution.unpack(image, need),
            Self::Stage { stage, files, is_successor: false } => execution.copy_tree(files.tree(execution)?, stage),
            Self::Stage { stage, files, is_successor: true } => match Arc::try_unwrap(files) {
                Ok(files) => files.into_tree(execution),
                Err(files) => execution.copy_tree(files.tree(execution)?, stage),
            },
        }
    }
}

impl<'a> StageFiles<'a> {
    fn of_image(image: usize) -> Self {
        let pending = PendingTree { start: TreeStart::Image(image, RootfsNeed::Full), layers: Vec::new() };
        Self { pending: Mutex::new(Some(pending)), tree: OnceLock::new() }
    }

    fn tree(&self, execution: &Execution<'a>) -> Result<&FinishedTree<'a>, ExecutorError> {
        // Locked until the tree is complete, so that it is made once. It may be made from a tree of an earlier stage in
        // turn.
        let mut pending = self.pending.lock();
        if let Some(tree) = self.tree.get() {
            return Ok(tree);
        }
        let tree = make(pending.take(), execution)?;
        Ok(self.tree.get_or_init(|| FinishedTree::new(tree)))
    }

    fn into_tree(self, execution: &Execution<'a>) -> Result<OwnedTree<'a>, ExecutorError> {
        match self.tree.into_inner() {
            Some(tree) => Ok(tree.into_tree()),
            None => make(self.pending.into_inner(), execution),
        }
    }
}

fn make<'a>(pending: Option<PendingTree<'a>>, execution: &Execution<'a>) -> Result<OwnedTree<'a>, ExecutorError> {
    let PendingTree { start, layers } = pending.ok_or(ExecutorError::NotMade)?;
    let mut tree = start.make_tree(execution)?;
    layers.iter().try_for_each(|layer| execution.apply_cached(&mut tree, layer))?;
    Ok(tree)
}
