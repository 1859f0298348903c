//! Checks single instructions whose meaning depends on earlier ones: paths, ports, commands.

use std::path::Path;

use crate::context::IgnoreMatcher;
use crate::dockerfile::ast::{Command, Copy, Instruction, Kind, Word};
use crate::dockerfile::go_quote;

use super::findings::Findings;
use super::rule::Rule;
use super::scope::Scope;

/// Checks an instruction of a stage, before it is applied to `scope`.
pub(super) fn instruction(
    instruction: &Instruction,
    scope: &Scope,
    ignore: Option<&IgnoreMatcher>,
    findings: &mut Findings<'_>,
) {
    match &instruction.kind {
        Kind::Cmd(Command::Shell(_)) | Kind::Entrypoint(Command::Shell(_)) if !scope.has_shell => {
            let keyword = instruction.keyword();
            let detail = format!(
                "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
            );
            findings.add(Rule::JsonArgsRecommended, &instruction.written, &instruction.span, detail);
        }
        Kind::Workdir(word) if !scope.has_working_directory => working_directory(word, instruction, scope, findings),
        Kind::Copy(copy) => {
            if let Some(ignore) = ignore {
                ignored_sources(copy, instruction, scope, ignore, findings);
            }
        }
        Kind::Expose(words) => {
            for word in words {
                if let Some(text) = scope.expand(word, instruction.escape) {
                    text.split_whitespace().for_each(|port| ports(port, instruction, findings));
                }
            }
        }
        _ => {}
    }
}

/// Checks `WorkdirRelativePath`: only the first one depends on the base image.
fn working_directory(word: &Word, instruction: &Instruction, scope: &Scope, findings: &mut Findings<'_>) {
    let Some(path) = scope.expand(word, instruction.escape) else { return };
    if !path.starts_with('/') {
        let detail =
            format!("Relative workdir {} can have unexpected results if the base image changes", go_quote(&path));
        findings.add(Rule::WorkdirRelativePath, &instruction.written, &instruction.span, detail);
    }
}

/// Checks `CopyIgnoredFile`, for sources in the build context. With exceptions (`!`) a match is not conclusive.
fn ignored_sources(
    copy: &Copy,
    instruction: &Instruction,
    scope: &Scope,
    ignore: &IgnoreMatcher,
    findings: &mut Findings<'_>,
) {
    if copy.from.is_some() || ignore.has_exceptions() {
        return;
    }
    for word in &copy.sources {
        let Some(source) = scope.expand(word, instruction.escape) else { continue };
        if copy.add && is_remote(&source) {
            continue;
        }
        let path = within_context(&source);
        let ignored = if path.is_empty() { ignore.ignores_everything() } else { ignore.is_ignored(Path::new(&path)) };
        if ignored {
            let detail = format!("Attempting to Copy file {} that is excluded by .dockerignore", go_quote(&source));
            findings.add(Rule::CopyIgnoredFile, &instruction.written, &instruction.span, detail);
        }
    }
}

fn is_remote(source: &str) -> bool {
    source.contains("://") || source.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'))
}

/// Returns a source's path in the context, clean; it cannot leave the context.
fn within_context(source: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Checks `ExposeProtoCasing` and `ExposeInvalidFormat`.
fn ports(port: &str, instruction: &Instruction, findings: &mut Findings<'_>) {
    if port.split_once('/').is_some_and(|(_, protocol)| protocol.chars().any(char::is_uppercase)) {
        let detail = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        findings.add(Rule::ExposeProtoCasing, &instruction.written, &instruction.span, detail);
    }
    if port.contains(':') {
        let detail = format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'");
        findings.add(Rule::ExposeInvalidFormat, &instruction.written, &instruction.span, detail);
    }
}
