//! An error in a Dockerfile that knows where it stands.

use std::ops::Range;
use std::sync::Arc;

use super::source::{Source, Span};

/// One error of a file. [`super::parse`] returns all that do not follow from each other.
///
/// `Display` gives `NAME:LINE:COLUMN: message` for plain logs; a renderer draws the snippet from the fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", place(.r#source, .span))]
pub struct ParseError {
    /// Where it stands: inside the source and on character boundaries; empty for an error of the whole file.
    pub span: Span,
    /// What is wrong, in BuildKit's words.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The text the span points into.
    // Written raw so that thiserror does not take it for the cause.
    pub r#source: Arc<Source>,
}

fn place(source: &Source, span: &Span) -> String {
    let (line, column) = source.location(span.start);
    format!("{}:{line}:{column}", source.name)
}

/// An error before its place in a logical line is translated to a place in the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Byte range in the logical line.
    pub(super) range: Range<usize>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Problem {
    pub(super) fn new(range: Range<usize>, message: impl Into<String>) -> Self {
        Self { range, message: message.into(), hint: None }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds "did you mean …?" if there is something close.
    pub(super) fn with_suggestion(mut self, suggestion: Option<String>) -> Self {
        if let Some(suggestion) = suggestion {
            self.hint = Some(format!("did you mean {suggestion}?"));
        }
        self
    }
}
