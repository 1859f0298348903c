//! Any text parses, or is refused with places that lie in it; a stored trigger is read the same way.
#![no_main]

use crabwright::dockerfile::{Dockerfile, Kind, Source, parse, parse_trigger};
use libfuzzer_sys::fuzz_target;

fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

fn check(file: &Dockerfile, text: &str) {
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        assert!(text.get(instruction.span.clone()).is_some());
        if let Kind::Onbuild(onbuild) = &instruction.kind {
            drop(parse_trigger(source("ONBUILD", &onbuild.trigger), file.escape));
        }
    }
}

fuzz_target!(|text: &str| {
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
});
