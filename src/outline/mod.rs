//! Lists what a Dockerfile offers without building it: the arguments, secrets and caches of a target, and the targets.
//!
//! Descriptions come from comments directly above `ARG` and `FROM` that start with the name, as for `docker build
//! --call=outline` and `--call=targets`, whose JSON and tables these are.

mod plan;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::dockerfile::ast::{ArgDefinition, Instruction, Kind, SourceForm, Word};
use crate::dockerfile::expand;
use crate::dockerfile::mount::{MountFlag, MountKind, MountProblem};
use crate::lint::Scope;
use crate::lint::report::{Location, SourceFile};
use crate::lint::stages::Stages;

pub use plan::plan_text;
pub use table::{outline_text, targets_text};

/// The inputs of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its description, if it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Build arguments, in the order of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Argument>,
    /// Secrets of `RUN --mount=type=secret`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Agents of `RUN --mount=type=ssh`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<Secret>,
    /// Caches of `RUN --mount=type=cache`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<Cache>,
    /// The Dockerfile.
    pub sources: Vec<SourceFile>,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its description, if it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The value it would have in this build, if any.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// The location of its declaration.
    pub location: Location,
}

/// A secret or an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// Its id.
    pub name: String,
    /// True if a build without it fails.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The location of its first use.
    pub location: Location,
}

/// A cache directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The location of its first use.
    pub location: Location,
}

/// The targets of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Targets {
    /// In the order of the file.
    pub targets: Vec<Target>,
    /// The Dockerfile.
    pub sources: Vec<SourceFile>,
}

/// A stage that can be built by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name; `default` for a last stage without one.
    pub name: String,
    /// True if it is built when no target is named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// Its description, if it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The image or stage it starts from.
    pub base: String,
    /// The value of `--platform`, if given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
}

/// Returns the stages that can be named with `--target`.
pub fn targets(stages: &Stages<'_>) -> Targets {
    let last = stages.heads.len().saturating_sub(1);
    let targets = stages.dockerfile.stages.iter().zip(&stages.heads).enumerate();
    let targets = targets.filter(|(index, (_, head))| *index == last || !head.name.is_empty());
    let targets = targets.map(|(index, (stage, head))| Target {
        name: if head.name.is_empty() { "default".to_owned() } else { head.name.clone() },
        default: index == last,
        description: description(&stage.from.written, &head.name),
        base: head.base_name.clone(),
        platform: head.platform.clone().unwrap_or_default(),
    });
    Targets { targets: targets.collect(), sources: vec![SourceFile::of(&stages.dockerfile.source)] }
}

/// Returns the inputs of stage `target` and of the stages that it needs.
pub fn outline(stages: &Stages<'_>, target: usize) -> Outline {
    let source = &stages.dockerfile.source;
    let (stage, head) = (&stages.dockerfile.stages[target], &stages.heads[target]);
    let mut outline = Outline {
        name: head.name.clone(),
        description: description(&stage.from.written, &head.name),
        args: Vec::new(),
        secrets: Vec::new(),
        ssh: Vec::new(),
        cache: Vec::new(),
        sources: vec![SourceFile::of(source)],
    };
    let needed = stages.needed(target);
    global_arguments(stages, &needed, &mut outline);
    for index in needed.into_iter().filter(|index| !stages.heads[*index].replaced) {
        // Base images are not fetched: a default that needs their environment is listed without a value.
        let mut scope = Scope::unknown();
        for instruction in &stages.dockerfile.stages[index].instructions {
            scope.apply(instruction, stages.options, &stages.globals);
            match &instruction.kind {
                Kind::Arg(definitions) => {
                    for definition in definitions {
                        let value = scope.value(&definition.name.text).unwrap_or_default();
                        outline.add_argument(definition, instruction, value);
                    }
                }
                Kind::Run(run) => run.mounts.iter().for_each(|mount| outline.add_mount(mount, instruction, &scope)),
                _ => {}
            }
        }
    }
    outline
}

