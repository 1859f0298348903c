//! Turns every error into what the user reads, and into an exit code.
//!
//! The modules have typed errors, and each error has its hint ([`Hint`]). Here an error becomes a message, the chain of
//! its causes, its hint, and snippets of the Dockerfile.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use tracing::Level;

use super::login::LoginError;
use super::parse::UsageError;
use super::request::RequestError;
use super::snippet::{Snippet, printable};
use crate::builder::BuildError;
use crate::diag::line::{LineFormat, Style};
use crate::diag::progress::Progress;
use crate::diag::{BoxedError, Hint, messages, with_causes};
use crate::dockerfile::ast::{Source, Span};
use crate::executor::{ExecutorError, StepError};
use crate::lint::SettingsError;
use crate::plan::PlanError;
use crate::sandbox::SandboxError;

/// The exit code of all errors that have no code of their own.
const FAILED: u8 = 1;

/// kaniko's exit code for a RUN whose command was ended by a signal.
const COMMAND_SIGNALED: u8 = 255;

/// A failed build, ready to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The message, in one line.
    pub message: String,
    /// The causes, each that of the one before.
    pub causes: Vec<String>,
    /// What the user can do.
    pub hints: Vec<String>,
    /// Snippets of the Dockerfile.
    pub snippets: Vec<Snippet>,
    /// The exit code of the process.
    pub exit_code: u8,
}

impl Failure {
    /// Returns a failure that only has a message.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), hints: Vec::new(), snippets: Vec::new(), exit_code: FAILED }
    }

    /// Returns a failure with the error's message, the chain of its sources and its hint.
    #[must_use]
    pub fn from_error(error: &(impl Hint + 'static)) -> Self {
        let causes = error.source().map(messages).unwrap_or_default();
        Self { causes, hints: error.hint().into_iter().collect(), ..Self::new(error.to_string()) }
    }

    /// Returns the failure of a build that received `signal`. Whatever its error says, the signal ended it.
    #[must_use]
    pub fn interrupted_by(self, signal: i32) -> Self {
        let stopped = Self::stopped(signal);
        if self.exit_code == stopped.exit_code {
            return self;
        }
        let mut causes = vec![self.message];
        causes.extend(self.causes);
        Self { causes, ..stopped }
    }

    fn stopped(signal: i32) -> Self {
        let exit_code = u8::try_from(128 + signal).unwrap_or(FAILED);
        Self { exit_code, ..Self::new(format!("stopped by {}", signal_name(signal))) }
    }

    /// Returns the text for a terminal or a log: snippets first, then the message, its causes and hints. Colours, if
    /// any, are escape sequences.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        let colour = style == Style::Colour;
        let mut text = String::new();
        for snippet in &self.snippets {
            text.push_str(&snippet.render(colour));
            text.push('\n');
        }
        let format = LineFormat { style, timestamp: false };
        text.push_str(&format.prefix(Level::ERROR));
        text.push_str(&printable(&self.message));
        let mut indent = 2;
        for cause in &self.causes {
            // Writing to a string cannot fail.
            write!(text, "\n{:indent$}caused by: {}", "", printable(cause)).ok();
            indent += 2;
        }
        for hint in &self.hints {
            write!(text, "\n  hint: {}", printable(hint)).ok();
        }
        text
    }

    /// Prints the failure to where the build's other lines went.
    pub fn report(&self, progress: &Progress) {
        let format = progress.format();
        if format.style != Style::Json {
            progress.text(&self.render(format.style));
            return;
        }
        let mut fields = Vec::new();
        if !self.causes.is_empty() {
            fields.push(("cause".to_owned(), self.causes.join(": ")));
        }
        if !self.hints.is_empty() {
            fields.push(("hint".to_owned(), self.hints.join("; ")));
        }
        if !self.snippets.is_empty() {
            let places = self.snippets.iter().map(|snippet| {
                let (line, column) = snippet.location();
                format!("{}:{line}:{column} {}", snippet.name, snippet.label).trim_end().to_owned()
            });
            fields.push(("location".to_owned(), places.collect::<Vec<_>>().join("; ")));
        }
        progress.log(Level::ERROR, &self.message, &fields);
    }
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Self {
        Self::from_error(&error)
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::from_error(&error)
    }
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        Self::from_error(&error)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Dockerfile(errors) => dockerfile(errors),
            BuildError::Execute(ExecutorError::Step { text, source_file, span, cause }) => {
                let place = SourceLocation { source: source_file, span };
                step(&text, place, &cause)
            }
            BuildError::Interrupted { signal, left } => {
                Self { message: format!("stopped by {}: {left}", signal_name(signal)), ..Self::stopped(signal) }
            }
            BuildError::CheckSettings(SettingsError { message, hint, place: Some((source, span)) }) => {
                Self { snippets: vec![at(SourceLocation { source, span }, hint)], ..Self::new(message) }
            }
            error => Self::from_error(&error),
        }
    }
}

