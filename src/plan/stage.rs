//! Applies the instructions of a stage: configuration, history, environment, and the steps to execute.

use std::collections::BTreeMap;

use crate::dockerfile::ast::{self, ArgDefinition, Command, Flag, Healthcheck, Instruction, Kind, Source, Word};
use crate::dockerfile::{expand, expose, parse_trigger, signal};
use crate::image::{Empty, HealthConfig, ImageConfig, Platform};

use super::environment::{DEFAULT_PATH, Environment, PROXY_VARIABLES, expand_in, proxy_variables};
use super::host_name;
use super::paths::absolute;
use super::{
    Action, Copy, CopyFrom, Options, PlanError, Run, TextFile, Workdir, heredoc, history, mount, refuse, remote,
};

/// The state of a stage after the instructions so far.
#[derive(Clone)]
pub(super) struct State {
    config: ImageConfig,
    /// The environment of a RUN and of variable expansion: the image's, with ARG values set from their line on. The
    /// later of ARG and ENV takes precedence.
    scope: Environment,
    /// The ARGs declared so far, in order, with repetitions.
    arguments: Vec<(String, Option<String>)>,
    /// True if this stage itself has a CMD.
    command_set: bool,
    /// The history entry of this stage's last instruction with a layer.
    last_layer: Option<usize>,
}

impl State {
    /// Returns the state after `FROM scratch`: BuildKit sets a PATH and a working directory.
    pub(super) fn scratch(platform: &Platform) -> Self {
        let mut config = ImageConfig::default();
        config.set_platform(platform);
        config.config.working_dir = "/".to_owned();
        Self::new(config)
    }

    /// Returns the state after `FROM image`.
    pub(super) fn image(base: &ImageConfig) -> Self {
        let mut config = base.clone();
        // Fields for the base's own builder: its container, its host, and fields older than OCI.
        config.extra.clear();
        config.config.extra.clear();
        Self::new(config)
    }

    fn new(mut config: ImageConfig) -> Self {
        let mut scope = Environment::from_entries(&config.config.env);
        if scope.get("PATH").is_none() {
            scope.set("PATH", DEFAULT_PATH);
        }
        config.config.env = scope.entries();
        Self { config, scope, arguments: Vec::new(), command_set: false, last_layer: None }
    }

    /// Returns the state after `FROM stage`: arguments in scope are inherited.
    pub(super) fn child(&self) -> Self {
        Self { command_set: false, last_layer: None, ..self.clone() }
    }

    /// Removes the base's `ONBUILD` triggers from the configuration; returns them parsed, with the errors of invalid
    /// ones.
    pub(super) fn take_triggers(&mut self, base: &str) -> (Vec<Instruction>, Vec<PlanError>) {
        let (mut instructions, mut errors) = (Vec::new(), Vec::new());
        for trigger in self.config.config.on_build.take().unwrap_or_default() {
            let source = Source { name: format!("ONBUILD trigger of {base}"), text: trigger };
            match parse_trigger(source, '\\') {
                Ok(parsed) => instructions.extend(parsed),
                Err(wrong) => errors.extend(wrong.into_iter().map(PlanError::from)),
            }
        }
        (instructions, errors)
    }

    /// Returns the final configuration and the names of the declared arguments.
    pub(super) fn finish(self) -> (ImageConfig, Vec<String>) {
        (self.config, self.arguments.into_iter().map(|(name, _)| name).collect())
    }

    /// Records a layer that no instruction made.
    pub(super) fn record_import(&mut self, text: &str) {
        self.config.history.push(history::entry(text, false));
    }

