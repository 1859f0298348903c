//! Random graphs of stages: whatever runs beside what, and whatever is known already, the layers are the same.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// A step of a stage; stages above it are chosen by an index.
#[derive(Debug, Clone)]
enum Word {
    Copy(usize),
    Link(usize),
    Write(usize),
    List,
    From(Index),
    Mount(Index),
    Seen(Index),
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        (0..3_usize).prop_map(Word::Copy),
        (0..3_usize).prop_map(Word::Link),
        (0..3_usize).prop_map(Word::Write),
        Just(Word::List),
        any::<Index>().prop_map(Word::From),
        any::<Index>().prop_map(Word::Mount),
        any::<Index>().prop_map(Word::Seen),
    ]
}

/// A Dockerfile: for each stage what it starts from, where none of those above means scratch, and its steps.
fn dockerfile() -> impl Strategy<Value = String> {
    let stage = (any::<Index>(), prop::collection::vec(word(), 0..4));
    prop::collection::vec(stage, 2..9).prop_map(|stages| {
        let mut text = String::new();
        for (number, (base, words)) in stages.iter().enumerate() {
            let base = base.index(number + 1);
            let base = if base == number { "scratch".to_owned() } else { format!("s{base}") };
            writeln!(text, "FROM {base} AS s{number}").unwrap();
            for (step, word) in words.iter().enumerate() {
                // In the first stage nothing is above.
                let above = |index: &Index| (number > 0).then(|| index.index(number));
                let name = |file: usize| ["a", "b", "c"][file];
                match word {
                    Word::Copy(file) => writeln!(text, "COPY {} /f{}", name(*file), step % 2),
                    Word::Link(file) => writeln!(text, "COPY --link {} /l/f{}", name(*file), step % 2),
                    Word::Write(file) => writeln!(text, "RUN [\"write\", \"/f0\", \"{}\"]", name(*file)),
                    Word::List => writeln!(text, "RUN [\"list\", \"/list\"]"),
                    Word::From(index) => match above(index) {
                        Some(stage) => writeln!(text, "COPY --from=s{stage} / /from{}/", step % 2),
                        None => Ok(()),
                    },
                    Word::Mount(index) => match above(index) {
                        Some(stage) => {
                            writeln!(text, "RUN --mount=type=bind,from=s{stage},target=/m [\"list\", \"/mount\"]")
                        }
                        None => Ok(()),
                    },
                    Word::Seen(index) => match above(index) {
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
            bench.build_with(&dockerfile, 1, first.knowing(some)),
            bench.build_with(&dockerfile, 8, first.knowing(some)),
            // Nothing is known from its definition, everything by its content.
            bench.build_with(&dockerfile, 8, first.knowing(|_, _| false)),
        ];
        prop_assert!(first.left.is_empty(), "{:?}", first.left);
        for build in builds {
            prop_assert_eq!(build.result.expect("it can be built"), layers.clone());
            prop_assert!(build.left.is_empty(), "{:?}", build.left);
        }
    }
}
