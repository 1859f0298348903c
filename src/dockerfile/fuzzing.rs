//! Fuzz targets: Dockerfiles, words, and the values of `--mount`.

use super::expand::{expand, expand_heredoc, expand_words};
use super::mount::{MountFlag, MountProblem};
use super::{Dockerfile, Kind, Source, parse, parse_trigger};

fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

/// Parses any text, or refuses it with locations inside it; a stored trigger is parsed in the same way.
pub(crate) fn dockerfile(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match parse(source("Dockerfile", text)) {
        Ok(file) => check(&file, text),
        Err(invalid) => {
            assert!(!invalid.errors.is_empty());
            for error in &invalid.errors {
                assert!(text.get(error.span.clone()).is_some());
                assert!(!error.to_string().is_empty());
            }
            if let Some(rest) = &invalid.rest {
                check(rest, text);
            }
        }
    }
}

fn check(file: &Dockerfile, text: &str) {
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        assert!(text.get(instruction.span.clone()).is_some());
        if let Kind::Onbuild(onbuild) = &instruction.kind {
            drop(parse_trigger(source("ONBUILD", &onbuild.trigger), file.escape));
        }
    }
}

/// Expands any word, or refuses it with an offset in it; the first line is the value of every variable.
pub(crate) fn expansion(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (value, word) = text.split_once('\n').unwrap_or(("", text));
    // Short, because a replacement may be as long as the value's square.
    let value = value.chars().take(64).collect::<String>();
    let word = word.get(..word.floor_char_boundary(4096)).unwrap_or_default();
    let mut lookup = |name: &str| (!name.len().is_multiple_of(3)).then(|| value.clone());
    for escape in ['\\', '`'] {
        if let Err(error) = expand(word, escape, &mut lookup) {
            assert!(word.is_char_boundary(error.offset));
        }
        drop(expand_words(word, escape, &mut lookup));
    }
    drop(expand_heredoc(word, &mut lookup));
}

/// Parses any `--mount` value, or refuses it with a location in it.
pub(crate) fn mount(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match MountFlag::parse(text, '\\') {
        Ok(flag) => {
            assert!(flag.fields.iter().all(|field| text.get(field.span.clone()).is_some()));
            if let Err(problem) = flag.resolve(&mut |word| Ok::<_, MountProblem>(word.text.clone())) {
                assert!(text.get(problem.span).is_some());
            }
        }
        Err(problems) => assert!(problems.into_iter().all(|problem| text.get(problem.span).is_some())),
    }
}
