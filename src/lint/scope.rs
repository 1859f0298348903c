//! Tracks the variables of a stage's instructions, and the facts that earlier instructions set.

use std::collections::BTreeSet;

use crate::dockerfile::ast::{Instruction, Kind, Word};
use crate::dockerfile::expand;
use crate::image::ImageConfig;
use crate::plan::{DEFAULT_PATH, Environment, Options};

/// The state before an instruction; a stage continues with that of the stage it starts from.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    variables: Environment,
    /// Arguments without a value: declared, but not set.
    declared: BTreeSet<String>,
    /// True if the base is an image with an unknown environment.
    unknown_base: bool,
    /// True after a `SHELL`, also in the base.
    pub(super) has_shell: bool,
    /// True after a `WORKDIR` in the Dockerfile.
    pub(super) has_working_directory: bool,
}

impl Scope {
    /// Returns the state after `FROM scratch`.
    pub fn scratch() -> Self {
        Self::image(&ImageConfig::default())
    }

    /// Returns the state after `FROM` an image.
    pub fn image(config: &ImageConfig) -> Self {
        let mut variables = Environment::from_entries(&config.config.env);
        if variables.get("PATH").is_none() {
            variables.set("PATH", DEFAULT_PATH);
        }
        let has_shell = config.config.shell.as_ref().is_some_and(|shell| !shell.is_empty());
        Self { variables, has_shell, ..Self::default() }
    }

    /// Returns the state after `FROM` an unknown base.
    pub fn unknown() -> Self {
        Self { unknown_base: true, ..Self::scratch() }
    }

    /// Reports whether all variables are known.
    pub fn is_known(&self) -> bool {
        !self.unknown_base
    }

    /// Returns the names of all variables and arguments.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let set = self.variables.pairs().iter().map(|(name, _)| name.as_str());
        set.chain(self.declared.iter().map(String::as_str))
    }

    /// Returns the value of a variable: empty for an argument without one, `None` for an undeclared name.
    pub fn value(&self, name: &str) -> Option<String> {
        let set = self.variables.get(name).map(str::to_owned);
        set.or_else(|| self.declared.contains(name).then(String::new))
    }

    /// Expands a word like a build, if all its variables are known.
    pub fn expand(&self, word: &Word, escape: char) -> Option<String> {
        let expanded = expand::expand_and_find_unset(&word.text, escape, &mut |name| self.value(name)).ok()?;
        (self.is_known() || expanded.unset.is_empty()).then_some(expanded.text)
    }

    /// Updates the state for an instruction.
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
                // An instruction sees only what was set before it.
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