/// A location in a source that an error points at.
struct SourceLocation {
    source: Arc<Source>,
    span: Span,
}

/// Returns the failure of one or more errors in the Dockerfile. A single error is the message; several are shown at
/// their locations, in the order of the file.
fn dockerfile(mut errors: Vec<PlanError>) -> Failure {
    if errors.len() == 1
        && let Some(only) = errors.pop()
    {
        return planning(&only);
    }
    let mut failure = Failure::new(format!("the Dockerfile has {} errors", errors.len()));
    for error in &errors {
        let causes = error.source().map(|cause| format!(": {}", with_causes(cause))).unwrap_or_default();
        let message = match &error.hint {
            Some(hint) => format!("{}{causes} ({hint})", error.message),
            None => format!("{}{causes}", error.message),
        };
        match &error.place {
            Some((source, span)) => {
                failure.snippets.push(at(SourceLocation { source: Arc::clone(source), span: span.clone() }, message));
            }
            None => failure.causes.push(message),
        }
        failure.hints.extend(error.cause.as_ref().and_then(BoxedError::hint));
    }
    failure.hints.dedup();
    failure
}

/// Returns the failure of an error with a location, which gets its hint. The hint of its cause is printed below.
fn planning(error: &PlanError) -> Failure {
    let mut failure = Failure::from_error(error);
    if let Some((source, span)) = &error.place {
        let place = SourceLocation { source: Arc::clone(source), span: span.clone() };
        failure.snippets.push(at(place, error.hint.clone().unwrap_or_default()));
        failure.hints = error.cause.as_ref().and_then(BoxedError::hint).into_iter().collect();
    }
    failure
}

/// Returns the failure of a step. If its command failed, the build has the command's exit code.
fn step(text: &str, place: SourceLocation, cause: &StepError) -> Failure {
    let mut failure = match cause {
        StepError::Exit(_) | StepError::Busy { .. } | StepError::Signal(_) => Failure::new(format!("{text}: {cause}")),
        other => Failure { causes: messages(other), ..Failure::new(format!("{text} failed")) },
    };
    let label = match cause {
        StepError::Signal(signal) => signal_name(*signal),
        _ => String::new(),
    };
    failure.exit_code = match cause {
        StepError::Signal(_) => COMMAND_SIGNALED,
        StepError::Exit(code)
        | StepError::Busy { code, .. }
        | StepError::Sandbox(SandboxError::Program { exit_code: code, .. }) => u8::try_from(*code).unwrap_or(FAILED),
        _ => FAILED,
    };
    failure.snippets.push(at(place, label));
    failure.hints.extend(cause.hint());
    failure
}

fn at(place: SourceLocation, label: String) -> Snippet {
    Snippet { name: place.source.name.clone(), text: place.source.text.clone(), span: place.span, label }
}