    /// Applies an instruction; `origins` are the sources of its COPY or its mounts with `from`, in order.
    pub(super) fn apply(
        &mut self,
        instruction: &Instruction,
        origins: &[CopyFrom],
        options: &Options,
        globals: &Environment,
    ) -> Result<Action, PlanError> {
        let mut action = Action::Configure;
        let created_by = match &instruction.kind {
            Kind::Arg(definitions) => self.arg(definitions, instruction, options, globals)?,
            Kind::Env(entries) => self.env(entries, instruction)?,
            Kind::Label(entries) => {
                let entries = self.expand_pairs(entries, instruction, "LABEL")?;
                self.config.config.labels.extend(entries.iter().cloned());
                history::pairs("LABEL", &entries)
            }
            Kind::Run(run) => {
                let step = self.run_step(run, origins, instruction, options)?;
                let text = history::run(&step.arguments, &self.arguments, &self.scope);
                action = Action::Run(step);
                text
            }
            Kind::Copy(copy) => {
                let from = origins.first().copied().unwrap_or_default();
                let step = self.copy(copy, from, instruction)?;
                let text = history::copy(&step);
                action = Action::Copy(step);
                text
            }
            Kind::Workdir(word) => {
                let path = self.set_working_directory(word, instruction)?;
                if path != "/" {
                    let user = self.config.config.user.clone();
                    action = Action::Workdir(Workdir { path: absolute("/", &path), user });
                }
                format!("WORKDIR {path}")
            }
            Kind::User(word) => {
                self.config.config.user = self.expand(word, instruction)?;
                format!("USER {}", self.config.config.user)
            }
            Kind::Cmd(command) => {
                let arguments = self.command_line(command);
                let text = history::quoted_command("CMD", &arguments);
                self.config.config.cmd = Some(arguments);
                self.config.config.args_escaped = Some(true);
                self.command_set = true;
                text
            }
            Kind::Entrypoint(command) => {
                let arguments = self.command_line(command);
                let text = history::quoted_command("ENTRYPOINT", &arguments);
                self.config.config.entrypoint = Some(arguments).filter(|arguments| !arguments.is_empty());
                if !self.command_set {
                    self.config.config.cmd = None;
                }
                text
            }
            Kind::Expose(words) => self.expose(words, instruction)?,
            Kind::Volume(words) => self.volume(words, instruction)?,
            Kind::Shell(shell) => {
                self.config.config.shell = Some(shell.clone());
                format!("SHELL {}", history::list(shell))
            }
            Kind::StopSignal(word) => self.stop_signal(word, instruction)?,
            Kind::Healthcheck(check) => {
                self.config.config.healthcheck = Some(health_config(check));
                history::healthcheck(check)
            }
            Kind::Onbuild(onbuild) => {
                self.config.config.on_build.get_or_insert_with(Vec::new).push(onbuild.trigger.clone());
                return Ok(Action::Configure);
            }
            Kind::Maintainer(word) => {
                self.config.author = Some(word.text.clone());
                format!("MAINTAINER {}", word.text)
            }
        };
        if action.makes_layer() {
            let before = self.last_layer.replace(self.config.history.len());
            if let Some(entry) =
                before.filter(|_| options.single_snapshot).and_then(|at| self.config.history.get_mut(at))
            {
                entry.empty_layer = true;
            }
        }
        self.config.history.push(history::entry(&created_by, !action.makes_layer()));
        Ok(action)
    }

    fn env(&mut self, entries: &[ast::KeyValue], instruction: &Instruction) -> Result<String, PlanError> {
        let entries = self.expand_pairs(entries, instruction, "ENV")?;
        for (name, value) in &entries {
            self.scope.set(name, value);
        }
        let mut environment = Environment::from_entries(&self.config.config.env);
        entries.iter().for_each(|(name, value)| environment.set(name, value));
        self.config.config.env = environment.entries();
        Ok(history::pairs("ENV", &entries))
    }

    fn run_step(
        &self,
        run: &ast::Run,
        origins: &[CopyFrom],
        instruction: &Instruction,
        options: &Options,
    ) -> Result<Run, PlanError> {
        let (command, script) = heredoc::command(run, instruction)?;
        let arguments = self.command_line(&command);
        let offline = run.network.as_ref().is_some_and(|network| network.text == "none");
        let mounts = mount::resolve(
            &run.mounts,
            origins,
            &mount::Scope {
                working_directory: &absolute("/", &self.config.config.working_dir),
                cache_namespace: options.build_arg("BUILDKIT_CACHE_MOUNT_NS").filter(|name| !name.is_empty()),
                expand: &|word| self.expand(word, instruction),
                source: &instruction.source,
            },
        )?;
        Ok(Run { script, offline, mounts, ..self.run(arguments, options) })
    }

