//! Converts split arguments to typed instructions, with BuildKit's checks of each.

use std::ops::Range;

use super::ast::{ArgDefinition, Command, Copy, From, Heredoc, Instruction, KeyValue, Kind, Onbuild, Run, Word};
use super::error::Problem;
use super::expand::has_variable;
use super::flags::{FlagKind, Flags};
use super::go::go_quote;
use super::healthcheck;
use super::keyword::Keyword;
use super::mount::{MountFlag, MountProblem};
use super::statement::{Statement, split_assignment};
use super::words::Token;

const COPY_FLAGS: [(&str, FlagKind); 6] = [
    ("from", FlagKind::Value),
    ("chown", FlagKind::Value),
    ("chmod", FlagKind::Value),
    ("link", FlagKind::Bool),
    ("parents", FlagKind::Bool),
    ("exclude", FlagKind::Values),
];

const ADD_FLAGS: [(&str, FlagKind); 7] = [
    ("chown", FlagKind::Value),
    ("chmod", FlagKind::Value),
    ("link", FlagKind::Bool),
    ("keep-git-dir", FlagKind::Bool),
    ("checksum", FlagKind::Value),
    ("unpack", FlagKind::Bool),
    ("exclude", FlagKind::Values),
];

const RUN_FLAGS: [(&str, FlagKind); 4] = [
    ("mount", FlagKind::Values),
    ("network", FlagKind::Value),
    ("security", FlagKind::Value),
    ("device", FlagKind::Values),
];

/// A converted line of the file.
#[derive(Debug)]
pub(super) enum Converted {
    /// The start of a stage.
    From(Box<From>),
    /// Any other instruction.
    Kind(Box<Kind>),
}

/// A here-document, with the range of its `<<NAME` word in the logical line.
pub(super) type PlacedHeredoc = (Range<usize>, Heredoc);

/// Parses the arguments of a statement, and reports all errors in them.
///
/// `text` is the source, from which `ONBUILD` stores here-document bodies verbatim.
pub(super) fn convert(
    statement: &Statement<'_>,
    heredocs: Vec<PlacedHeredoc>,
    text: &str,
) -> Result<Converted, Vec<Problem>> {
    let converter = Converter { statement, problems: Vec::new() };
    let kind = match statement.keyword {
        Keyword::From => return converter.from().map(|from| Converted::From(Box::new(from))),
        Keyword::Healthcheck => healthcheck::convert(statement).map(Kind::Healthcheck),
        Keyword::Add => converter.copy(true, heredocs).map(Kind::Copy),
        Keyword::Copy => converter.copy(false, heredocs).map(Kind::Copy),
        Keyword::Run => converter.run(heredocs).map(Kind::Run),
        Keyword::Onbuild => converter.onbuild(&heredocs, text).map(Kind::Onbuild),
        Keyword::Arg => converter.arg().map(Kind::Arg),
        Keyword::Env => converter.pairs().map(Kind::Env),
        Keyword::Label => converter.pairs().map(Kind::Label),
        Keyword::Cmd => converter.command_only().map(Kind::Cmd),
        Keyword::Entrypoint => converter.command_only().map(Kind::Entrypoint),
        Keyword::Shell => converter.shell().map(Kind::Shell),
        Keyword::Expose => converter.expose().map(Kind::Expose),
        Keyword::Volume => converter.volume().map(Kind::Volume),
        Keyword::Maintainer => converter.one().map(Kind::Maintainer),
        Keyword::StopSignal => converter.one().map(Kind::StopSignal),
        Keyword::User => converter.one().map(Kind::User),
        Keyword::Workdir => converter.one().map(Kind::Workdir),
    };
    kind.map(|kind| Converted::Kind(Box::new(kind)))
}

struct Converter<'a> {
    statement: &'a Statement<'a>,
    problems: Vec<Problem>,
}

