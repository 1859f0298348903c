//! Random graphs of stages: the layers do not depend on parallelism or on the state of the cache.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// A step of a stage. An index selects an earlier stage.
#[derive(Debug, Clone)]
enum StepChoice {
    Copy(usize),
    Link(usize),
    Write(usize),
    List,
    From(Index),
    Mount(Index),
    Seen(Index),
}

fn step_choice() -> impl Strategy<Value = StepChoice> {
    prop_oneof![
        (0..3_usize).prop_map(StepChoice::Copy),
        (0..3_usize).prop_map(StepChoice::Link),
        (0..3_usize).prop_map(StepChoice::Write),
        Just(StepChoice::List),
        any::<Index>().prop_map(StepChoice::From),
        any::<Index>().prop_map(StepChoice::Mount),
        any::<Index>().prop_map(StepChoice::Seen),
    ]
}

/// Generates a Dockerfile: a base for each stage, scratch if there is no earlier stage, and its steps.
fn dockerfile() -> impl Strategy<Value = String> {
    let stage = (any::<Index>(), prop::collection::vec(step_choice(), 0..4));
    prop::collection::vec(stage, 2..9).prop_map(|stages| {
        let mut text = String::new();
        for (number, (base, words)) in stages.iter().enumerate() {
            let base = base.index(number + 1);
            let base = if base == number { "scratch".to_owned() } else { format!("s{base}") };
            writeln!(text, "FROM {base} AS s{number}").unwrap();
            for (step, step_choice) in words.iter().enumerate() {
                // The first stage has no earlier one.
                let above = |index: &Index| (number > 0).then(|| index.index(number));
                let name = |file: usize| ["a", "b", "c"][file];
                match step_choice {
                    StepChoice::Copy(file) => writeln!(text, "COPY {} /f{}", name(*file), step % 2),
                    StepChoice::Link(file) => writeln!(text, "COPY --link {} /l/f{}", name(*file), step % 2),
                    StepChoice::Write(file) => writeln!(text, "RUN [\"write\", \"/f0\", \"{}\"]", name(*file)),
                    StepChoice::List => writeln!(text, "RUN [\"list\", \"/list\"]"),
                    StepChoice::From(index) => match above(index) {
                        Some(stage) => writeln!(text, "COPY --from=s{stage} / /from{}/", step % 2),
                        None => Ok(()),
                    },
                    StepChoice::Mount(index) => match above(index) {
                        Some(stage) => {
                            writeln!(text, "RUN --mount=type=bind,from=s{stage},target=/m [\"list\", \"/mount\"]")
                        }
                        None => Ok(()),
                    },
                    StepChoice::Seen(index) => match above(index) {
                        Some(stage) => {
                            let mount = format!("--mount=type=bind,from=s{stage},target=/m,rw");
                            writeln!(text, "RUN {mount} [\"list\", \"/seen\"]")
                        }
                        None => Ok(()),
                    },
                }
                .unwrap();
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_layers_depend_on_nothing_but_the_dockerfile(dockerfile in dockerfile(), known in any::<u64>()) {
        let bench = Bench::new();
        let first = bench.build(&dockerfile, 1);
        let layers = first.result.as_ref().expect("it can be built").clone();
        let some = |position: StepId, _: &str| known >> ((position.stage * 4 + position.step) % 64) & 1 == 1;
        let builds = [
            bench.build(&dockerfile, 8),
            bench.build_with(&dockerfile, 1, first.with_hits(some)),
            bench.build_with(&dockerfile, 8, first.with_hits(some)),
            // No hits by definition, all by content.
            bench.build_with(&dockerfile, 8, first.with_hits(|_, _| false)),
        ];
        prop_assert!(first.remaining.is_empty(), "{:?}", first.remaining);
        for build in builds {
            prop_assert_eq!(build.result.expect("it can be built"), layers.clone());
            prop_assert!(build.remaining.is_empty(), "{:?}", build.remaining);
        }
    }
}
