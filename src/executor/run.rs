//! `RUN`: executes a planned command in the sandbox.

use std::path::Path;

use crate::diag::Step;
use crate::fs::Timestamp;
use crate::plan::Run;
use crate::rootfs::Tree;
use crate::sandbox::{Ids, Network, Process, Sandbox, Script, Status, Stop};

use super::StepError;
use super::directories::{NewDirectories, create_directories};
use super::mounts::Prepared;
use super::users::{Owner, resolve_user};

/// Runs the command with `tree` as its root.
///
/// # Errors
/// The command could not be started, or its exit code is not 0.
pub(super) fn run(
    tree: &mut Tree,
    command: &Run,
    prepared: &Prepared<'_>,
    sandbox: &mut dyn Sandbox,
    stop: &Stop,
    line: &Step,
) -> Result<(), StepError> {
    let user = resolve_user(tree, &command.user).map_err(StepError::User)?;
    // The directory may have been removed since its `WORKDIR`. Container runtimes make it again, too.
    make_working_directory(tree, &command.working_directory, Owner::default())?;
    let mut environment = command.environment.clone();
    environment.retain(|(name, _)| !prepared.environment.iter().any(|(added, _)| added == name));
    environment.extend(prepared.environment.iter().cloned());
    if !environment.iter().any(|(name, _)| name == "HOME") {
        environment.push(("HOME".to_owned(), user.home.clone()));
    }
    let process = Process {
        arguments: command.arguments.clone(),
        environment,
        working_directory: command.working_directory.clone(),
        user: Ids { uid: user.uid, gid: user.gid, groups: user.groups },
        hostname: command.host_name.clone().unwrap_or_default(),
        network: if command.offline { Network::None } else { Network::Shared },
        script: command.script.as_ref().map(|text| Script { name: text.name.clone(), content: text.content.clone() }),
        mounts: prepared.mounts.clone(),
        stop: Some(stop.clone()),
    };
    let outcome = sandbox.run(tree.path(), &process, &mut |_, bytes| line.output(bytes)).map_err(StepError::Sandbox)?;
    for moved in &outcome.restamped {
        tree.restamp(&moved.path, timestamp(moved.before), timestamp(moved.after));
    }
    match outcome.status {
        Status::Exited(0) => {
            for mount in &outcome.busy {
                tracing::warn!(
                    "the command could not remove or rename {}, because the pod has a mount there: the image keeps its files",
                    mount.display()
                );
            }
            Ok(())
        }
        Status::Exited(code) if !outcome.busy.is_empty() => Err(StepError::Busy { code, mounts: outcome.busy }),
        Status::Exited(code) => Err(StepError::Exit(code)),
        Status::Signaled(signal) => Err(StepError::Signal(signal)),
    }
}

/// Makes the directory `path` (absolute, clean) and its missing parents. Existing directories do not change.
///
/// # Errors
/// A file that is not a directory is in the way, or the tree cannot be changed.
pub(super) fn make_working_directory(tree: &mut Tree, path: &str, owner: Owner) -> Result<(), StepError> {
    let resolved = tree.resolve(Path::new(path.trim_start_matches('/')), true).map_err(StepError::Rootfs)?;
    let new = NewDirectories { mode: None, owner: Some(owner) };
    create_directories(tree, &resolved, new).map_err(|cause| StepError::Workdir { path: path.to_owned(), cause })
}

fn timestamp(time: crate::sandbox::ChangeTime) -> Timestamp {
    Timestamp { seconds: time.seconds, nanoseconds: time.nanoseconds }
}
