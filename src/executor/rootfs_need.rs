//! How much of its root file system a stage needs: what decides whether a base is unpacked.

use crate::plan::{Action, Base, CopyFrom, Plan, RemoteSource};

/// What a stage needs of the files it starts from, and so of its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RootfsNeed {
    /// Nothing: it only configures, or copies with `--link`.
    None,
    /// Names and metadata: `COPY` and `WORKDIR` follow links, make what is missing and leave what is there.
    MetadataOnly,
    /// Everything: commands run on the files, or other stages copy them.
    Full,
}

/// What each stage of the plan needs. `executes` says of each step, by stage, whether it executes; with `single_snapshot` a
/// stage makes one layer.
pub(super) fn rootfs_needs(plan: &Plan, executes: &[Vec<bool>], single_snapshot: bool) -> Vec<RootfsNeed> {
    let mut needs = vec![RootfsNeed::None; plan.stages.len()];
    let mut looks_names_up = vec![false; plan.stages.len()];
    // A stage is needed by later ones only.
    for (index, stage) in plan.stages.iter().enumerate().rev() {
        let steps = || stage.steps.iter().map(|step| &step.action).zip(&executes[index]);
        let executed = || steps().filter(|(_, executes)| **executes).map(|(action, _)| action);
        let own = executed().map(|action| of_action(action, single_snapshot)).max();
        let mut need = needs[index].max(own.unwrap_or(RootfsNeed::None));
        looks_names_up[index] |= executed().any(needs_user_database);
        // passwd and group are among the files, unless a link leads to them, which a command's layer may have made.
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

/// Whether a step looks users or groups up in the stage's files.
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
            // The members of an archive may be further names of files that are there, and replace directories.
            let is_archive = copy.unpack || copy.remotes.values().any(remote);
            if is_archive { RootfsNeed::Full } else { RootfsNeed::MetadataOnly }
        }
    }
}
