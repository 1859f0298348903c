//! Any `--mount` value is read, or refused at a place in it.
#![no_main]

use crabwright::dockerfile::mount::{MountFlag, MountProblem};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match MountFlag::parse(text, '\\') {
        Ok(flag) => {
            assert!(flag.fields.iter().all(|field| text.get(field.span.clone()).is_some()));
            if let Err(problem) = flag.resolve(&mut |word| Ok::<_, MountProblem>(word.text.clone())) {
                assert!(text.get(problem.span).is_some());
            }
        }
        Err(problems) => assert!(problems.into_iter().all(|problem| text.get(problem.span).is_some())),
    }
});
