//! The command line to what it asks for, with errors in the words of the flags.

use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::FromArgMatches as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::commands;
use super::flags::{self, Flags, LoginFlags, Word};
use super::prune::{self, PruneFlags};
use super::warmer::{self, WarmerFlags};
use crate::diag;
use crate::diag::Hint;

/// The sub-command that checks a Dockerfile.
const LINT: &str = "lint";
/// The sub-command that pushes what an earlier build wrote.
const PUSH: &str = "push";
/// The sub-command that prints what a shell needs.
const COMPLETION: &str = "completion";
/// The sub-command that is about the cache, and the only thing it does.
const CACHE: &str = "cache";
const PRUNE: &str = "prune";
/// The sub-command that fills a directory with base images.
const WARMER: &str = "warmer";

/// What a command line asks for.
#[derive(Debug, Clone)]
pub enum Invocation {
    /// A build, or what [`Flags::call`] asks for instead.
    Build(Box<Flags>),
    /// A cache to be cleaned up.
    Prune(Box<PruneFlags>),
    /// Base images to be fetched, and a build that reads a Dockerfile for them.
    Warm(Box<WarmerFlags>, Box<Flags>),
    /// Credentials to be kept.
    Login(Box<LoginFlags>),
    /// The push of an archive or a layout, with the flags of a build that say how.
    Push(Box<Flags>, PathBuf),
    /// A text on standard output: help, version or a completion script.
    Print(String),
}

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
    /// A flag that only a build has.
    #[error("{command} has no flag {flag}: nothing is built")]
    NotForCommand {
        /// The sub-command.
        command: &'static str,
        /// The flag.
        flag: String,
    },
    /// A push of nothing.
    #[error("push needs the path of an archive or an OCI layout: crabwright push PATH --destination IMAGE")]
    NoPath,
    /// A push under no name.
    #[error("push needs a name to push under: --destination IMAGE")]
    NoName,
    /// Another shell, or none.
    #[error("completion needs the name of a shell: {}", commands::SHELLS.join(", "))]
    Shell,
    /// `cache` and something else than `prune`.
    #[error("cache {}: the command is crabwright cache prune --cache-repo REPOSITORY", word.as_deref().map_or_else(|| "needs a word more".to_owned(), |word| format!("has no command {word}")))]
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
            Self::UnknownFlag { .. } => Some("crabwright --help lists the flags".to_owned()),
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

/// Reads a command line, the program's name first.
///
/// # Errors
/// The first thing that is not understood.
pub fn parse(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Invocation, UsageError> {
    let mut arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    if warmer::is_called_so(arguments.first()) {
        return parse_warmer(arguments);
    }
    match arguments.get(1).and_then(|word| word.to_str()) {
        Some(WARMER) => {
            arguments.remove(1);
            return parse_warmer(arguments);
        }
        Some(LINT) => {
            arguments.remove(1);
            return parse_lint(arguments);
        }
        Some(PUSH) => {
            arguments.remove(1);
            return parse_push(arguments);
        }
        Some(COMPLETION) => return completion(&arguments),
        _ => {}
    }
    if arguments.get(1).is_some_and(|word| word == CACHE) {
        arguments.remove(1);
        return parse_cache(arguments);
    }
    let mut command = flags::command();
    let parsed = command.try_get_matches_from_mut(arguments).and_then(|matches| flags::from_matches(&matches));
    let mut flags = match parsed {
        Ok(flags) => flags,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Invocation::Print(error.render().to_string()));
        }
        Err(error) => return Err(explain(&error, &command)),
    };
    match flags.command.take() {
        None => Ok(Invocation::Build(Box::new(flags))),
        Some(Word::Login(flags)) => Ok(Invocation::Login(Box::new(flags))),
        Some(Word::Version) => Ok(Invocation::Print(command.render_version())),
        Some(Word::Help) => Ok(Invocation::Print(command.render_long_help().to_string())),
        Some(Word::Other(words)) => Err(unknown_command(words.into_iter().next().unwrap_or_default())),
    }
}

/// Reads the command line of `warmer`, without that word.
fn parse_warmer(arguments: Vec<OsString>) -> Result<Invocation, UsageError> {
    let mut command = warmer::command();
    match warmer::parse(&mut command, arguments) {
        Ok((flags, build)) => Ok(Invocation::Warm(Box::new(flags), Box::new(build))),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Ok(Invocation::Print(error.render().to_string()))
        }
        Err(error) => Err(explain(&error, &command)),
    }
}

/// Reads the command line of `cache`, from which that word is taken away.
fn parse_cache(mut arguments: Vec<OsString>) -> Result<Invocation, UsageError> {
    let mut command = prune::command();
    match arguments.get(1).map(|word| word.to_string_lossy().into_owned()).as_deref() {
        Some(PRUNE) => drop(arguments.remove(1)),
        Some("help" | "-h" | "--help") => {
            return Ok(Invocation::Print(command.render_long_help().to_string()));
        }
        word => return Err(UsageError::NotForCache { word: word.map(str::to_owned) }),
    }
    match prune::parse(&mut command, arguments) {
        Ok(flags) => Ok(Invocation::Prune(Box::new(flags))),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Ok(Invocation::Print(error.render().to_string()))
        }
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            Err(UsageError::NoValue { flag: "--cache-repo".to_owned() })
        }
        Err(error) => Err(explain(&error, &command)),
    }
}

