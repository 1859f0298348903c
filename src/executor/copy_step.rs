//! COPY and ADD within a stage: the sources come from contexts, stages, images and the network.

use std::collections::BTreeMap;

use crate::plan::{Copy, CopyFrom, RemoteSource};
use crate::rootfs::Tree;

use super::copy::{CopySource, FetchedSource, copy};
use super::execution::Execution;
use super::{FetchedFiles, StepError};

/// Executes a `COPY` or `ADD`. `source` is the tree of a stage or an image, `None` for a build context.
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

fn from_tree<'t>(tree: Option<&'t Tree>, describe: &'t str) -> Result<CopySource<'t>, StepError> {
    Ok(CopySource { tree: tree.ok_or(StepError::NoRoot)?, ignore: None, reset_owner: false, describe })
}

/// Fetches the remote sources of a step.
fn fetch(execution: &Execution<'_>, step: &Copy) -> Result<BTreeMap<usize, FetchedSource>, StepError> {
    let mut fetched = BTreeMap::new();
    for (position, source) in &step.remotes {
        let location = source.to_string();
        let unpack = matches!(source, RemoteSource::File { unpack: true, .. });
        let files = execution.resources.remote_sources.fetch(source);
        let FetchedFiles { directory, name } =
            files.map_err(|cause| StepError::Fetch { location: location.clone(), cause })?;
        let tree = Tree::open(directory).map_err(StepError::Rootfs)?;
        fetched.insert(*position, FetchedSource { tree, name, describe: location, unpack });
    }
    Ok(fetched)
}
