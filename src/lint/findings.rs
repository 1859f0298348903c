//! What a check finds: warnings, and what could not be looked at.

use crate::diag::Hint;
use crate::dockerfile::ast::{Span, Written};
use crate::plan::{ImageError, ImageRequest};

use super::rule::Rule;
use super::settings::Settings;

/// One warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub rule: Rule,
    /// What is wrong, in one line.
    pub detail: String,
    /// Where, in the Dockerfile.
    pub span: Span,
}

/// A base image that could not be looked at.
#[derive(Debug)]
pub struct Unchecked {
    /// Which, and for which platform.
    pub request: ImageRequest,
    /// Why; `None` if nobody was asked.
    pub cause: Option<ImageError>,
}

/// What there is to say about a file.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of the file.
    pub warnings: Vec<Warning>,
    /// Images without which undefined variables and platforms were not checked.
    pub unchecked: Vec<Unchecked>,
    /// Settings that have no effect, ready to print.
    pub remarks: Vec<String>,
    /// `error=true`: a build with warnings fails.
    pub warnings_are_errors: bool,
}

impl Report {
    /// Whether the settings make an error of the warnings.
    ///
    /// # Errors
    /// They do, and there are some.
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

/// Warnings where the settings want none.
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

/// Where warnings are collected.
pub(super) struct Findings<'a> {
    pub(super) settings: &'a Settings,
    pub(super) warnings: Vec<Warning>,
}

impl Findings<'_> {
    /// Adds a warning about an instruction, unless its rule is skipped there.
    pub(super) fn add(&mut self, rule: Rule, written: &Written, span: &Span, detail: String) {
        if self.settings.checks(rule, &written.comments) {
            self.warnings.push(Warning { rule, detail, span: span.clone() });
        }
    }
}
