//! Checks the names of stages and arguments, and the comments that describe them.

use crate::dockerfile::ast::{Dockerfile, Instruction, Kind, SourceForm, Span};

use super::findings::Findings;
use super::rule::Rule;
use super::settings::check_comment;

/// Names with a different meaning where a stage is named.
const RESERVED: [&str; 2] = ["context", "scratch"];

/// Checks `DuplicateStageName`, `ReservedStageName` and the descriptions of stages.
pub(super) fn stages(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        let from = &stage.from;
        let Some(name) = &from.name else { continue };
        let same = |other: &crate::dockerfile::Stage| {
            other.from.name.as_ref().is_some_and(|other| other.text.eq_ignore_ascii_case(&name.text))
        };
        if dockerfile.stages[..index].iter().any(same) {
            let detail = format!("Duplicate stage name \"{}\", stage names should be unique", name.text);
            findings.add(Rule::DuplicateStageName, &from.written, &from.span, detail);
        }
        if RESERVED.contains(&name.text.as_str()) {
            let detail = format!("Stage name should not use the same name as reserved stage \"{}\"", name.text);
            findings.add(Rule::ReservedStageName, &from.written, &from.span, detail);
        }
        let written_name = from.as_written.as_ref().map_or(name.text.as_str(), |(_, name)| name.as_str());
        description("FROM", &[written_name], (&from.written, &from.span), findings);
    }
}

/// Checks the descriptions of arguments.
pub(super) fn argument(instruction: &Instruction, findings: &mut Findings<'_>) {
    let Kind::Arg(definitions) = &instruction.kind else { return };
    let names: Vec<&str> = definitions.iter().map(|definition| definition.name.text.as_str()).collect();
    description("ARG", &names, (&instruction.written, &instruction.span), findings);
}

/// Checks `InvalidDefinitionDescription`: the comment directly above must start with one of the names. An empty comment
/// line separates other comments from the instruction, and settings are not a description.
fn description(keyword: &str, names: &[&str], (written, span): (&SourceForm, &Span), findings: &mut Findings<'_>) {
    let Some(comment) = written.comments.iter().rev().find(|comment| check_comment(comment).is_none()) else { return };
    let first = comment.split_whitespace().next().unwrap_or_default();
    if first.is_empty() || names.contains(&first) {
        return;
    }
    let name = if let [only] = names { only } else { "<arg_key>" };
    let detail = format!(
        "Comment for {keyword} should follow the format: `# {name} <description>`. If this is not intended to be a \
         description comment, add an empty line or comment between the instruction and the comment."
    );
    findings.add(Rule::InvalidDefinitionDescription, written, span, detail);
}
