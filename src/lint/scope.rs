//! What the instructions of a stage see: the variables that are set, and what stages above have settled.

use std::collections::BTreeSet;

use crate::dockerfile::ast::{Instruction, Kind, Word};
use crate::dockerfile::expand;
use crate::image::ImageConfig;
use crate::plan::{DEFAULT_PATH, Environment, Options};

/// The state before an instruction; a stage goes on with that of the stage it starts from.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    variables: Environment,
    /// Arguments without a value: declared, but not set.
    declared: BTreeSet<String>,
    /// The base is an image whose environment nobody could tell.
    unknown_base: bool,
    /// There is a `SHELL`, here or in the base.
    pub(super) has_shell: bool,
    /// There was a `WORKDIR` in the Dockerfile.
    pub(super) has_working_directory: bool,
}

impl Scope {
    /// The start of a stage from scratch.
    pub fn scratch() -> Self {
        Self::image(&ImageConfig::default())
    }

    /// The start of a stage from an image.
    pub fn image(config: &ImageConfig) -> Self {
        let mut variables = Environment::from_entries(&config.config.env);
        if variables.get("PATH").is_none() {
            variables.set("PATH", DEFAULT_PATH);
        }
        let has_shell = config.config.shell.as_ref().is_some_and(|shell| !shell.is_empty());
        Self { variables, has_shell, ..Self::default() }
    }

    /// The start of a stage from something of which nothing is known.
    pub fn unknown() -> Self {
        Self { unknown_base: true, ..Self::scratch() }
    }

    /// Whether a variable that is not set here is set nowhere.
    pub fn is_known(&self) -> bool {
        !self.unknown_base
    }

    /// The names of all variables and arguments.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let set = self.variables.pairs().iter().map(|(name, _)| name.as_str());
        set.chain(self.declared.iter().map(String::as_str))
    }

    /// The value of a variable: empty for an argument that has none, `None` for a name that nobody declared.
    pub fn value(&self, name: &str) -> Option<String> {
        let set = self.variables.get(name).map(str::to_owned);
        set.or_else(|| self.declared.contains(name).then(String::new))
    }

    /// A word as a build expands it, if it can tell.
    pub fn expand(&self, word: &Word, escape: char) -> Option<String> {
        let expanded = expand::expand_and_find_unset(&word.text, escape, &mut |name| self.value(name)).ok()?;
        (self.is_known() || expanded.unset.is_empty()).then_some(expanded.text)
    }

    /// What is settled behind an instruction.
    pub fn apply(&mut self, instruction: &Instruction, options: &Options, globals: &Environment) {
        match &instruction.kind {
            Kind::Arg(definitions) => {
                for definition in definitions {
                    let name = &definition.name.text;
                    let given = options.build_arg(name).map(str::to_owned);
                    let default = || match &definition.default {
                        Some(default) => self.expand(default, instruction.escape),
                        None => globals.get(name).map(str::to_owned),
                    };
                    match given.or_else(default) {
                        Some(value) => self.variables.set(name, &value),
                        None => drop(self.declared.insert(name.clone())),
                    }
                }
            }
            Kind::Env(pairs) => {
                // One instruction sees what was set before it.
                let before = self.clone();
                for pair in pairs {
                    let expanded = |word| before.expand(word, instruction.escape);
                    if let Some(name) = expanded(&pair.key) {
                        match expanded(&pair.value) {
                            Some(value) => self.variables.set(&name, &value),
                            None => drop(self.declared.insert(name)),
                        }
                    }
                }
            }
            Kind::Shell(_) => self.has_shell = true,
            Kind::Workdir(_) => self.has_working_directory = true,
            _ => {}
        }
    }
}