impl Converter<'_> {
    fn name(&self) -> &'static str {
        self.statement.keyword.name()
    }

    /// Adds a problem of the whole instruction, shown at its keyword.
    fn at_keyword(&mut self, message: impl Into<String>) -> &mut Problem {
        self.problems.push(Problem::new(self.statement.keyword_range.clone(), message));
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    fn flags(&mut self, known: &[(&'static str, FlagKind)]) -> Flags {
        Flags::check(self.statement.line, &self.statement.flags, known, &mut self.problems)
    }

    /// Returns the result, unless there were problems.
    fn finish<T>(self, result: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() { Ok(result) } else { Err(self.problems) }
    }

    fn fail<T>(mut self, problem: Problem) -> Result<T, Vec<Problem>> {
        self.problems.push(problem);
        Err(self.problems)
    }

    fn word(&self, token: &Token) -> Word {
        Word { text: token.text.clone(), span: self.statement.line.span(token.range.clone()) }
    }

    fn words(&self, tokens: &[Token]) -> Vec<Word> {
        tokens.iter().map(|token| self.word(token)).collect()
    }

    /// Returns the arguments' text as one word.
    fn text(&self) -> Word {
        self.statement.line.word(self.statement.arguments.clone())
    }

    /// Splits the arguments: a JSON array, or words between blanks.
    fn json_or_blanks(&mut self) -> Vec<Token> {
        match self.statement.json() {
            Ok(Some(tokens)) => tokens,
            Ok(None) => self.statement.blanks(),
            Err(problem) => {
                self.problems.push(problem);
                Vec::new()
            }
        }
    }

    fn command(&mut self) -> Command {
        match self.statement.json() {
            Ok(Some(tokens)) => Command::Exec(tokens.into_iter().map(|token| token.text).collect()),
            Ok(None) => Command::Shell(self.statement.text().to_owned()),
            Err(problem) => {
                self.problems.push(problem);
                Command::Exec(Vec::new())
            }
        }
    }

    /// Parses instructions whose rest of the line is one argument.
    fn one(mut self) -> Result<Word, Vec<Problem>> {
        self.flags(&[]);
        if self.statement.arguments.is_empty() {
            let name = self.name();
            self.at_keyword(format!("{name} requires exactly one argument"));
        }
        let word = self.text();
        self.finish(word)
    }

    fn command_only(mut self) -> Result<Command, Vec<Problem>> {
        self.flags(&[]);
        let command = self.command();
        self.finish(command)
    }

    fn requires_at_least_one(&mut self, hint: &str) {
        let name = self.name();
        self.at_keyword(format!("{name} requires at least one argument")).hint = Some(hint.to_owned());
    }

    fn arg(mut self) -> Result<Vec<ArgDefinition>, Vec<Problem>> {
        self.flags(&[]);
        let tokens = self.statement.quoted();
        if tokens.is_empty() {
            self.requires_at_least_one("write ARG NAME or ARG NAME=default");
        }
        let mut definitions = Vec::with_capacity(tokens.len());
        for token in &tokens {
            let (name, default) = match split_assignment(token) {
                Some((name, value)) => (self.word(&name), Some(self.word(&value))),
                None => (self.word(token), None),
            };
            if name.text.is_empty() {
                self.problems.push(Problem::new(token.range.clone(), "ARG names can not be blank"));
            }
            definitions.push(ArgDefinition { name, default });
        }
        self.finish(definitions)
    }

    fn pairs(mut self) -> Result<Vec<KeyValue>, Vec<Problem>> {
        self.flags(&[]);
        let parsed = match self.statement.pairs() {
            Ok(parsed) => parsed,
            Err(problem) => return self.fail(problem),
        };
        if parsed.pairs.is_empty() {
            let hint = format!("write {} NAME=value", self.name());
            self.requires_at_least_one(&hint);
        }
        let mut pairs = Vec::with_capacity(parsed.pairs.len());
        for (key, value) in &parsed.pairs {
            if key.text.is_empty() {
                let message = format!("{} names can not be blank", self.name());
                self.problems.push(Problem::new(key.range.start..value.range.end, message));
            }
            pairs.push(KeyValue { key: self.word(key), value: self.word(value), legacy: parsed.legacy });
        }
        self.finish(pairs)
    }

    fn expose(mut self) -> Result<Vec<Word>, Vec<Problem>> {
        self.flags(&[]);
        let words = self.words(&self.statement.blanks());
        if words.is_empty() {
            self.requires_at_least_one("write EXPOSE 80 or EXPOSE 53/udp");
        }
        self.finish(words)
    }

    fn volume(mut self) -> Result<Vec<Word>, Vec<Problem>> {
        self.flags(&[]);
        let tokens = self.json_or_blanks();
        if tokens.is_empty() && self.problems.is_empty() {
            self.requires_at_least_one("write VOLUME /path or VOLUME [\"/path\"]");
        }
        let mut words = Vec::with_capacity(tokens.len());
        for token in &tokens {
            let mut word = self.word(token);
            word.text = word.text.trim().to_owned();
            if word.text.is_empty() {
                self.problems.push(Problem::new(token.range.clone(), "VOLUME specified can not be an empty string"));
            }
            words.push(word);
        }
        self.finish(words)
    }

    fn shell(mut self) -> Result<Vec<String>, Vec<Problem>> {
        self.flags(&[]);
        if self.statement.arguments.is_empty() {
            self.requires_at_least_one(SHELL_HINT);
        }
        match self.command() {
            Command::Shell(_) if self.problems.is_empty() => {
                self.problems.push(
                    Problem::new(self.statement.arguments.clone(), "SHELL requires the arguments to be in JSON form")
                        .with_hint(SHELL_HINT),
                );
                Err(self.problems)
            }
            Command::Exec(words) => {
                if words.is_empty() && self.problems.is_empty() {
                    self.requires_at_least_one(SHELL_HINT);
                }
                self.finish(words)
            }
            Command::Shell(_) => Err(self.problems),
        }
    }

    fn run(mut self, heredocs: Vec<PlacedHeredoc>) -> Result<Run, Vec<Problem>> {
        let flags = self.flags(&RUN_FLAGS);
        for (flag, allowed, complaint) in [
            ("network", &["default", "none", "host"][..], "invalid network mode"),
            ("security", &["sandbox", "insecure"][..], "invalid security mode"),
        ] {
            if let Some((value, range)) = flags.value_and_range(flag)
                && !allowed.contains(&value.text.as_str())
            {
                self.problems.push(
                    Problem::new(range, format!("{complaint} {}", go_quote(&value.text)))
                        .with_hint(format!("--{flag} takes {}", allowed.join(", "))),
                );
            }
        }
        let run = Run {
            command: self.command(),
            heredocs: heredocs.into_iter().map(|(_, heredoc)| heredoc).collect(),
            mounts: self.mounts(&flags),
            network: flags.value("network"),
            security: flags.value("security"),
            devices: flags.values("device"),
        };
        self.finish(run)
    }

    fn mounts(&mut self, flags: &Flags) -> Vec<MountFlag> {
        let (line, escape) = (self.statement.line, self.statement.escape);
        let mut mounts = Vec::new();
        for (value, range) in flags.values_and_ranges("mount") {
            // If a quote or an escape was removed, only the complete value has a range.
            let verbatim = line.text[range.clone()] == value.text;
            let place = |field: Range<usize>| match verbatim {
                true => range.start + field.start..range.start + field.end,
                false => range.clone(),
            };
            let parsed = MountFlag::parse(&value.text, escape).and_then(|flag| match flag.has_variable(escape) {
                true => Ok(flag),
                false => match flag.resolve(&mut |word| Ok::<_, MountProblem>(word.text.clone())) {
                    Ok(_) => Ok(flag),
                    Err(problem) => Err(vec![problem]),
                },
            });
            match parsed {
                Ok(flag) => mounts.push(flag.placed(&|field| line.span(place(field)))),
                Err(problems) => {
                    self.problems.extend(problems.into_iter().map(|MountProblem { span, message, hint }| Problem {
                        range: place(span),
                        message,
                        hint,
                    }));
                }
            }
        }
        mounts
    }

    fn copy(mut self, add: bool, heredocs: Vec<PlacedHeredoc>) -> Result<Copy, Vec<Problem>> {
        let flags = if add { self.flags(&ADD_FLAGS) } else { self.flags(&COPY_FLAGS) };
        if let Some((from, range)) = flags.value_and_range("from")
            && has_variable(&from.text, self.statement.escape)
        {
            self.problems.push(
                Problem::new(range, "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround")
                    .with_hint(format!("write FROM {} AS NAME above, and --from=NAME here", from.text)),
            );
        }
        let before = self.problems.len();
        let tokens = outside_heredocs(self.json_or_blanks(), &heredocs);
        if self.problems.len() > before {
            return Err(self.problems);
        }
        let (sources, destination) = match self.split_destination(&tokens, &heredocs) {
            Ok(split) => split,
            Err(problem) => return self.fail(problem),
        };
        let copy = Copy {
            add,
            sources: self.words(sources),
            heredocs: heredocs.into_iter().map(|(_, heredoc)| heredoc).collect(),
            destination: self.word(destination),
            from: flags.value("from"),
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
            link: flags.bool("link"),
            parents: flags.bool("parents"),
            excludes: flags.values("exclude"),
            checksum: flags.value("checksum"),
            keep_git_dir: flags.bool("keep-git-dir"),
            unpack: flags.bool("unpack"),
        };
        self.finish(copy)
    }

    /// Splits sources and destination: the last word, which cannot be a here-document.
    fn split_destination<'t>(
        &self,
        tokens: &'t [Token],
        heredocs: &[PlacedHeredoc],
    ) -> Result<(&'t [Token], &'t Token), Problem> {
        let name = self.name();
        let at_keyword = |message| {
            Problem::new(self.statement.keyword_range.clone(), message)
                .with_hint(format!("write {name} SOURCE DESTINATION"))
        };
        match tokens.len() + heredocs.len() {
            0 => return Err(at_keyword(format!("{name} requires at least two arguments"))),
            1 => {
                return Err(at_keyword(format!(
                    "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
                )));
            }
            _ => {}
        }
        let last_heredoc = heredocs.last().map_or(0..0, |(range, _)| range.clone());
        match tokens.split_last() {
            Some((destination, sources)) if destination.range.start >= last_heredoc.start => Ok((sources, destination)),
            _ => Err(Problem::new(last_heredoc, format!("{name} cannot accept a heredoc as a destination"))
                .with_hint("the last word is the path to copy to")),
        }
    }

    fn onbuild(mut self, heredocs: &[PlacedHeredoc], text: &str) -> Result<Onbuild, Vec<Problem>> {
        self.flags(&[]);
        let Statement { line, escape, arguments, .. } = self.statement;
        if arguments.is_empty() {
            self.requires_at_least_one("write ONBUILD and the instruction to run later");
            return Err(self.problems);
        }
        // An unknown keyword is stored like any other, and fails when the trigger is executed.
        if let Ok(trigger) = Statement::split(line, arguments.clone(), *escape)
            && let Err(problem) = check_trigger(&trigger).and_then(|()| trigger.check_form())
        {
            self.problems.push(problem);
        }
        let mut trigger = self.statement.text().to_owned();
        for (_, heredoc) in heredocs {
            trigger.push('\n');
            trigger.push_str(&text[heredoc.body_span.clone()]);
            trigger.push_str(&heredoc.name);
        }
        self.finish(Onbuild { trigger })
    }

    fn from(mut self) -> Result<From, Vec<Problem>> {
        let flags = self.flags(&[("platform", FlagKind::Value)]);
        let tokens = self.statement.blanks();
        let (image, name, as_written) = match tokens.as_slice() {
            [image] => (image, None, None),
            [image, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => {
                (image, Some(name), Some((keyword.text.clone(), name.text.clone())))
            }
            _ => {
                let hint = match tokens.as_slice() {
                    [] => "write FROM IMAGE or FROM IMAGE AS NAME",
                    [_, keyword] if keyword.text.eq_ignore_ascii_case("as") => "the stage's name is missing after AS",
                    _ => "a stage's name follows AS: FROM IMAGE AS NAME",
                };
                let range = match (tokens.get(1), tokens.last()) {
                    (Some(first), Some(last)) => first.range.start..last.range.end,
                    _ => self.statement.keyword_range.clone(),
                };
                return self.fail(Problem::new(range, "FROM requires either one or three arguments").with_hint(hint));
            }
        };
        let image = self.word(image);
        let name = name.map(|name| {
            let mut word = self.word(name);
            word.text = word.text.to_lowercase();
            if !is_stage_name(&word.text) {
                let message = format!(
                    "invalid name for build stage: {}, name can't start with a number or contain symbols",
                    go_quote(&name.text)
                );
                self.problems.push(
                    Problem::new(name.range.clone(), message)
                        .with_hint("a name is a letter, then letters, digits, `-`, `_` and `.`"),
                );
            }
            word
        });
        let line = self.statement.line;
        let from = From {
            span: line.span(0..line.text.trim_end().len()),
            text: line.text.trim().to_owned(),
            platform: flags.value("platform"),
            image,
            name,
            as_written,
            written: self.statement.written(),
        };
        self.finish(from)
    }
}

/// The hint for `SHELL`, which has one form only.
const SHELL_HINT: &str = "write SHELL [\"/bin/sh\", \"-c\"]";

/// `^[a-z][a-z0-9-_.]*$`
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
}

/// Checks that an instruction is allowed as a trigger.
pub(super) fn check_trigger(trigger: &Statement<'_>) -> Result<(), Problem> {
    let message = match trigger.keyword {
        Keyword::Onbuild => "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
        Keyword::From | Keyword::Maintainer => {
            format!("{} isn't allowed as an ONBUILD trigger", trigger.keyword.name())
        }
        _ => return Ok(()),
    };
    Err(Problem::new(trigger.keyword_range.clone(), message))
}

/// Returns the words outside of `<<NAME` words.
fn outside_heredocs(tokens: Vec<Token>, heredocs: &[PlacedHeredoc]) -> Vec<Token> {
    tokens
        .into_iter()
        .filter(|token| {
            !heredocs.iter().any(|(range, _)| token.range.start < range.end && range.start < token.range.end)
        })
        .collect()
}

impl Instruction {
    /// Returns the keyword in capitals.
    pub fn keyword(&self) -> &'static str {
        match &self.kind {
            Kind::Copy(copy) if copy.add => "ADD",
            Kind::Copy(_) => "COPY",
            Kind::Arg(_) => "ARG",
            Kind::Cmd(_) => "CMD",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Env(_) => "ENV",
            Kind::Expose(_) => "EXPOSE",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            Kind::Label(_) => "LABEL",
            Kind::Maintainer(_) => "MAINTAINER",
            Kind::Onbuild(_) => "ONBUILD",
            Kind::Run(_) => "RUN",
            Kind::Shell(_) => "SHELL",
            Kind::StopSignal(_) => "STOPSIGNAL",
            Kind::User(_) => "USER",
            Kind::Volume(_) => "VOLUME",
            Kind::Workdir(_) => "WORKDIR",
        }
    }
}
