//! What is wrong with a command line, in words of ours: the parser's own are a paragraph with a usage line, and know
//! nothing of kaniko.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, ValueEnum as _};
use clap_complete::Shell;

use super::values;
use crate::diag::{self, Hint};

/// Sub-commands that are accepted after flags, as kaniko accepts them: their work does not depend on any.
const AFTER_FLAGS: [&str; 3] = ["login", "version", "help"];

/// A command line that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// There is no such flag.
    #[error("unknown flag: {flag}{}", did_you_mean(.suggestion.as_deref()))]
    UnknownFlag {
        /// As typed, without the value.
        flag: String,
        /// A flag that may have been meant, with dashes.
        suggestion: Option<String>,
        /// The command that was typed, with the program's name.
        command: String,
    },
    /// A word where only flags are expected, and no sub-command.
    #[error("unknown command: {word}{}", did_you_mean(.suggestion.as_deref()))]
    UnknownCommand {
        /// As typed.
        word: String,
        /// A command that may have been meant.
        suggestion: Option<String>,
    },
    /// `--flag true` instead of `--flag=true`.
    #[error("unexpected word: {word} (a flag that is on or off takes its value with '=': --no-push={word})")]
    DetachedBoolean {
        /// `true` or `false`.
        word: String,
    },
    /// A flag of a build, with a sub-command that does not have it.
    #[error("{command} has no flag {flag}: nothing is built")]
    NotForCommand {
        /// The sub-command.
        command: String,
        /// The flag.
        flag: String,
    },
    /// A push of nothing.
    #[error("push needs the path of an archive or an OCI layout: crabwright push PATH --destination IMAGE")]
    NoPath,
    /// A push under no name.
    #[error("push needs a name to push under: --destination IMAGE")]
    NoName,
    /// A script for no shell.
    #[error("completion needs the name of a shell: {}", shells())]
    NoShell,
    /// `cache`, and not `prune`.
    #[error(
        "cache {}: the command is crabwright cache prune --cache-repo REPOSITORY",
        word.as_deref().map_or_else(|| "needs a command".to_owned(), |word| format!("has no command {word}"))
    )]
    NotForCache {
        /// The word, if there is one.
        word: Option<String>,
    },
    /// A sub-command that is not the first word.
    #[error("{word} is a command, and must come first: crabwright {word} [FLAGS]")]
    LateCommand {
        /// Its name.
        word: String,
    },
    /// The flag needs a value and has none.
    #[error("{flag} needs a value")]
    NoValue {
        /// The flag.
        flag: String,
    },
    /// The flag does not take this value.
    #[error("{flag} cannot be {value:?}: {reason}{}", did_you_mean(.suggestion.as_deref()))]
    Value {
        /// The flag.
        flag: String,
        /// The value as typed.
        value: String,
        /// What it should have been.
        reason: String,
        /// A value that may have been meant.
        suggestion: Option<String>,
    },
    /// Anything else the parser has to say.
    #[error("{0}")]
    Other(String),
}

impl Hint for UsageError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownFlag { command, .. } => Some(format!("{command} --help lists the flags")),
            Self::UnknownCommand { .. } => {
                Some("a build takes flags only, its context is named with --context".to_owned())
            }
            _ => None,
        }
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|word| format!(" (did you mean {word}?)")).unwrap_or_default()
}

