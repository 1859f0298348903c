//! Formats warnings and errors as text and as JSON, like `docker build --check`.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::diag::{Hint as _, with_causes};
use crate::dockerfile::ast::{Source, Span};
use crate::plan::PlanError;

use super::findings::{Report, Warning};
use super::rule::Rule;

/// The number of lines shown before and after the marked ones.
const CONTEXT_LINES: usize = 2;

/// The most marked lines of a location.
const MARKED_LINES: usize = 8;

const RULER: &str = "--------------------";

/// A location in a file, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The index of the source.
    #[serde(rename = "sourceIndex")]
    pub source_index: usize,
    /// The ranges, the most important first.
    pub ranges: Vec<Range>,
}

/// A range of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The first character.
    pub start: Position,
    /// The character after the last.
    pub end: Position,
}

/// The position of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The line, counted from 1.
    pub line: usize,
    /// The character in the line, counted from 0.
    pub character: usize,
}

impl Range {
    /// Returns the range of a span.
    pub fn of(source: &Source, span: &Span) -> Self {
        let position = |offset| {
            let (line, column) = source.location(offset);
            Position { line, character: column - 1 }
        };
        Self { start: position(span.start), end: position(span.end.max(span.start)) }
    }
}

impl Location {
    /// Returns the location of a span in the only source.
    pub fn of(source: &Source, span: &Span) -> Self {
        Self { source_index: 0, ranges: vec![Range::of(source, span)] }
    }
}

/// A source file, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceFile {
    filename: String,
    language: &'static str,
    /// The content in base64.
    data: String,
}

impl SourceFile {
    /// Returns a complete Dockerfile.
    pub fn of(source: &Source) -> Self {
        Self { filename: source.name.clone(), language: "Dockerfile", data: STANDARD.encode(&source.text) }
    }
}

#[derive(Serialize)]
struct JsonReport {
    warnings: Vec<JsonWarning>,
    sources: Vec<SourceFile>,
    #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
    build_error: Option<JsonError>,
}

#[derive(Serialize)]
struct JsonWarning {
    #[serde(rename = "ruleName")]
    rule_name: &'static str,
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    detail: String,
    location: Location,
}

#[derive(Serialize)]
struct JsonError {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location>,
}

/// Formats everything as one JSON object. `errors` prevent the file from being built.
///
/// # Errors
/// A value cannot be written as JSON, which does not happen with these types.
pub fn json(report: &Report, errors: &[PlanError], source: &Arc<Source>) -> serde_json::Result<String> {
    let warnings = report.warnings.iter().map(|warning| JsonWarning {
        rule_name: warning.rule.name(),
        description: warning.rule.description(),
        url: warning.rule.url(),
        detail: warning.detail.clone(),
        location: Location::of(source, &warning.span),
    });
    let ranges = errors.iter().filter_map(|error| error.place.as_ref());
    let ranges: Vec<Range> =
        ranges.filter(|(other, _)| other == source).map(|(_, span)| Range::of(source, span)).collect();
    let build_error = (!errors.is_empty()).then(|| JsonError {
        message: errors.iter().map(|error| with_causes(error)).collect::<Vec<_>>().join("\n"),
        location: (!ranges.is_empty()).then_some(Location { source_index: 0, ranges }),
    });
    let report = JsonReport { warnings: warnings.collect(), sources: vec![SourceFile::of(source)], build_error };
    serde_json::to_string_pretty(&report).map(|text| text + "\n")
}

/// Formats everything as text: the number of warnings, each with its location, and the errors that prevent a build.
pub fn text(report: &Report, errors: &[PlanError], source: &Source) -> String {
    let mut text = match report.warnings.len() {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for warning in &report.warnings {
        write!(text, "\n{}\n", warning_text(warning, source)).ok();
    }
    for error in errors {
        write!(text, "\nERROR: {}\n", printable(&with_causes(error))).ok();
        if let Some(hint) = error.hint() {
            writeln!(text, "{}", printable(&hint)).ok();
        }
        if let Some((source, span)) = &error.place {
            writeln!(text, "{}", excerpt(source, span)).ok();
        }
    }
    text
}

/// Formats a warning with its location, without a line feed at the end.
pub fn warning_text(warning: &Warning, source: &Source) -> String {
    let heading = heading(warning.rule);
    format!("WARNING: {heading}\n{}\n{}", printable(&warning.detail), excerpt(source, &warning.span))
}

fn heading(rule: Rule) -> String {
    match rule.url() {
        Some(url) => format!("{} - {url}", rule.name()),
        None => rule.name().to_owned(),
    }
}

/// Returns the lines of a location, marked, with the surrounding lines.
fn excerpt(source: &Source, span: &Span) -> String {
    let Range { start, end } = Range::of(source, span);
    // A span that ends with a line feed does not include the next line.
    let last = if end.character == 0 { end.line.saturating_sub(1).max(start.line) } else { end.line };
    let lines: Vec<&str> = source.text.lines().collect();
    let shown_last = last.min(start.line + MARKED_LINES - 1);
    let mut text = format!("{}:{}\n{RULER}\n", printable(&source.name), start.line);
    let first = start.line.saturating_sub(CONTEXT_LINES).max(1);
    for (index, line) in lines.iter().enumerate().take(shown_last + CONTEXT_LINES).skip(first - 1) {
        let number = index + 1;
        let mark = if (start.line..=last).contains(&number) { ">>>" } else { "   " };
        let line = format!("{number:4} | {mark} {}", printable(line));
        writeln!(text, "{}", line.trim_end()).ok();
    }
    text.push_str(RULER);
    text
}

/// Returns a line without control characters, which a terminal would interpret: a Dockerfile is not trusted.
pub fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
