//! Command lines and environments as one would type them, for the tests of what they ask for.

use std::ffi::OsString;

use super::{Invocation, parse, request};
use crate::builder::BuildRequest;
use crate::diag::with_causes;

/// The request for a command line of a build, without the program's name, and an environment.
pub(super) fn asked(line: &str, environment: &[(&str, &str)]) -> Result<BuildRequest, String> {
    let Invocation::Build(flags) = parse(std::iter::once("crabwright").chain(line.split_whitespace())).unwrap() else {
        panic!("{line} is no build")
    };
    request(*flags, &variables(environment)).map_err(|error| with_causes(&error))
}

/// Looks variables up in an environment.
pub(super) fn variables(environment: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    |name| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
}
