//! Determines how much of its root file system each stage needs, and so whether its base is unpacked.

use crate::plan::{Action, Base, CopyFrom, Plan, RemoteSource};

/// How much a stage needs of its root file system, and so of its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RootfsNeed {
    /// Nothing: the stage only configures, or copies with `--link`.
    None,
    /// Names and metadata: `COPY` and `WORKDIR` follow links and make missing directories.
    MetadataOnly,
    /// Everything: commands run on the files, or other stages copy them.
    Full,
}

/// Returns the need of each stage. `executes` says for each step of each stage whether it executes. With
/// `single_snapshot`, a stage makes one layer.
pub(super) fn rootfs_needs(plan: &Plan, executes: &[Vec<bool>], single_snapshot: bool) -> Vec<RootfsNeed> {
    let mut needs = vec![RootfsNeed::None; plan.stages.len()];
    let mut looks_names_up = vec![false; plan.stages.len()];
    // Only later stages depend on a stage.
    for (index, stage) in plan.stages.iter().enumerate().rev() {
        let steps = || stage.steps.iter().map(|step| &step.action).zip(&executes[index]);
        let executed = || steps().filter(|(_, executes)| **executes).map(|(action, _)| action);
        let own = executed().map(|action| of_action(action, single_snapshot)).max();
        let mut need = needs[index].max(own.unwrap_or(RootfsNeed::None));
        looks_names_up[index] |= executed().any(needs_user_database);
        // The metadata-only rootfs has passwd and group, unless they are links, which the layer of a command may have
        // made.
        let has_cached_command = steps().any(|(action, executes)| matches!(action, Action::Run(_)) && !executes);
        if need == RootfsNeed::MetadataOnly && looks_names_up[index] && has_cached_command {
            need = RootfsNeed::Full;
        }
        needs[index] = need;
        if let Base::Stage(parent) = stage.base {
            needs[parent] = needs[parent].max(need);
            looks_names_up[parent] |= looks_names_up[index];
        }
        for from in executed().flat_map(Action::origins) {
            if let CopyFrom::Stage(source) = from {
                needs[source] = RootfsNeed::Full;
            }
        }
    }
    needs
}

/// Reports whether a step looks up users or groups in the stage's files.
fn needs_user_database(action: &Action) -> bool {
    let has_name = |owner: &str| owner.split(':').any(|part| part.bytes().any(|byte| !byte.is_ascii_digit()));
    match action {
        Action::Copy(copy) => copy.chown.as_deref().is_some_and(has_name),
        Action::Workdir(workdir) => has_name(&workdir.user),
        Action::Configure | Action::Run(_) => false,
    }
}

fn of_action(action: &Action, single_snapshot: bool) -> RootfsNeed {
    match action {
        Action::Configure => RootfsNeed::None,
        Action::Workdir(_) => RootfsNeed::MetadataOnly,
        Action::Run(_) => RootfsNeed::Full,
        Action::Copy(copy) if copy.link && !single_snapshot => RootfsNeed::None,
        Action::Copy(copy) => {
            let remote = |source: &RemoteSource| matches!(source, RemoteSource::File { unpack: true, .. });
            // Members of an archive may be hard links to existing files, and replace directories.
            let is_archive = copy.unpack || copy.remotes.values().any(remote);
            if is_archive { RootfsNeed::Full } else { RootfsNeed::MetadataOnly }
        }
    }
}
