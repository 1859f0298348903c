//! Selects the cache entries of a plan's steps that fit together.

use crate::plan::{Action, Plan};

use super::entry::CacheEntry;
use super::key_inputs::is_base_independent;
use super::lineage::Lineage;

/// Returns the entries, by stage and step, that were built on each other.
///
/// A step without an entry does not break the chain if executing it again has the same result: `COPY` of files that the
/// key identifies, and `WORKDIR`. After a command that has to run again, only steps that do not depend on their base
/// keep their entries, because its layer is not known in advance.
pub fn consistent_subset(plan: &Plan, found: &[Vec<Option<CacheEntry>>]) -> Vec<Vec<Option<CacheEntry>>> {
    // The lineage at the end of each stage, if it is certain.
    let mut ends: Vec<Option<Lineage>> = Vec::new();
    let start = Lineage::start();
    let mut all = Vec::new();
    for (stage, found) in plan.stages.iter().zip(found) {
        let mut state = match stage.parent() {
            Some(parent) => ends[parent].clone(),
            None => Some(Lineage::start()),
        };
        let mut kept = Vec::new();
        for (step, entry) in stage.steps.iter().zip(found) {
            let action = &step.action;
            let sources = action.stage_dependencies().map(|stage| ends[stage].clone());
            let sources: Option<Vec<Lineage>> = sources.collect();
            let fits = |entry: &&CacheEntry| {
                let before = if is_base_independent(action) { Some(&start) } else { state.as_ref() };
                // A stage without entries cannot contradict.
                let after = sources
                    .as_ref()
                    .is_none_or(|sources| entry.before.after_step(action, sources, &entry.diff_id) == entry.after);
                before == Some(&entry.before) && after
            };
            let entry = entry.as_ref().filter(fits).cloned();
            state = match (state, &entry, action) {
                (state, None, Action::Configure) => state,
                (Some(state), Some(entry), _) => Some(state.advance_past(action, &entry.after)),
                (Some(state), None, Action::Copy(_) | Action::Workdir(_)) => sources.map(|sources| {
                    let (_, after) = state.span_of_step(action, &sources, &start.0);
                    state.advance_past(action, &after)
                }),
                _ => None,
            };
            kept.push(entry);
        }
        ends.push(state);
        all.push(kept);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Keys;
    use crate::dockerfile::ast::Source;
    use crate::dockerfile::parse;
    use crate::image::{Descriptor, Digest, media_type};
    use crate::plan::{ImageError, ImageRequest, Images, Options, plan};

    struct NoImages;

    impl Images for NoImages {
        fn resolve(&mut self, _requests: &[ImageRequest]) -> Vec<Result<crate::image::BaseImage, ImageError>> {
            Vec::new()
        }
    }

    fn plan_of(text: &str) -> Plan {
        let options = Options::of_platform("linux/amd64");
        let source = Source { name: "Dockerfile".into(), text: text.into() };
        plan(&parse(source).unwrap(), &options, &mut NoImages).unwrap()
    }

    /// Entries of a build in which the layers of commands differ by `run`; other steps make the same layer in every
    /// build.
    fn entries(plan: &Plan, run: &str) -> Vec<Vec<Option<CacheEntry>>> {
        let mut ends: Vec<Lineage> = Vec::new();
        let mut all = Vec::new();
        for (number, stage) in plan.stages.iter().enumerate() {
            let mut state = stage.parent().map_or_else(Lineage::start, |parent| ends[parent].clone());
            let mut entries = Vec::new();
            for (step, planned) in stage.steps.iter().enumerate() {
                if !planned.action.makes_layer() {
                    entries.push(None);
                    continue;
                }
                let whose = if matches!(planned.action, Action::Run(_)) { run } else { "" };
                let content = format!("{number} {step} {whose}");
                let sources: Vec<Lineage> =
                    planned.action.stage_dependencies().map(|stage| ends[stage].clone()).collect();
                let diff_id = Digest::sha256_of(content.as_bytes());
                let (before, after) = state.span_of_step(&planned.action, &sources, &diff_id);
                state = state.advance_past(&planned.action, &after);
                let layer = Descriptor::of(media_type::OCI_LAYER_GZIP, content.as_bytes());
                entries.push(Some(CacheEntry { keys: Keys::default(), layer, diff_id, created: 0, before, after }));
            }
            ends.push(state);
            all.push(entries);
        }
        all
    }

    fn kept(plan: &Plan, found: &[Vec<Option<CacheEntry>>]) -> Vec<Vec<bool>> {
        consistent_subset(plan, found).iter().map(|stage| stage.iter().map(Option::is_some).collect()).collect()
    }

    const TEXT: &str = "FROM scratch AS one\nRUN a\nCOPY a /\nRUN b\n\
                        FROM scratch\nWORKDIR /w\nCOPY --from=one /b /b\nLABEL a=b\nRUN c\nCOPY --link a /";

    #[test]
    fn entries_of_one_build_fit_together() {
        let plan = plan_of(TEXT);
        let one = entries(&plan, "first");
        assert_eq!(kept(&plan, &one), [vec![true; 3], vec![true, true, false, true, true]]);
    }

    #[test]
    fn entries_of_other_builds_do_not_fit_after_a_command() {
        let plan = plan_of(TEXT);
        let (one, other) = (entries(&plan, "first"), entries(&plan, "second"));
        let mut mixed = one.clone();
        mixed[0][2] = other[0][2].clone();
        // The copy, and the command after it, depend on the first build's files.
        assert_eq!(kept(&plan, &mixed)[0], [true, true, false]);
        let mut mixed = one.clone();
        mixed[1][3] = other[1][3].clone();
        assert_eq!(kept(&plan, &mixed), [vec![true; 3], vec![true, true, false, false, true]]);
        let mut mixed = one;
        mixed[1][1] = other[1][1].clone();
        assert_eq!(kept(&plan, &mixed), [vec![true; 3], vec![true, false, false, true, true]]);
    }

    #[test]
    fn a_missing_command_breaks_the_chain_and_a_missing_copy_does_not() {
        let plan = plan_of(TEXT);
        let all = entries(&plan, "first");
        let without = |stage: usize, step: usize| {
            let mut found = all.clone();
            found[stage][step] = None;
            kept(&plan, &found)
        };
        assert_eq!(without(0, 1)[0], [true, false, true]);
        assert_eq!(without(0, 0)[0], [false, false, false]);
        assert_eq!(without(1, 0)[1], [false, true, false, true, true]);
        assert_eq!(without(1, 1)[1], [true, false, false, true, true]);
        assert_eq!(without(1, 3)[1], [true, true, false, false, true], "an independent step stays");
        // A stage without entries cannot contradict a copy from it.
        let mut found = all.clone();
        found[0] = vec![None; 3];
        assert_eq!(kept(&plan, &found)[1], [true, true, false, true, true]);
    }

    #[test]
    fn commands_are_events_and_copies_are_not() {
        let plan = plan_of("FROM scratch\nCOPY a /\nRUN a\nCOPY --link a /");
        let layer = Digest::sha256_of(b"layer");
        let [copy, run, link] = [0, 1, 2].map(|step| &plan.stages[0].steps[step].action);
        let start = Lineage::start();
        assert_eq!(start.span_of_step(copy, &[], &layer), (start.clone(), start.clone()));
        let (before, after) = start.span_of_step(run, &[], &layer);
        assert_eq!((&before, after == start), (&start, false));
        // Files of a stage with commands are identified by its lineage; files of a stage without commands by
        // themselves.
        assert_eq!(after.span_of_step(copy, std::slice::from_ref(&start), &layer), (after.clone(), after.clone()));
        assert_ne!(start.span_of_step(copy, std::slice::from_ref(&after), &layer).1, start);
        let (alone, led_to) = after.span_of_step(link, &[], &layer);
        assert_eq!((&alone, &led_to, after.advance_past(link, &led_to)), (&start, &start, after.clone()));
        assert_eq!(after.to_string().parse(), Ok(after));
    }
}
