//! Checks for undeclared variables: in `FROM` lines, and in the instructions of a stage.

use crate::diag::suggest;
use crate::dockerfile::ast::{ArgDefinition, From, Instruction, Kind, Word};
use crate::dockerfile::expand;
use crate::dockerfile::mount::MountFlag;
use crate::image::Reference;
use crate::plan::Environment;

use super::findings::Findings;
use super::rule::Rule;
use super::scope::Scope;
use super::stages::{Stages, global_arguments};

/// Checks `UndefinedArgInFrom`; a global argument without a default counts as declared.
pub(super) fn from_line(from: &From, stages: &Stages<'_>, findings: &mut Findings<'_>) {
    let declared = global_names(stages);
    for word in from.platform.iter().chain([&from.image]) {
        let mut lookup = |name: &str| match stages.globals.get(name) {
            Some(value) => Some(value.to_owned()),
            None => declared.contains(&name).then(String::new),
        };
        // The plan reports words that cannot be expanded.
        let Ok(expanded) = expand::expand_and_find_unset(&word.text, stages.dockerfile.escape, &mut lookup) else {
            continue;
        };
        for name in expanded.unset {
            let known = declared.iter().copied().chain(stages.globals.pairs().iter().map(|(name, _)| name.as_str()));
            let suggestion = suggest(&name, known).map(|known| format!(" (did you mean {known}?)")).unwrap_or_default();
            let detail = format!("FROM argument '{name}' is not declared{suggestion}");
            findings.add(Rule::UndefinedArgInFrom, &from.written, &from.span, detail);
        }
    }
}

/// Returns the names that `ARG` declares before the first `FROM`.
fn global_names<'a>(stages: &Stages<'a>) -> Vec<&'a str> {
    let definitions = stages.dockerfile.global_args.iter().filter_map(|instruction| match &instruction.kind {
        Kind::Arg(definitions) => Some(definitions),
        _ => None,
    });
    definitions.flatten().map(|definition| definition.name.text.as_str()).collect()
}

/// Checks `InvalidDefaultArgInFrom`: the base's name without any `--build-arg`.
pub(super) fn defaults(stages: &Stages<'_>, findings: &mut Findings<'_>) {
    let defaults = global_arguments(stages.dockerfile, stages.options, |_| None);
    for stage in &stages.dockerfile.stages {
        let from = &stage.from;
        let word = &from.image.text;
        if !expand::has_variable(word, stages.dockerfile.escape) {
            continue;
        }
        let mut lookup = |name: &str| defaults.get(name).map(str::to_owned);
        let valid = expand::expand(word, stages.dockerfile.escape, &mut lookup)
            .is_ok_and(|name| !name.is_empty() && Reference::parse(&name).is_ok());
        if !valid {
            let detail = format!("Default value for ARG {word} results in empty or invalid base image name");
            findings.add(Rule::InvalidDefaultArgInFrom, &from.written, &from.span, detail);
        }
    }
}

/// Checks `UndefinedVar`, in the words of an instruction that are expanded.
pub(super) fn undefined(instruction: &Instruction, scope: &Scope, globals: &Environment, findings: &mut Findings<'_>) {
    if !scope.is_known() {
        return;
    }
    let mut reported: Vec<String> = Vec::new();
    for expanded in expansions(instruction, scope) {
        for name in expanded.unset {
            if reported.contains(&name) {
                continue;
            }
            let global = globals.pairs().iter().map(|(name, _)| name.as_str()).filter(|global| *global != name);
            let suggestion = suggest(&name, scope.names().chain(global));
            let suggestion = suggestion.map(|known| format!(" (did you mean ${known}?)")).unwrap_or_default();
            let detail = format!("Usage of undefined variable '${name}'{suggestion}");
            findings.add(Rule::UndefinedVar, &instruction.written, &instruction.span, detail);
            reported.push(name);
        }
    }
}

/// Returns every word of an instruction that a build expands, expanded. The plan reports those that cannot be.
fn expansions(instruction: &Instruction, scope: &Scope) -> Vec<expand::Expanded> {
    if let Kind::Arg(definitions) = &instruction.kind {
        return defaults_of(definitions, instruction.escape, scope);
    }
    let mut lookup = |name: &str| scope.value(name);
    let mut expanded: Vec<expand::Expanded> = words(&instruction.kind)
        .into_iter()
        .filter_map(|word| expand::expand_and_find_unset(&word.text, instruction.escape, &mut lookup).ok())
        .collect();
    if let Kind::Copy(copy) = &instruction.kind {
        let documents = copy.heredocs.iter().filter(|document| document.expand);
        expanded.extend(
            documents.filter_map(|document| expand::expand_heredoc_and_find_unset(&document.body, &mut lookup).ok()),
        );
    }
    expanded
}

/// Returns the defaults of an `ARG`, each expanded with the names before it.
fn defaults_of(definitions: &[ArgDefinition], escape: char, scope: &Scope) -> Vec<expand::Expanded> {
    let mut expanded = Vec::new();
    for (index, definition) in definitions.iter().enumerate() {
        let earlier = |name: &str| definitions[..index].iter().any(|earlier| earlier.name.text == name);
        let mut lookup = |name: &str| scope.value(name).or_else(|| earlier(name).then(String::new));
        let default = definition.default.as_ref();
        expanded.extend(default.and_then(|word| expand::expand_and_find_unset(&word.text, escape, &mut lookup).ok()));
    }
    expanded
}

/// Returns the words that an instruction other than `ARG` expands.
fn words(kind: &Kind) -> Vec<&Word> {
    match kind {
        Kind::Env(pairs) | Kind::Label(pairs) => pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).collect(),
        Kind::Copy(copy) => {
            let flags = [&copy.chown, &copy.chmod, &copy.checksum].into_iter().flatten();
            copy.sources.iter().chain([&copy.destination]).chain(flags).collect()
        }
        Kind::Run(run) => run.mounts.iter().flat_map(MountFlag::expanded_words).collect(),
        Kind::Expose(words) | Kind::Volume(words) => words.iter().collect(),
        Kind::StopSignal(word) | Kind::User(word) | Kind::Workdir(word) => vec![word],
        Kind::Arg(_)
        | Kind::Cmd(_)
        | Kind::Entrypoint(_)
        | Kind::Healthcheck(_)
        | Kind::Maintainer(_)
        | Kind::Onbuild(_)
        | Kind::Shell(_) => Vec::new(),
    }
}
