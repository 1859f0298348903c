//! Who needs the files of a stage or an image, and until when: known from the plan before anything runs.
//!
//! Every step that reads files of others and every stage that starts from another has a claim on them from the beginning,
//! and gives it up when it has read them, or has a tree of its own. No claim is made later. The last one takes the tree
//! with it, so that files are there as long as anything may still ask for them, and no longer.
//!
//! A stage that starts from another gets a copy of its tree. One of those stages, the [heir](heirs), may have the tree
//! itself: if it is the only claimant left, which cannot change any more. The others never move it.

use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::plan::{Base, CopyFrom, Plan, Step};

use super::stages::Execution;
use super::trees::{FinishedTree, OwnedTree};
use super::{BuiltLayer, Disposition, ExecutorError, Resolution, RootfsNeed};

/// The files of a stage that is done, or of an image. Their tree is made when it is first asked for.
#[derive(Default)]
pub(super) struct Files<'a> {
    /// Absent while the stage runs, and from the moment that something sets about making the tree.
    beginning: Mutex<Option<Beginning<'a>>>,
    tree: OnceLock<FinishedTree<'a>>,
}

/// A tree that is not made yet.
pub(super) struct Beginning<'a> {
    /// What it starts from.
    pub(super) start: Start<'a>,
    /// The layers to be laid over that.
    pub(super) layers: Vec<BuiltLayer>,
}

/// What a tree starts from.
pub(super) enum Start<'a> {
    /// An empty directory.
    Scratch {
        /// The stage, for messages.
        stage: &'a str,
    },
    /// An image, by its number in the plan, as far as it is needed.
    Image(usize, RootfsNeed),
    /// Another stage: the claim on its files.
    Stage {
        /// The stage that starts from it, for messages.
        stage: &'a str,
        /// The other one's files.
        files: Arc<Files<'a>>,
        /// Whether this one may have the tree itself.
        is_heir: bool,
    },
}

/// The claim of a step on files that it reads.
pub(super) struct Reading<'a>(Arc<Files<'a>>);

/// The claims of a stage, and what it leaves to those who have claims on its own files.
pub(super) struct Claims<'a> {
    /// None once the stage has a tree, or if it never needs one.
    pub(super) start: Option<Start<'a>>,
    /// For each step one for each of its origins; none for a build context, and for steps that do not execute.
    pub(super) steps: Vec<Vec<Option<Reading<'a>>>>,
    /// The stage's own files, as long as there is a claim on them.
    own: Weak<Files<'a>>,
}

/// The claims of every stage. Only steps that execute have claims, and a stage that is not needed has none.
pub(super) fn claims<'a>(plan: &'a Plan, resolution: &Resolution) -> Vec<Claims<'a>> {
    let heirs = heirs(plan, resolution);
    let images: Vec<Arc<Files<'a>>> = (0..plan.images.len()).map(|image| Arc::new(Files::of_image(image))).collect();
    let stages: Vec<Arc<Files<'a>>> = plan.stages.iter().map(|_| Arc::default()).collect();
    let reading = |from| match from {
        CopyFrom::Context | CopyFrom::Directory(_) => None,
        CopyFrom::Stage(stage) => Some(Reading(Arc::clone(&stages[stage]))),
        CopyFrom::Image(image) => Some(Reading(Arc::clone(&images[image]))),
    };
    let of_stage = |(number, own): (usize, &Arc<Files<'a>>)| {
        let (stage, resolved) = (&plan.stages[number], &resolution.stages[number]);
        let name = stage.name.as_str();
        let start = || match stage.base {
            Base::Scratch => Start::Scratch { stage: name },
            Base::Image(image) => Start::Image(image, resolved.rootfs),
            Base::Stage(parent) => {
                let files = Arc::clone(&stages[parent]);
                Start::Stage { stage: name, files, is_heir: heirs[parent] == Some(number) }
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

/// For each stage the one that may take its tree over: the last of those that start from it and need a tree.
fn heirs(plan: &Plan, resolution: &Resolution) -> Vec<Option<usize>> {
    let mut heirs = vec![None; plan.stages.len()];
    for (number, stage) in plan.stages.iter().enumerate() {
        if let (Base::Stage(parent), true) = (stage.base, resolution.stages[number].rootfs > RootfsNeed::None) {
            heirs[parent] = Some(number);
        }
    }
    heirs
}

impl<'a> Claims<'a> {
    /// Whether anything has a claim on the stage's own files.
    pub(super) fn is_claimed(&self) -> bool {
        self.own.strong_count() > 0
    }

    /// Leaves the tree of the stage, which is done, to those who have claims on it.
    pub(super) fn leave_tree(self, tree: OwnedTree<'a>) {
        if let Some(own) = self.own.upgrade() {
            own.tree.get_or_init(|| FinishedTree::new(tree));
        }
    }

    /// Leaves them what makes a tree of the stage, which is done without one: what it starts from, and its own layers.
    pub(super) fn leave_layers(self, layers: &[BuiltLayer]) {
        if let (Some(own), Some(start)) = (self.own.upgrade(), self.start) {
            *own.beginning.lock() = Some(Beginning { start, layers: layers.to_vec() });
        }
    }
}

impl<'a> Reading<'a> {
    /// The files: there as long as the claim is.
    ///
    /// # Errors
    /// The tree cannot be made.
    pub(super) fn tree(&self, execution: &Execution<'a>) -> Result<&FinishedTree<'a>, ExecutorError> {
        self.0.tree(execution)
    }
}

impl<'a> Start<'a> {
    /// Makes a tree of it.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn begin(self, execution: &Execution<'a>) -> Result<OwnedTree<'a>, ExecutorError> {
        match self {
            Self::Scratch { stage } => execution.empty_tree(stage),
            Self::Image(image, need) => execution.unpack(image, need),
            Self::Stage { stage, files, is_heir: false } => execution.copy_tree(files.tree(execution)?, stage),
            Self::Stage { stage, files, is_heir: true } => match Arc::try_unwrap(files) {
                Ok(files) => files.into_tree(execution),
                Err(files) => execution.copy_tree(files.tree(execution)?, stage),
            },
        }
    }
}

impl<'a> Files<'a> {
    fn of_image(image: usize) -> Self {
        let beginning = Beginning { start: Start::Image(image, RootfsNeed::Full), layers: Vec::new() };
        Self { beginning: Mutex::new(Some(beginning)), tree: OnceLock::new() }
    }

    fn tree(&self, execution: &Execution<'a>) -> Result<&FinishedTree<'a>, ExecutorError> {
        // Held until the tree is there: it is made once. What it is made of in turn lies further up in the Dockerfile.
        let mut beginning = self.beginning.lock();
        if let Some(tree) = self.tree.get() {
            return Ok(tree);
        }
        let tree = make(beginning.take(), execution)?;
        Ok(self.tree.get_or_init(|| FinishedTree::new(tree)))
    }

    fn into_tree(self, execution: &Execution<'a>) -> Result<OwnedTree<'a>, ExecutorError> {
        match self.tree.into_inner() {
            Some(tree) => Ok(tree.into_tree()),
            None => make(self.beginning.into_inner(), execution),
        }
    }
}

fn make<'a>(beginning: Option<Beginning<'a>>, execution: &Execution<'a>) -> Result<OwnedTree<'a>, ExecutorError> {
    let Beginning { start, layers } = beginning.ok_or(ExecutorError::NotMade)?;
    let mut tree = start.begin(execution)?;
    layers.iter().try_for_each(|layer| execution.apply_cached(&mut tree, layer))?;
    Ok(tree)
}
