//! Errors of planning.

use std::sync::Arc;

use crate::diag::Hint;
use crate::dockerfile::ast::{Source, Span, Word};
use crate::dockerfile::{ExpandError, ParseError};

use super::images::ImageError;

/// One reason why a Dockerfile cannot be planned.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// The message, in one line.
    pub message: String,
    /// Advice for the user.
    pub hint: Option<String>,
    /// The location, if it is in a file.
    pub place: Option<(Arc<Source>, Span)>,
    /// The cause, for images that could not be fetched.
    #[source]
    pub cause: Option<ImageError>,
    /// True if it is an error for any values of variables.
    pub(super) whatever_values: bool,
}

impl Hint for PlanError {
    fn hint(&self) -> Option<String> {
        self.hint.clone().or_else(|| self.cause.as_ref()?.hint())
    }
}

impl PlanError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, place: None, cause: None, whatever_values: false }
    }

    /// Returns the error of a word that cannot be expanded.
    pub(super) fn expansion(error: &ExpandError, word: &Word, source: &Arc<Source>) -> Self {
        Self { whatever_values: !error.about_value, ..error.at(word, source).into() }
    }

    /// Reports whether it is an error even if the values of variables are unknown, in an instruction written as `text`.
    pub(super) fn stands_alone(&self, text: &str) -> bool {
        self.whatever_values || !text.contains('$')
    }

    pub(super) fn at(mut self, source: &Arc<Source>, span: &Span) -> Self {
        self.place = Some((Arc::clone(source), span.clone()));
        self
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ParseError> for PlanError {
    fn from(error: ParseError) -> Self {
        let place = Self::new(error.message).at(&error.source, &error.span);
        Self { hint: error.hint, ..place }
    }
}
