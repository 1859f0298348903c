//! One program with all targets: linking takes longer than most of their runs. `FUZZ_TARGET` names the one to run.
#![no_main]

use std::sync::OnceLock;

use crabwright::fuzzing::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn chosen() -> Target {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("there is no target {name}")).1
}

fuzz_target!(|input: &[u8]| TARGET.get_or_init(chosen)(input));
