//! An error in a Dockerfile, with its location.

use std::ops::Range;
use std::sync::Arc;

use super::source::{Source, Span};

/// One error of a file. [`super::parse`] returns all errors that do not follow from each other.
///
/// `Display` writes `NAME:LINE:COLUMN: message` for plain logs; a renderer draws the snippet from the fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", place(.r#source, .span))]
pub struct ParseError {
    /// The location: inside the source and on character boundaries; empty for an error of the whole file.
    pub span: Span,
    /// The message, in BuildKit's words.
    pub message: String,
    /// Advice for the user.
    pub hint: Option<String>,
    /// The text that the span points into.
    // A raw identifier, so that thiserror does not treat it as the cause.
    pub r#source: Arc<Source>,
}

fn place(source: &Source, span: &Span) -> String {
    let (line, column) = source.location(span.start);
    format!("{}:{line}:{column}", source.name)
}

/// An error whose range in the logical line is not yet translated to the source.
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

    /// Adds "did you mean …?" if there is a suggestion.
    pub(super) fn with_suggestion(mut self, suggestion: Option<String>) -> Self {
        if let Some(suggestion) = suggestion {
            self.hint = Some(format!("did you mean {suggestion}?"));
        }
        self
    }
}