    /// Sets the working directory and returns it as the configuration has it.
    fn set_working_directory(&mut self, word: &Word, instruction: &Instruction) -> Result<String, PlanError> {
        let expanded = self.expand(word, instruction)?;
        // The configuration has an absolute path as written; only a relative one is joined and cleaned.
        let path = match expanded.starts_with('/') {
            true => expanded,
            false => absolute(&self.config.config.working_dir, &expanded),
        };
        self.config.config.working_dir.clone_from(&path);
        Ok(path)
    }

    fn volume(&mut self, words: &[Word], instruction: &Instruction) -> Result<String, PlanError> {
        let volumes =
            words.iter().map(|word| self.expand(word, instruction)).collect::<Result<Vec<String>, PlanError>>()?;
        if volumes.iter().any(String::is_empty) {
            return Err(PlanError::new("VOLUME specified can not be an empty string")
                .at(&instruction.source, &instruction.span));
        }
        self.config.config.volumes.extend(volumes.iter().map(|volume| (volume.clone(), Empty::default())));
        Ok(format!("VOLUME {}", history::list(&volumes)))
    }

    fn stop_signal(&mut self, word: &Word, instruction: &Instruction) -> Result<String, PlanError> {
        let name = self.expand(word, instruction)?;
        signal::validate(&name).map_err(|error| {
            PlanError::new(error)
                .at(&instruction.source, &word.span)
                .with_hint("write a signal's name or number, for example SIGTERM or 15")
        })?;
        self.config.config.stop_signal = name;
        Ok(format!("STOPSIGNAL {}", self.config.config.stop_signal))
    }

    fn expand(&self, word: &Word, instruction: &Instruction) -> Result<String, PlanError> {
        expand_in(&self.scope, word, instruction.escape, &instruction.source)
    }

    fn expand_pairs(
        &self,
        entries: &[ast::KeyValue],
        instruction: &Instruction,
        keyword: &str,
    ) -> Result<Vec<(String, String)>, PlanError> {
        entries
            .iter()
            .map(|entry| {
                let key = self.expand(&entry.key, instruction)?;
                if key.is_empty() {
                    return Err(PlanError::new(format!("{keyword} names can not be blank"))
                        .at(&instruction.source, &entry.key.span));
                }
                Ok((key, self.expand(&entry.value, instruction)?))
            })
            .collect()
    }

    fn arg(
        &mut self,
        definitions: &[ArgDefinition],
        instruction: &Instruction,
        options: &Options,
        globals: &Environment,
    ) -> Result<String, PlanError> {
        let mut words = vec!["ARG".to_owned()];
        for definition in definitions {
            let name = &definition.name.text;
            let value = match (options.build_arg(name), &definition.default) {
                (Some(given), _) => Some(given.to_owned()),
                (None, Some(default)) => Some(self.expand(default, instruction)?),
                (None, None) => globals.get(name).map(str::to_owned),
            };
            if let Some(value) = &value {
                self.scope.set(name, value);
            }
            words.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            self.arguments.push((name.clone(), value));
        }
        Ok(words.join(" "))
    }

