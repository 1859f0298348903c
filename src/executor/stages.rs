//! Runs all stages of a build, as far as possible in parallel.

use parking_lot::Mutex;

use crate::plan::{Plan, Stage};

use super::claims::{Claims, claims};
use super::execution::Execution;
use super::schedule::{self, Scheduler, Slot};
use super::stage::StageRun;
use super::{BuiltLayer, ContentCache, ExecutorError, Resolution, Resources};

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
    let execution = Execution::new(plan, resolution, cache, resources)?;
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
