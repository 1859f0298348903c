//! Resolves the bases of stages and the stages that a target needs, as far as `FROM` lines and arguments show.
//!
//! The plan resolves this too, but only for files without errors and for stages that are built. Here every stage is
//! resolved, and errors are ignored because the plan reports them.

use crate::dockerfile::ast::{Dockerfile, Kind, Word};
use crate::dockerfile::expand;
use crate::image::{Platform, Reference};
use crate::plan::{Environment, ImageRequest, NamedSource, Options, platform_arguments};

/// The base of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// An empty root directory.
    Scratch,
    /// An earlier stage, by number.
    Stage(usize),
    /// An image.
    Image(Box<ImageRequest>),
    /// An unknown base: a directory, or an invalid `FROM` line.
    Unknown,
}

/// A resolved `FROM` line.
#[derive(Debug, Clone)]
pub struct Head {
    /// The stage's name in lower case, empty if it has none.
    pub name: String,
    /// The base's name, expanded.
    pub base_name: String,
    /// The resolved base.
    pub base: Base,
    /// The value of `--platform`, expanded.
    pub platform: Option<String>,
    /// True if a `--build-context` of the stage's name replaces the whole stage.
    pub replaced: bool,
}

/// The stages of a file, in its order.
#[derive(Debug)]
pub struct Stages<'a> {
    /// The file.
    pub dockerfile: &'a Dockerfile,
    /// The settings of the command line.
    pub options: &'a Options,
    /// The variables of `FROM` lines: the platform arguments and the global arguments.
    pub globals: Environment,
    /// The `FROM` line of each stage.
    pub heads: Vec<Head>,
}

impl<'a> Stages<'a> {
    /// Reads global arguments and `FROM` lines.
    pub fn new(dockerfile: &'a Dockerfile, options: &'a Options) -> Self {
        let globals = global_arguments(dockerfile, options, |name| options.build_arg(name));
        let mut stages = Self { dockerfile, options, globals, heads: Vec::new() };
        for index in 0..dockerfile.stages.len() {
            let head = stages.head(index);
            stages.heads.push(head);
        }
        stages
    }

    /// Returns the number of the stage to build: the target if there is one, or else the last.
    pub fn target(&self) -> Option<usize> {
        match &self.options.target {
            None => self.heads.len().checked_sub(1),
            Some(target) => {
                let lower = target.to_lowercase();
                self.heads.iter().rposition(|head| !head.name.is_empty() && head.name == lower)
            }
        }
    }

    /// Returns the numbers of the stages that stage `index` needs, itself included, in the order of the file.
    pub fn needed(&self, index: usize) -> Vec<usize> {
        let mut seen = vec![false; self.heads.len()];
        let mut open = vec![index];
        while let Some(index) = open.pop() {
            if index >= seen.len() || std::mem::replace(&mut seen[index], true) || self.heads[index].replaced {
                continue;
            }
            if let Base::Stage(parent) = self.heads[index].base {
                open.push(parent);
            }
            let instructions = &self.dockerfile.stages[index].instructions;
            open.extend(instructions.iter().flat_map(sources).filter_map(|name| self.earlier(index, &name)));
        }
        (0..seen.len()).filter(|index| seen[*index]).collect()
    }

    /// Returns the earlier stage that a `--from` of stage `index` names.
    fn earlier(&self, index: usize, name: &str) -> Option<usize> {
        if self.options.context(name).is_some() {
            return None;
        }
        let lower = name.to_lowercase();
        let named = self.heads[..index].iter().rposition(|head| !head.name.is_empty() && head.name == lower);
        named.or_else(|| name.parse().ok().filter(|number| *number < index))
    }

    fn head(&self, index: usize) -> Head {
        let from = &self.dockerfile.stages[index].from;
        let name = from.name.as_ref().map(|name| name.text.to_lowercase()).unwrap_or_default();
        let expanded = |word: &Word| self.expand_global(word).unwrap_or_default();
        let platform = from.platform.as_ref().map(expanded);
        let base_name = expanded(&from.image);
        let lower = base_name.to_lowercase();
        let context = self.options.context(&name);
        let replaced = context.is_some();
        let base = if let Some(context) = context.or_else(|| self.options.context(&base_name)) {
            match context {
                NamedSource::Image(reference) => self.image(reference.clone(), platform.as_deref()),
                NamedSource::Directory(_) => Base::Unknown,
            }
        } else if let Some(stage) = self.heads.iter().rposition(|head| !head.name.is_empty() && head.name == lower) {
            Base::Stage(stage)
        } else if base_name == "scratch" {
            Base::Scratch
        } else {
            match Reference::parse(&base_name) {
                Ok(reference) => self.image(reference, platform.as_deref()),
                Err(_) => Base::Unknown,
            }
        };
        Head { name, base_name, base, platform, replaced }
    }

    fn image(&self, reference: Reference, platform: Option<&str>) -> Base {
        let platform: Option<Platform> = match platform {
            None => Some(self.options.target_platform.clone()),
            Some(text) => text.parse().ok(),
        };
        platform.map_or(Base::Unknown, |platform| Base::Image(Box::new(ImageRequest { reference, platform })))
    }

    fn expand_global(&self, word: &Word) -> Option<String> {
        let mut lookup = |name: &str| self.globals.get(name).map(str::to_owned);
        expand::expand(&word.text, self.dockerfile.escape, &mut lookup).ok()
    }
}

/// Returns the names of the stages or images that an instruction takes files from.
fn sources(instruction: &crate::dockerfile::Instruction) -> Vec<String> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().map(|from| from.text.clone()).collect(),
        Kind::Run(run) => run.mounts.iter().filter_map(|mount| Some(mount.from()?.text.clone())).collect(),
        _ => Vec::new(),
    }
}

/// Returns the global arguments: the platform's, and those before the first `FROM`, with the value of `given` or else
/// their default.
pub(super) fn global_arguments<'o>(
    dockerfile: &Dockerfile,
    options: &Options,
    given: impl Fn(&str) -> Option<&'o str>,
) -> Environment {
    let last = dockerfile.stages.last().and_then(|stage| stage.from.name.as_ref()).map(|name| name.text.as_str());
    let target = options.target.as_deref().or(last).unwrap_or("default").to_lowercase();
    let mut globals = platform_arguments(options, &target);
    for instruction in &dockerfile.global_args {
        let Kind::Arg(definitions) = &instruction.kind else { continue };
        for definition in definitions {
            let default = definition.default.as_ref().and_then(|default| {
                let mut lookup = |name: &str| globals.get(name).map(str::to_owned);
                expand::expand(&default.text, dockerfile.escape, &mut lookup).ok()
            });
            let name = &definition.name.text;
            if let Some(value) = given(name).map(str::to_owned).or(default) {
                globals.set(name, &value);
            }
        }
    }
    globals
}