/// Adds the global arguments that the `FROM` lines of the needed stages use, directly or through other arguments.
fn global_arguments(stages: &Stages<'_>, needed: &[usize], outline: &mut Outline) {
    let mut used: BTreeSet<String> = BTreeSet::new();
    for index in needed {
        let from = &stages.dockerfile.stages[*index].from;
        for word in from.platform.iter().chain([&from.image]) {
            used.extend(names(word, stages.dockerfile.escape));
        }
    }
    for instruction in stages.dockerfile.global_args.iter().rev() {
        let Kind::Arg(definitions) = &instruction.kind else { continue };
        for definition in definitions.iter().rev() {
            if used.contains(&definition.name.text) {
                used.extend(definition.default.iter().flat_map(|word| names(word, stages.dockerfile.escape)));
            }
        }
    }
    for instruction in &stages.dockerfile.global_args {
        let Kind::Arg(definitions) = &instruction.kind else { continue };
        for definition in definitions.iter().filter(|definition| used.contains(&definition.name.text)) {
            let value = stages.globals.get(&definition.name.text).unwrap_or_default().to_owned();
            outline.add_argument(definition, instruction, value);
        }
    }
}

/// Returns the variables that a word names. If it cannot be expanded, which the plan reports, those before the error.
fn names(word: &Word, escape: char) -> Vec<String> {
    let mut names = Vec::new();
    let mut lookup = |name: &str| {
        names.push(name.to_owned());
        Some(String::new())
    };
    if let Err(error) = expand::expand(&word.text, escape, &mut lookup) {
        tracing::debug!("{error}");
    }
    names
}

impl Outline {
    /// Adds an argument; a repeated declaration only adds missing facts.
    fn add_argument(&mut self, definition: &ArgDefinition, instruction: &Instruction, value: String) {
        let name = &definition.name.text;
        let description = description(&instruction.written, name);
        if let Some(known) = self.args.iter_mut().find(|known| known.name == *name) {
            if known.description.is_empty() {
                known.description = description;
            }
            if known.value.is_empty() {
                known.value = value;
            }
            return;
        }
        let location = Location::of(&instruction.source, &instruction.span);
        self.args.push(Argument { name: name.clone(), description, value, location });
    }

    /// Adds a mount. An invalid one is ignored here; a check reports it.
    fn add_mount(&mut self, mount: &MountFlag, instruction: &Instruction, scope: &Scope) {
        let location = Location::of(&instruction.source, &instruction.span);
        let as_written = |word: &Word| scope.expand(word, instruction.escape).unwrap_or_else(|| word.text.clone());
        let Ok(spec) = mount.resolve::<MountProblem>(&mut |word| Ok(as_written(word))) else { return };
        match spec.kind {
            MountKind::Secret { id, required, .. } => {
                add_secret(&mut self.secrets, Secret { name: id, required, location });
            }
            MountKind::Ssh { id, required, .. } => add_secret(&mut self.ssh, Secret { name: id, required, location }),
            MountKind::Cache { id, .. } => {
                let id = id.or(spec.target).unwrap_or_default();
                if !self.cache.iter().any(|cache| cache.id == id) {
                    self.cache.push(Cache { id, location });
                }
            }
            MountKind::Bind { .. } | MountKind::Tmpfs { .. } => {}
        }
    }
}

/// Adds a secret; it is required if one of its uses requires it.
fn add_secret(secrets: &mut Vec<Secret>, secret: Secret) {
    match secrets.iter_mut().find(|known| known.name == secret.name) {
        Some(known) => known.required |= secret.required,
        None => secrets.push(secret),
    }
}

/// Returns the rest of the comment line that starts with the name.
fn description(written: &SourceForm, name: &str) -> String {
    let described = written.comments.iter().find_map(|comment| {
        let (first, rest) = comment.split_once(char::is_whitespace)?;
        (!name.is_empty() && first.eq_ignore_ascii_case(name)).then(|| rest.trim().to_owned())
    });
    described.unwrap_or_default()
}
