//! Checks the case of stage names and of keywords.

use crate::dockerfile::ast::{From, SourceForm, Span};

use super::findings::Findings;
use super::rule::Rule;

/// The case of a keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
    Mixed,
}

fn case(word: &str) -> Case {
    match word {
        word if word.chars().all(char::is_lowercase) => Case::Lower,
        word if word.chars().all(char::is_uppercase) => Case::Upper,
        _ => Case::Mixed,
    }
}

/// Checks `StageNameCasing` and `FromAsCasing`.
pub(super) fn stage(from: &From, findings: &mut Findings<'_>) {
    let Some((keyword, name)) = &from.as_written else { return };
    if name.chars().any(char::is_uppercase) {
        let detail = format!("Stage name '{name}' should be lowercase");
        findings.add(Rule::StageNameCasing, &from.written, &from.span, detail);
    }
    if case(keyword) != case(&from.written.keyword) {
        let detail = format!("'{keyword}' and '{}' keywords' casing do not match", from.written.keyword);
        findings.add(Rule::FromAsCasing, &from.written, &from.span, detail);
    }
}

/// Checks `ConsistentInstructionCasing`: the majority of the file's keywords decides, capitals in a tie.
pub(super) fn keywords(instructions: &[(&SourceForm, &Span)], findings: &mut Findings<'_>) {
    let count = |wanted| instructions.iter().filter(|(written, _)| case(&written.keyword) == wanted).count();
    let (majority, name) = match count(Case::Lower) > count(Case::Upper) {
        true => (Case::Lower, "lowercase"),
        false => (Case::Upper, "uppercase"),
    };
    for (written, span) in instructions {
        if case(&written.keyword) != majority {
            let detail =
                format!("Command '{}' should match the case of the command majority ({name})", written.keyword);
            findings.add(Rule::ConsistentInstructionCasing, written, span, detail);
        }
    }
}