    /// Returns program and arguments; shell text follows the stage's shell.
    fn command_line(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(arguments) => arguments.clone(),
            Command::Shell(text) => {
                let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
                let mut arguments =
                    self.config.config.shell.clone().filter(|shell| !shell.is_empty()).unwrap_or_else(default);
                arguments.push(text.clone());
                arguments
            }
        }
    }

    fn run(&self, arguments: Vec<String>, options: &Options) -> Run {
        let mut environment = self.scope.clone();
        for (name, value) in proxy_variables(options) {
            if environment.get(name).is_none() {
                environment.set(name, value);
            }
        }
        // One that the Dockerfile declares or sets is an ordinary variable.
        let proxies = PROXY_VARIABLES.into_iter().filter(|name| self.scope.get(name).is_none());
        Run {
            arguments,
            proxies: proxies.filter(|name| environment.get(name).is_some()).collect(),
            environment: environment.pairs().to_vec(),
            working_directory: absolute("/", &self.config.config.working_dir),
            user: self.config.config.user.clone(),
            script: None,
            offline: false,
            host_name: host_name::host_name(options).map(str::to_owned),
            mounts: Vec::new(),
        }
    }

    fn copy(&self, copy: &ast::Copy, from: CopyFrom, instruction: &Instruction) -> Result<Copy, PlanError> {
        let expand = |word: &Word| self.expand(word, instruction);
        let checksum = copy.checksum.as_ref().map(expand).transpose()?.filter(|checksum| !checksum.is_empty());
        if let (Some(word), Some(_)) = (&copy.checksum, &checksum)
            && (copy.sources.len() != 1 || !copy.heredocs.is_empty())
        {
            return Err(refuse::checksum(copy, &instruction.source, &word.span));
        }
        let (mut sources, mut remotes) = (Vec::new(), BTreeMap::new());
        for (position, word) in copy.sources.iter().enumerate() {
            let text = expand(word)?;
            if let Some(source) = remote::source(&text, copy, checksum.as_deref(), (word, &instruction.source))? {
                remotes.insert(position, source);
            }
            sources.push(text);
        }
        if let (Some(word), Some(_), true) = (&copy.checksum, &checksum, remotes.is_empty()) {
            return Err(refuse::checksum(copy, &instruction.source, &word.span));
        }
        if let Some(flag) = copy.keep_git_dir.as_ref().filter(|flag| flag.value && remotes.is_empty()) {
            return Err(refuse::keep_git_dir(&instruction.source, &flag.span));
        }
        let scope = |name: &str| self.scope.get(name).map(str::to_owned);
        let texts = copy.heredocs.iter().map(|document| heredoc::file(document, instruction, &scope));
        let chmod = copy.chmod.as_ref().map(expand).transpose()?;
        let is_set = |flag: Option<&Flag>| flag.is_some_and(|flag| flag.value);
        Ok(Copy {
            add: copy.add,
            from,
            sources,
            remotes,
            texts: texts.collect::<Result<Vec<TextFile>, PlanError>>()?,
            destination: expand(&copy.destination)?,
            working_directory: absolute("/", &self.config.config.working_dir),
            chown: copy.chown.as_ref().map(expand).transpose()?,
            link: is_set(copy.link.as_ref()) && chmod.as_deref().unwrap_or_default().is_empty(),
            chmod,
            unpack: copy.unpack.as_ref().map_or(copy.add, |flag| flag.value),
            excludes: copy.excludes.iter().map(|word| word.text.clone()).collect(),
            parents: is_set(copy.parents.as_ref()),
        })
    }

    fn expose(&mut self, words: &[Word], instruction: &Instruction) -> Result<String, PlanError> {
        let mut ports = Vec::new();
        for word in words {
            let scope = &self.scope;
            let expanded =
                expand::expand_words(&word.text, instruction.escape, &mut |name| scope.get(name).map(str::to_owned))
                    .map_err(|error| PlanError::expansion(&error, word, &instruction.source))?;
            for text in expanded {
                let parsed = expose::parse_port(&text)
                    .map_err(|error| PlanError::new(error).at(&instruction.source, &word.span))?;
                ports.extend(parsed);
            }
        }
        ports.sort();
        ports.dedup();
        self.config.config.exposed_ports.extend(ports.iter().map(|port| (port.clone(), Empty::default())));
        Ok(format!("EXPOSE {}", history::list(&ports)))
    }
}

fn health_config(check: &Healthcheck) -> HealthConfig {
    match check {
        Healthcheck::None => HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() },
        Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } => HealthConfig {
            test: history::healthcheck_test(command),
            interval: *interval,
            timeout: *timeout,
            start_period: *start_period,
            start_interval: *start_interval,
            retries: *retries,
            ..HealthConfig::default()
        },
    }
}
