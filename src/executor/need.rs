//! How much of its files a stage needs: what decides whether a base is unpacked.

use super::Position;
use crate::plan::{Action, Base, CopyFrom, Plan, RemoteSource};

/// What a stage needs of the files it starts from, and so of its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing: it only configures, or copies with `--link`.
    Nothing,
    /// What there is and how it looks: `COPY` and `WORKDIR` follow links, make what is missing and leave what is there.
    Entries,
    /// Everything: commands run on the files, or somebody copies them.
    Content,
}

/// What each stage of the plan needs. `single_snapshot` is [`super::Resources::single_snapshot`]; the layers of steps that are
/// not carried out are there already.
pub fn needs(plan: &Plan, single_snapshot: bool, is_carried_out: &dyn Fn(Position) -> bool) -> Vec<Need> {
    let mut needs = vec![Need::Nothing; plan.stages.len()];
    let mut look_names_up = vec![false; plan.stages.len()];
    // Whoever needs a stage comes after it.
    for (index, stage) in plan.stages.iter().enumerate().rev() {
        let position = |step| Position { stage: index, step };
        let steps = || stage.steps.iter().enumerate().filter(|(step, _)| is_carried_out(position(*step)));
        let own = steps().map(|(_, step)| of_step(&step.action, single_snapshot)).max();
        let mut need = needs[index].max(own.unwrap_or(Need::Nothing));
        look_names_up[index] |= steps().any(|(_, step)| looks_names_up(&step.action));
        // The files that names are looked up in are there, unless a link leads to them, which a command's layer may have made.
        let has_known_command = stage
            .steps
            .iter()
            .enumerate()
            .any(|(step, planned)| matches!(planned.action, Action::Run(_)) && !is_carried_out(position(step)));
        if need == Need::Entries && has_known_command && look_names_up[index] {
            need = Need::Content;
        }
        needs[index] = need;
        if let Base::Stage(parent) = stage.base {
            needs[parent] = needs[parent].max(need);
            look_names_up[parent] |= look_names_up[index];
        }
        for from in steps().flat_map(|(_, step)| step.action.origins()) {
            if let CopyFrom::Stage(source) = from {
                needs[source] = Need::Content;
            }
        }
    }
    needs
}

/// Whether a step needs the stage's users and groups.
fn looks_names_up(action: &Action) -> bool {
    let has_name = |owner: &str| owner.split(':').any(|part| part.bytes().any(|byte| !byte.is_ascii_digit()));
    match action {
        Action::Copy(copy) => copy.chown.as_deref().is_some_and(has_name),
        Action::Workdir(workdir) => has_name(&workdir.user),
        Action::Configure | Action::Run(_) => false,
    }
}

fn of_step(action: &Action, single_snapshot: bool) -> Need {
    match action {
        Action::Configure => Need::Nothing,
        Action::Workdir(_) => Need::Entries,
        Action::Run(_) => Need::Content,
        Action::Copy(copy) if copy.link && !single_snapshot => Need::Nothing,
        Action::Copy(copy) => {
            let remote = |source: &RemoteSource| matches!(source, RemoteSource::File { unpack: true, .. });
            // The members of an archive may be further names of files that are there, and replace directories.
            if copy.unpack || copy.remotes.values().any(remote) { Need::Content } else { Need::Entries }
        }
    }
}
