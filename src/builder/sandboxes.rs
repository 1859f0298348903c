//! Opens the sandboxes of a build once it is known that a `RUN` executes.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::diag::progress::Progress;
use crate::executor::Resolution;
use crate::location::ContextLocation;
use crate::plan::{Action, MountSource, Plan, PlanError};
use crate::sandbox::{Chosen, InPlace, Sandbox, SandboxError};

use super::error::BuildError;
use super::request::BuildRequest;

pub(super) type Sandboxes = Vec<Mutex<Box<dyn Sandbox>>>;

/// Keeps the work directory and the context in place: a command of another build could move them.
pub(super) fn keep_in_place(
    request: &BuildRequest,
    sandbox: Result<&Chosen, &SandboxError>,
    work_dir: &Path,
) -> Result<Option<InPlace>, BuildError> {
    let context = match &request.inputs.context {
        ContextLocation::Directory(path) => Some(Path::new(path)),
        _ => None,
    };
    let paths: Vec<&Path> = std::iter::once(work_dir).chain(context).collect();
    crate::sandbox::keep_in_place(sandbox, &paths).map_err(BuildError::InPlace)
}

/// Returns the directory for stages' root directories, if it cannot be the work directory and a command may run.
pub(super) fn rootfs_parent(plan: &Plan, sandbox: Result<&Chosen, &SandboxError>, work_dir: &Path) -> Option<PathBuf> {
    let has_command = plan.steps().any(|(_, step)| matches!(step.action, Action::Run(_)));
    let chosen = sandbox.ok().filter(|_| has_command)?;
    let parent = crate::sandbox::place_for_trees(chosen, work_dir)?;
    tracing::info!(
        "the stages' files are in {}, because own-root isolation renames them and {} is not on the same mount as /",
        parent.display(),
        work_dir.display()
    );
    Some(parent)
}

/// Reports whether a `RUN` executes.
pub(super) fn are_needed(plan: &Plan, resolution: &Resolution) -> bool {
    resolution.executed().any(|id| matches!(plan.step(id).action, Action::Run(_)))
}

/// Opens a sandbox for each stage that may run at a time, or a single one for all.
pub(super) fn open(
    plan: &Plan,
    chosen: Result<Chosen, SandboxError>,
    parallel: usize,
    rootfs_parent: &Path,
    directory: &Path,
    progress: &Progress,
) -> Result<Sandboxes, BuildError> {
    let chosen = chosen.map_err(BuildError::NoSandbox)?;
    progress.line(&chosen);
    let mut sandboxes = Sandboxes::new();
    loop {
        let sandbox = crate::sandbox::open(&chosen, rootfs_parent, directory, &[]).map_err(BuildError::NoSandbox)?;
        refuse_impossible_steps(plan, sandbox.as_ref())?;
        if sandboxes.is_empty() && !sandbox.features().host_name && has_host_name(plan) {
            progress.line(format_args!(
                "WARNING: {} isolation cannot set a host name: the name in BUILDKIT_SANDBOX_HOSTNAME is only in /etc/hosts",
                sandbox.name()
            ));
        }
        let is_single = !sandbox.features().concurrent_commands;
        sandboxes.push(Mutex::new(sandbox));
        if is_single || sandboxes.len() >= parallel.min(plan.stages.len()) {
            return Ok(sandboxes);
        }
    }
}

fn has_host_name(plan: &Plan) -> bool {
    plan.steps().any(|(_, step)| matches!(&step.action, Action::Run(run) if run.host_name.is_some()))
}

/// Refuses steps that the sandbox cannot execute, before anything runs.
fn refuse_impossible_steps(plan: &Plan, sandbox: &dyn Sandbox) -> Result<(), BuildError> {
    let (isolation, mut errors) = (sandbox.name(), Vec::new());
    let features = sandbox.features();
    for (_, step) in plan.steps() {
        let Action::Run(run) = &step.action else { continue };
        if run.offline && !features.offline_commands {
            let message = format!(
                "RUN --network=none is not possible with {isolation} isolation in a pod that may not install seccomp filters"
            );
            let help =
                "allow the system call seccomp in the pod's profile, or user namespaces (seccompProfile: Unconfined)";
            errors.push(PlanError::impossible(step, message, help));
        }
        for mount in &run.mounts {
            let is_memory = matches!(mount.source, MountSource::Memory { .. });
            let Some(target) = &mount.target else { continue };
            if let Some(reason) = features.obstacle(Path::new(target), is_memory) {
                let message = format!("cannot mount over {target} with {isolation} isolation: {reason}");
                let help =
                    "mount it elsewhere, here or in the pod, or allow user namespaces (seccompProfile: Unconfined)";
                errors.push(PlanError::impossible(step, message, help));
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(BuildError::Dockerfile(errors)) }
}