/// Reads the command line of `lint`, from which that word is taken away.
fn parse_lint(arguments: Vec<OsString>) -> Result<Invocation, UsageError> {
    let mut command = commands::lint_command();
    let parsed = command.try_get_matches_from_mut(arguments);
    let flags = parsed.and_then(|matches| match commands::not_for_lint(&matches) {
        Some(flag) => Ok(Err(flag)),
        None => commands::lint_flags(&matches).map(Ok),
    });
    match flags {
        Ok(Ok(mut flags)) => match flags.command.take() {
            None => Ok(Invocation::Build(Box::new(flags))),
            Some(Word::Help) => Ok(Invocation::Print(command.render_long_help().to_string())),
            Some(Word::Version) => Ok(Invocation::Print(flags::command().render_version())),
            Some(Word::Login(_)) => Err(UsageError::LateCommand { word: "login".to_owned() }),
            Some(Word::Other(words)) => Err(unknown_command(words.into_iter().next().unwrap_or_default())),
        },
        Ok(Err(flag)) => Err(UsageError::NotForCommand { command: LINT, flag }),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Ok(Invocation::Print(error.render().to_string()))
        }
        Err(error) => Err(explain(&error, &command)),
    }
}

/// Reads the command line of `push`, from which that word is taken away.
fn parse_push(arguments: Vec<OsString>) -> Result<Invocation, UsageError> {
    let mut command = commands::push_command();
    let matches = match command.try_get_matches_from_mut(arguments) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Invocation::Print(error.render().to_string()));
        }
        Err(error) => return Err(explain(&error, &command)),
    };
    if let Some(flag) = commands::not_for_push(&matches) {
        return Err(UsageError::NotForCommand { command: PUSH, flag });
    }
    let path = matches.get_one::<PathBuf>("path").cloned().ok_or(UsageError::NoPath)?;
    let mut flags = Flags::from_arg_matches(&matches).map_err(|error| explain(&error, &command))?;
    match flags.command.take() {
        None => {}
        Some(Word::Other(words)) => return Err(unknown_command(words.into_iter().next().unwrap_or_default())),
        Some(Word::Version | Word::Help | Word::Login(_)) => return Err(UsageError::NoPath),
    }
    if flags.destination.is_empty() {
        return Err(UsageError::NoName);
    }
    // A variable that keeps builds from pushing is not about this.
    flags.outputs.no_push = Some(false);
    Ok(Invocation::Push(Box::new(flags), path))
}

/// The words after `completion`, and the program's name before it.
fn completion(arguments: &[OsString]) -> Result<Invocation, UsageError> {
    let program = arguments.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    let shell = match arguments.get(2..).unwrap_or_default() {
        [shell] => shell.to_str().ok_or(UsageError::Shell)?,
        _ => return Err(UsageError::Shell),
    };
    let script = commands::completion(shell, program.unwrap_or("crabwright")).ok_or(UsageError::Shell)?;
    Ok(Invocation::Print(script))
}

fn unknown_command(word: String) -> UsageError {
    if [LINT, PUSH, COMPLETION, CACHE, WARMER].contains(&word.as_str()) {
        return UsageError::LateCommand { word };
    }
    if flags::boolean(&word).is_ok() {
        return UsageError::DetachedBoolean { word };
    }
    let suggestion = diag::suggest(&word, ["login", "version", "help", LINT, PUSH, COMPLETION, CACHE, WARMER]);
    UsageError::UnknownCommand { word, suggestion }
}

/// The same error in our words: the parser's own are a paragraph with a usage line, and know nothing of kaniko.
fn explain(error: &clap::Error, command: &clap::Command) -> UsageError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let flag = || text(ContextKind::InvalidArg).map(|shown| typed(&shown)).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => match flag() {
            word if word.starts_with('-') => unknown_flag(word, command),
            word => unknown_command(word),
        },
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            let allowed = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(words)) => words.as_slice(),
                _ => &[],
            };
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

/// `--flag <VALUE>` and `--flag[=<VALUE>]`, as the parser shows a flag, to `--flag`.
fn typed(shown: &str) -> String {
    let end = shown.find([' ', '=', '[', '<']).unwrap_or(shown.len());
    shown[..end].to_owned()
}

