//! Parses command lines and environments for tests.

use std::ffi::OsString;

use super::env::Env;
use super::lint::lint_request;
use super::parse::{Invocation, parse};
use super::request::{Asked, request};
use crate::builder::{BuildRequest, QuestionRequest};
use crate::diag::with_causes;

/// Returns the request for a command line, without the program's name, and an environment. A question about a build is
/// that build.
pub(super) fn asked(line: &str, environment: &[(&str, &str)]) -> Result<BuildRequest, String> {
    match any(line, environment)? {
        Asked::Build(build) => Ok(build),
        Asked::Question(question) => Ok(question.build),
    }
}

/// Returns the request for a command line that asks a question.
pub(super) fn asked_question(line: &str, environment: &[(&str, &str)]) -> Result<QuestionRequest, String> {
    match any(line, environment)? {
        Asked::Build(_) => panic!("{line} does not ask anything"),
        Asked::Question(question) => Ok(question),
    }
}

fn any(line: &str, environment: &[(&str, &str)]) -> Result<Asked, String> {
    let variables = variables(environment);
    let env = Env::new(&variables);
    let asked = match parse(std::iter::once("crabwright").chain(line.split_whitespace())) {
        Ok(Invocation::Build(flags)) => request(*flags, env),
        Ok(Invocation::Lint(flags)) => lint_request(*flags, env).map(Asked::Question),
        other => panic!("{line} does not build: {other:?}"),
    };
    asked.map_err(|error| with_causes(&error))
}

/// Returns the lookup of variables in an environment.
pub(super) fn variables(environment: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    |name| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
}
