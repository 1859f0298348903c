//! Random Dockerfiles of many stages, small ones. What a stage holds is below `/g`, and its commands say what they see
//! there, so that a stage that was made of the wrong files has other bytes.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::Index;

/// What a stage does; other stages are chosen among those above it.
#[derive(Debug, Clone)]
enum Word {
    /// A file of the context.
    Copy(u8),
    /// The same with `--link`.
    Link(u8),
    /// A command that writes to a file in place and gives it a fixed time.
    Write(u8),
    /// A command that says what it sees.
    Look,
    /// The files of another stage.
    From(Index),
    /// A command that says what it sees of another stage.
    Mount(Index, bool),
    /// A directory.
    Workdir,
    /// Nothing but configuration.
    Label(u8),
}

/// A Dockerfile and one that differs from it in a few steps.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    pub(super) dockerfile: String,
    pub(super) edited: String,
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        1 => any::<u8>().prop_map(Word::Copy),
        1 => any::<u8>().prop_map(Word::Link),
        2 => any::<u8>().prop_map(Word::Write),
        2 => Just(Word::Look),
        3 => any::<Index>().prop_map(Word::From),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(stage, is_writable)| Word::Mount(stage, is_writable)),
        1 => Just(Word::Workdir),
        1 => any::<u8>().prop_map(Word::Label),
    ]
}

/// Graphs whose first stages start from `base`, which has a shell, or from scratch.
pub(super) fn graph(base: String) -> impl Strategy<Value = Graph> {
    let stage = (any::<Index>(), prop::collection::vec(word(), 0..4));
    (prop::collection::vec(stage, 3..9), any::<u32>()).prop_map(move |(stages, edits)| Graph {
        dockerfile: text(&base, &stages, 0),
        edited: text(&base, &stages, edits),
    })
}

/// The Dockerfile. The bits of `edits` say which stages write something else.
fn text(base: &str, stages: &[(Index, Vec<Word>)], edits: u32) -> String {
    let mut text = String::new();
    let mut has_shell: Vec<bool> = Vec::new();
    for (number, (start, words)) in stages.iter().enumerate() {
        // As often a base as a stage, as long as there are few of them.
        let start = start.index(number + 3);
        let (name, shell) = match start.checked_sub(number) {
            Some(0) => ("scratch".to_owned(), false),
            Some(_) => (base.to_owned(), true),
            None => (format!("s{start}"), has_shell[start]),
        };
        has_shell.push(shell);
        writeln!(text, "FROM {name} AS s{number}").unwrap();
        let edited = edits >> number & 1;
        for (step, word) in words.iter().enumerate() {
            let above = |index: &Index| (number > 0).then(|| index.index(number));
            let line = match word {
                Word::Copy(file) => Some(format!("COPY {} /g/f{}", file % 3, (u32::from(*file) + edited) % 2)),
                Word::Link(file) => Some(format!("COPY --link {} /g/l{}", file % 3, edited)),
                Word::Write(letter) => shell.then(|| {
                    let letter = char::from(b'a' + (letter % 4) + u8::from(edited == 1));
                    format!("RUN mkdir -p /g && echo {letter} > /g/f0 && touch -d @1000000 /g/f0")
                }),
                Word::Look => {
                    shell.then(|| format!("RUN cd / && mkdir -p g && {LOOK} > seen && mv seen g/seen{edited}"))
                }
                Word::From(index) => above(index).map(|stage| format!("COPY --from=s{stage} /g* /g/c{step}/")),
                Word::Mount(index, is_writable) => above(index).filter(|_| shell).map(|stage| {
                    let rw = if *is_writable { ",rw" } else { "" };
                    let mount = format!("--mount=type=bind,from=s{stage},target=/m{rw}");
                    format!("RUN {mount} mkdir -p /g && cd /m && {LOOK} > /seen && mv /seen /g/m{step}")
                }),
                Word::Workdir => Some(format!("WORKDIR /g/w{edited}")),
                Word::Label(value) => Some(format!("LABEL l={value}")),
            };
            if let Some(line) = line {
                writeln!(text, "{line}").unwrap();
            }
        }
    }
    // An image has something in it, whatever came before.
    writeln!(text, "COPY 0 /g/last").unwrap();
    text
}

/// Names and contents of what is below `g` of the working directory.
const LOOK: &str = "{ find g/ | sort; find g/ -type f | sort | xargs cat; } 2>/dev/null";