fn shells() -> String {
    Shell::value_variants().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns the error for flags of a build before a sub-command, which would not apply to it.
pub(crate) fn late_command(matches: &ArgMatches) -> Option<UsageError> {
    let word = matches.subcommand_name().filter(|word| !AFTER_FLAGS.contains(word))?;
    let is_typed = |id: &clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    matches.ids().any(is_typed).then(|| UsageError::LateCommand { word: word.to_owned() })
}

/// Returns the error for a word that is not a sub-command of the program.
pub(crate) fn unknown_command(word: String, program: &Command) -> UsageError {
    if program.find_subcommand(&word).is_some() {
        return UsageError::LateCommand { word };
    }
    if values::boolean(&word).is_ok() {
        return UsageError::DetachedBoolean { word };
    }
    let suggestion = diag::suggest(&word, program.get_subcommands().map(Command::get_name));
    UsageError::UnknownCommand { word, suggestion }
}

/// Returns the parser's error about `arguments` in words of ours.
pub(crate) fn explain(error: &clap::Error, program: &Command, arguments: &[OsString]) -> UsageError {
    // The parser does not say in which sub-command it failed. What it understood before that does.
    let understood = program.clone().ignore_errors(true).try_get_matches_from(arguments);
    let understood = understood.unwrap_or_default();
    if let Some(late) = late_command(&understood) {
        return late;
    }
    let words = words(&understood);
    let command = words.iter().try_fold(program, |command, word| command.find_subcommand(word)).unwrap_or(program);
    let flag = || text(error, ContextKind::InvalidArg).map(|shown| name(&shown)).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => match flag() {
            word if word.starts_with('-') => unknown_flag(word, &words.join(" "), command, program),
            word => unknown_command(word, program),
        },
        ErrorKind::InvalidSubcommand => {
            let word = text(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            match command.get_name() {
                "cache" => UsageError::NotForCache { word: Some(word) },
                _ => unknown_command(word, program),
            }
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            UsageError::NotForCache { word: None }
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = texts(error, ContextKind::InvalidArg);
            let is_word = missing.iter().any(|shown| shown.starts_with('<'));
            match (command.get_name(), is_word) {
                ("push", true) => UsageError::NoPath,
                ("push", false) => UsageError::NoName,
                ("completion", _) => UsageError::NoShell,
                _ => UsageError::NoValue { flag: missing.first().map(|shown| name(shown)).unwrap_or_default() },
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
            let allowed = texts(error, ContextKind::ValidValue);
            let cause = error.source().map(ToString::to_string);
            match cause.or_else(|| (!allowed.is_empty()).then(|| format!("expected {}", allowed.join(", ")))) {
                Some(reason) if !value.is_empty() || allowed.is_empty() => {
                    let suggestion = diag::suggest(&value, allowed.iter().map(String::as_str));
                    UsageError::Value { flag: flag(), value, reason, suggestion }
                }
                _ => UsageError::NoValue { flag: flag() },
            }
        }
        ErrorKind::InvalidUtf8 => UsageError::Other("an argument is not valid UTF-8".to_owned()),
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.lines().next().unwrap_or_default();
            UsageError::Other(first.trim_start_matches("error: ").to_owned())
        }
    }
}

/// Returns the words of the sub-command that was typed, such as `cache` and `prune`.
fn words(matches: &ArgMatches) -> Vec<&str> {
    std::iter::successors(matches.subcommand(), |(_, inner)| inner.subcommand()).map(|(word, _)| word).collect()
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    }
}

fn texts(error: &clap::Error, kind: ContextKind) -> &[String] {
    match error.get(kind) {
        Some(ContextValue::Strings(texts)) => texts,
        _ => &[],
    }
}

/// Returns the name of a flag or a word that the parser shows as `--flag <VALUE>`, `--flag[=<VALUE>]` or `<WORD>`.
fn name(shown: &str) -> String {
    if let Some(word) = shown.strip_prefix('<') {
        return word.trim_end_matches(['>', '.']).to_owned();
    }
    let end = shown.find([' ', '=', '[', '<']).unwrap_or(shown.len());
    shown[..end].to_owned()
}

fn unknown_flag(flag: String, words: &str, command: &Command, program: &Command) -> UsageError {
    if !words.is_empty()
        && let Some(flag) = long_name(&flag, program)
    {
        return UsageError::NotForCommand { command: words.to_owned(), flag };
    }
    let ours = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .flat_map(|arg| arg.get_long_and_visible_aliases().unwrap_or_default())
        .chain(["help", "version"]);
    let suggestion = flag.strip_prefix("--").and_then(|name| diag::suggest(name, ours)).map(|name| format!("--{name}"));
    let command = format!("{} {words}", program.get_name()).trim_end().to_owned();
    UsageError::UnknownFlag { flag, suggestion, command }
}

/// Returns `--name` of a flag that the command has in this spelling.
fn long_name(flag: &str, command: &Command) -> Option<String> {
    let has_spelling = |arg: &&clap::Arg| match flag.strip_prefix("--") {
        Some(name) => arg.get_long_and_visible_aliases().unwrap_or_default().contains(&name),
        None => arg.get_short().is_some_and(|letter| flag.strip_prefix('-') == Some(letter.to_string().as_str())),
    };
    let long = command.get_arguments().find(has_spelling).and_then(clap::Arg::get_long);
    long.map(|name| format!("--{name}"))
}
