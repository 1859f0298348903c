//! Command lines and environments as one would type them, for the tests of what they ask for.

use std::ffi::OsString;

use super::{Asked, Invocation, parse, request};
use crate::builder::{BuildRequest, QuestionRequest};
use crate::diag::with_causes;

/// The request for a command line of a build, without the program's name, and an environment. A question about a build is that
/// build.
pub(super) fn asked(line: &str, environment: &[(&str, &str)]) -> Result<BuildRequest, String> {
    match any(line, environment)? {
        Asked::Build(build) => Ok(build),
        Asked::Question(question) => Ok(question.build),
    }
}

/// The same for a command line that asks a question.
pub(super) fn asked_question(line: &str, environment: &[(&str, &str)]) -> Result<QuestionRequest, String> {
    match any(line, environment)? {
        Asked::Build(_) => panic!("{line} asks nothing"),
        Asked::Question(question) => Ok(question),
    }
}

fn any(line: &str, environment: &[(&str, &str)]) -> Result<Asked, String> {
    let Invocation::Build(flags) = parse(std::iter::once("crabwright").chain(line.split_whitespace())).unwrap() else {
        panic!("{line} is no build")
    };
    request(*flags, &variables(environment)).map_err(|error| with_causes(&error))
}

/// Looks variables up in an environment.
pub(super) fn variables(environment: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    |name| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
}
