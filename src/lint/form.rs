//! Checks for old forms, repeated instructions, and secrets in plain text.

use crate::dockerfile::ast::{Instruction, KeyValue, Kind, SourceForm, Span};

use super::findings::Findings;
use super::rule::Rule;

/// Words, between underscores, that mark a name as a secret's.
const SECRET_WORDS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// Words that mark a name as harmless in spite of that.
const HARMLESS_WORDS: [&str; 3] = ["public", "file", "version"];

/// Checks `NoEmptyContinuation`, reported at the blank line.
pub(super) fn continuation(written: &SourceForm, findings: &mut Findings<'_>) {
    if let Some(span) = &written.blank_line {
        findings.add(Rule::NoEmptyContinuation, written, span, "Empty continuation line".to_owned());
    }
}

/// Checks `MaintainerDeprecated` and `LegacyKeyValueFormat`.
pub(super) fn old_forms(instruction: &Instruction, findings: &mut Findings<'_>) {
    let (rule, detail) = match &instruction.kind {
        Kind::Maintainer(_) => {
            (Rule::MaintainerDeprecated, "Maintainer instruction is deprecated in favor of using label".to_owned())
        }
        Kind::Env(pairs) | Kind::Label(pairs) if pairs.iter().any(|pair| pair.legacy) => {
            let keyword = instruction.keyword();
            let detail =
                format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format");
            (Rule::LegacyKeyValueFormat, detail)
        }
        _ => return,
    };
    findings.add(rule, &instruction.written, &instruction.span, detail);
}

/// Checks `SecretsUsedInArgOrEnv`.
pub(super) fn secrets(instruction: &Instruction, findings: &mut Findings<'_>) {
    let names: Vec<&str> = match &instruction.kind {
        Kind::Arg(definitions) => definitions.iter().map(|definition| definition.name.text.as_str()).collect(),
        Kind::Env(pairs) => pairs.iter().map(|KeyValue { key, .. }| key.text.as_str()).collect(),
        _ => return,
    };
    for name in names.into_iter().filter(|name| names_secret(name)) {
        let keyword = instruction.keyword();
        let detail = format!("Do not use ARG or ENV instructions for sensitive data ({keyword} \"{name}\")");
        findings.add(Rule::SecretsUsedInArgOrEnv, &instruction.written, &instruction.span, detail);
    }
}

fn names_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|word| words.contains(&word));
    has(&SECRET_WORDS) && !has(&HARMLESS_WORDS)
}

/// Checks `MultipleInstructionsDisallowed`, reported at the instructions without effect.
pub(super) fn repeated(instructions: &[Instruction], findings: &mut Findings<'_>) {
    let mut earlier: Vec<(&'static str, &SourceForm, &Span)> = Vec::new();
    for instruction in instructions {
        let keyword = instruction.keyword();
        if !matches!(instruction.kind, Kind::Cmd(_) | Kind::Entrypoint(_) | Kind::Healthcheck(_)) {
            continue;
        }
        if let Some(position) = earlier.iter().position(|(other, ..)| *other == keyword) {
            let (_, written, span) = earlier.swap_remove(position);
            let detail = format!(
                "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
            );
            findings.add(Rule::MultipleInstructionsDisallowed, written, span, detail);
        }
        earlier.push((keyword, &instruction.written, &instruction.span));
    }
}