fn signal_name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::ops::Range;
    use std::sync::Mutex;

    use crate::dockerfile::ParseError;

    use super::*;

    const DOCKERFILE: &str = "FORM scratch\nRUN make\nCOPPY a /b\n";

    fn source() -> Arc<Source> {
        Arc::new(Source { name: "Dockerfile".to_owned(), text: DOCKERFILE.to_owned() })
    }

    fn problem(span: Range<usize>, message: &str, hint: Option<&str>) -> PlanError {
        ParseError { source: source(), span, message: message.to_owned(), hint: hint.map(str::to_owned) }.into()
    }

    fn failed_step(cause: StepError) -> Failure {
        let error = ExecutorError::Step { text: "RUN make".to_owned(), source_file: source(), span: 13..21, cause };
        Failure::from(BuildError::Execute(error))
    }

    #[derive(Clone, Default)]
    struct Recorded(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Recorded {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("pushing reg:5000/app:1")]
    struct Push(#[source] Upload);

    #[derive(Debug, thiserror::Error)]
    #[error("uploading sha256:ab")]
    struct Upload(#[source] io::Error);

    impl Hint for Push {
        fn hint(&self) -> Option<String> {
            Some("is the registry up?".to_owned())
        }
    }

    #[test]
    fn causes_are_an_indented_chain() {
        let failure = Failure::from_error(&Push(Upload(io::Error::other("connection reset by peer"))));
        assert_eq!(failure.exit_code, 1);
        insta::assert_snapshot!(failure.render(Style::Plain), @r"
        error: pushing reg:5000/app:1
          caused by: uploading sha256:ab
            caused by: connection reset by peer
          hint: is the registry up?
        ");
    }

    #[test]
    fn a_single_error_in_the_dockerfile_is_the_message() {
        let failure = Failure::from(BuildError::Dockerfile(vec![problem(
            0..4,
            "unknown instruction: FORM",
            Some("did you mean FROM?"),
        )]));
        insta::assert_snapshot!(failure.render(Style::Plain), @r"
         --> Dockerfile:1:1
          |
        1 | FORM scratch
          | ^^^^ did you mean FROM?
        error: unknown instruction: FORM
        ");
    }

    #[test]
    fn several_errors_are_shown_at_their_locations() {
        let failure = Failure::from(BuildError::Dockerfile(vec![
            problem(0..4, "unknown instruction: FORM", Some("did you mean FROM?")),
            problem(22..27, "unknown instruction: COPPY", None),
        ]));
        insta::assert_snapshot!(failure.render(Style::Plain), @r"
         --> Dockerfile:1:1
          |
        1 | FORM scratch
          | ^^^^ unknown instruction: FORM (did you mean FROM?)
         --> Dockerfile:3:1
          |
        3 | COPPY a /b
          | ^^^^^ unknown instruction: COPPY
        error: the Dockerfile has 2 errors
        ");
    }

    #[test]
    fn the_exit_code_is_that_of_the_failed_command() {
        let exited = failed_step(StepError::Exit(42));
        assert_eq!(exited.exit_code, 42);
        insta::assert_snapshot!(exited.render(Style::Plain), @r"
         --> Dockerfile:2:1
          |
        2 | RUN make
          | ^^^^^^^^
        error: RUN make: the command did not complete successfully: exit code: 42
        ");
        let killed = failed_step(StepError::Signal(9));
        assert_eq!(killed.exit_code, 255);
        assert!(killed.hints[0].contains("memory"), "{killed:?}");
    }

    #[test]
    fn a_signal_decides_the_exit_code() {
        let failure = failed_step(StepError::Signal(15)).interrupted_by(15);
        assert_eq!(failure.exit_code, 143);
        insta::assert_snapshot!(failure.render(Style::Plain), @r"
        error: stopped by SIGTERM
          caused by: RUN make: the command was ended by signal 15
        ");
        assert_eq!(Failure::new("x").interrupted_by(2).exit_code, 130);
    }

    #[test]
    fn a_stopped_build_names_what_is_left_in_one_line() {
        let left = "nothing was pushed, /kaniko is empty".to_owned();
        let failure = Failure::from(BuildError::Interrupted { signal: 15, left }).interrupted_by(15);
        assert_eq!(failure.exit_code, 143);
        assert_eq!(failure.render(Style::Plain), "error: stopped by SIGTERM: nothing was pushed, /kaniko is empty");
    }

    #[test]
    fn a_json_log_has_one_object_for_a_failure() {
        let recorded = Recorded::default();
        let json = LineFormat { style: Style::Json, timestamp: false };
        failed_step(StepError::Exit(2)).report(&Progress::to(recorded.clone()).with_format(json));
        let line: serde_json::Value = serde_json::from_slice(&recorded.0.lock().unwrap()).unwrap();
        assert_eq!(line["level"], "error");
        assert_eq!(line["msg"], "RUN make: the command did not complete successfully: exit code: 2");
        assert_eq!(line["location"], "Dockerfile:2:1");
    }

    #[test]
    fn a_message_from_outside_stays_on_its_line() {
        let failure = Failure::new("registry says: a\nerror: forged\u{1b}[2J");
        assert_eq!(failure.render(Style::Plain), "error: registry says: a error: forged\u{fffd}[2J");
    }
}