fn unknown_flag(flag: String, command: &clap::Command) -> UsageError {
    let ours = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .flat_map(|arg| arg.get_long_and_visible_aliases().unwrap_or_default())
        .chain(["help", "version"]);
    let suggestion = flag.strip_prefix("--").and_then(|name| diag::suggest(name, ours)).map(|name| format!("--{name}"));
    UsageError::UnknownFlag { flag, suggestion }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, String> {
        parse(std::iter::once("crabwright").chain(line.split(' ').filter(|word| !word.is_empty())))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (line, message) in [
            ("--destinaton x", "unknown flag: --destinaton (did you mean --destination?)"),
            ("--Destination=x", "unknown flag: --Destination (did you mean --destination?)"),
            ("--cach-dir x", "unknown flag: --cach-dir (did you mean --cache-dir?)"),
            ("--frobnicate", "unknown flag: --frobnicate"),
            ("-x", "unknown flag: -x"),
            ("--cache=maybe", "--cache cannot be \"maybe\": expected true or false"),
            ("--kaniko-dr=/k", "unknown flag: --kaniko-dr (did you mean --kaniko-dir?)"),
            ("--destination", "--destination needs a value"),
            ("-d", "--destination needs a value"),
            ("--dockerfile --no-push", "--dockerfile needs a value"),
            ("--snapshot-mode fast", "--snapshot-mode cannot be \"fast\": expected full, redo, time"),
            (
                "--snapshot-mode ful",
                "--snapshot-mode cannot be \"ful\": expected full, redo, time (did you mean full?)",
            ),
            ("--snapshot-mode=", "--snapshot-mode needs a value"),
            ("--isolation chroot", "--isolation cannot be \"chroot\": expected auto, namespace, own-root"),
            ("-v loud", "--verbosity cannot be \"loud\": expected trace, debug, info, warn, error, fatal, panic"),
            ("--force=maybe", "--force cannot be \"maybe\": expected true or false"),
            ("--force=", "--force cannot be \"\": expected true or false"),
            (
                "--no-push false",
                "unexpected word: false (a flag that is on or off takes its value with '=': --no-push=false)",
            ),
            ("logn registry", "unknown command: logn (did you mean login?)"),
            ("push", "push needs the path of an archive or an OCI layout: crabwright push PATH --destination IMAGE"),
            ("push a.tar", "push needs a name to push under: --destination IMAGE"),
            ("push a.tar --no-push", "push has no flag --no-push: nothing is built"),
            ("push a.tar --target x", "push has no flag --target: nothing is built"),
            ("push a.tar --frob", "unknown flag: --frob"),
            ("push a.tar b.tar", "unknown command: b.tar"),
            ("-v debug push a.tar", "push is a command, and must come first: crabwright push [FLAGS]"),
            ("completion", "completion needs the name of a shell: bash, elvish, fish, powershell, zsh"),
            ("completion tcsh", "completion needs the name of a shell: bash, elvish, fish, powershell, zsh"),
            ("-v debug warmer", "warmer is a command, and must come first: crabwright warmer [FLAGS]"),
            ("warmer --imag x", "unknown flag: --imag (did you mean --image?)"),
            ("warmer --no-push", "unknown flag: --no-push"),
            ("versoin", "unknown command: versoin (did you mean version?)"),
            ("-d x .", "unknown command: ."),
            ("help me", "unknown command: me"),
            ("lnit", "unknown command: lnit (did you mean lint?)"),
            ("-v debug lint", "lint is a command, and must come first: crabwright lint [FLAGS]"),
            ("lint --no-push", "lint has no flag --no-push: nothing is built"),
            ("lint -d r/app", "lint has no flag --destination: nothing is built"),
            ("lint --format xml", "--format cannot be \"xml\": expected text, json"),
            ("lint --offlin", "unknown flag: --offlin (did you mean --offline?)"),
            ("lint --cache", "lint has no flag --cache: nothing is built"),
            ("lint .", "unknown command: ."),
            ("cache", "cache needs a word more: the command is crabwright cache prune --cache-repo REPOSITORY"),
            (
                "cache purge",
                "cache has no command purge: the command is crabwright cache prune --cache-repo REPOSITORY",
            ),
            ("cache prune", "--cache-repo needs a value"),
            ("cache prune --cache-repo c --kep 1", "unknown flag: --kep (did you mean --keep?)"),
            (
                "cache prune --cache-repo c --cache-ttl 2w",
                "--cache-ttl cannot be \"2w\": time: unknown unit \"w\" in duration \"2w\"",
            ),
            (
                "--call lint",
                "--call cannot be \"lint\": expected build, check, outline or targets, and then ,format=text or ,format=json",
            ),
        ] {
            match parsed(line) {
                Err(error) => assert_eq!(error, message, "{line}"),
                Ok(other) => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_push_has_a_path_and_flags() {
        match parsed("push -d r/a:1 a.tar --insecure -d r/b") {
            Ok(Invocation::Push(flags, path)) => {
                assert_eq!(path, PathBuf::from("a.tar"));
                assert_eq!(flags.destination, ["r/a:1", "r/b"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn help_and_version_are_texts() {
        for line in ["version", "--version", "-V"] {
            assert!(matches!(parsed(line), Ok(Invocation::Print(text)) if text.starts_with("crabwright ")), "{line}");
        }
        for line in ["help", "--help", "-h", "--no-push --help", "push --help"] {
            assert!(matches!(parsed(line), Ok(Invocation::Print(text)) if text.contains("--destination")), "{line}");
        }
    }
}
