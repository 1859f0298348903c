//! Any text parses, or is refused with places that lie in it; a stored trigger is read the same way.
#![no_main]

use crabwright::dockerfile::{Kind, Source, parse, parse_trigger};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    match parse(source("Dockerfile", text)) {
        Ok(file) => {
            for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
                assert!(text.get(instruction.span.clone()).is_some());
                if let Kind::Onbuild(onbuild) = &instruction.kind {
                    drop(parse_trigger(source("ONBUILD", &onbuild.trigger), file.escape));
                }
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(text.get(error.span.clone()).is_some());
                assert!(!error.to_string().is_empty());
            }
        }
    }
});
