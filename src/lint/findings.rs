//! The results of a check: warnings, and base images that could not be checked.

use crate::diag::Hint;
use crate::dockerfile::ast::{SourceForm, Span};
use crate::plan::{ImageError, ImageRequest};

use super::rule::Rule;
use super::settings::Settings;

/// A warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: Rule,
    /// The message, in one line.
    pub detail: String,
    /// The location in the Dockerfile.
    pub span: Span,
}

/// A base image that could not be checked.
#[derive(Debug)]
pub struct Unchecked {
    /// The image and its platform.
    pub request: ImageRequest,
    /// The error; `None` if the image was not requested.
    pub cause: Option<ImageError>,
}

/// The results for a file.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of the file.
    pub warnings: Vec<Warning>,
    /// Images whose absence prevented the checks of undefined variables and platforms.
    pub unchecked: Vec<Unchecked>,
    /// Settings that have no effect, ready to print.
    pub remarks: Vec<String>,
    /// `error=true`: true if a build with warnings fails.
    pub warnings_are_errors: bool,
}

impl Report {
    /// Applies the setting that makes errors of warnings.
    ///
    /// # Errors
    /// It is set, and there are warnings.
    pub fn verdict(&self) -> Result<(), Violation> {
        if !self.warnings_are_errors || self.warnings.is_empty() {
            return Ok(());
        }
        let mut rules: Vec<Rule> = Vec::new();
        for warning in &self.warnings {
            if !rules.contains(&warning.rule) {
                rules.push(warning.rule);
            }
        }
        Err(Violation { rules })
    }
}

/// The error for warnings with `error=true`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("lint violation found for rules: {}", .rules.iter().map(|rule| rule.name()).collect::<Vec<_>>().join(", "))]
pub struct Violation {
    /// The rules, each once.
    pub rules: Vec<Rule>,
}

impl Hint for Violation {
    fn hint(&self) -> Option<String> {
        Some("the warnings above say where; check=error=true makes errors of them".to_owned())
    }
}

/// The collection of warnings.
pub(super) struct Findings<'a> {
    pub(super) settings: &'a Settings,
    pub(super) warnings: Vec<Warning>,
}

impl Findings<'_> {
    /// Adds a warning about an instruction, unless its rule is skipped there.
    pub(super) fn add(&mut self, rule: Rule, written: &SourceForm, span: &Span, detail: String) {
        if self.settings.checks(rule, &written.comments) {
            self.warnings.push(Warning { rule, detail, span: span.clone() });
        }
    }
}
