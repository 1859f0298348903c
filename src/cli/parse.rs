//! The command line to what it asks for.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, FromArgMatches as _};

use super::commands::{self, CacheSubCommand, CommandLine, SubCommand, WARMER};
use super::flags::BuildFlags;
use super::flags::warmer::WarmerFlags;
use super::lint::LintFlags;
use super::login::LoginFlags;
use super::prune::PruneFlags;
use super::push::PushFlags;
use super::usage::{explain, late_command, unknown_command};

pub use super::usage::UsageError;

/// What a command line asks for.
#[derive(Debug, Clone)]
pub enum Invocation {
    /// A build, or a question about one.
    Build(Box<BuildFlags>),
    /// A check of a Dockerfile.
    Lint(Box<LintFlags>),
    /// The push of an archive or a layout.
    Push(Box<PushFlags>),
    /// Base images to be fetched.
    Warm(Box<WarmerFlags>),
    /// A cache to be pruned.
    Prune(Box<PruneFlags>),
    /// Credentials to be stored.
    Login(LoginFlags),
    /// A text on standard output: help, version or a completion script.
    Print(String),
}

/// Reads a command line, the program's name first. Under the name `warmer` the program is kaniko's of that name.
///
/// # Errors
/// The first thing that is not understood.
pub fn parse(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Invocation, UsageError> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let name = arguments.first().and_then(|program| Path::new(program).file_name()).unwrap_or_default();
    let is_warmer = name == WARMER;
    let program = if is_warmer { commands::warmer_program() } else { commands::command() };
    let parsed = program.clone().try_get_matches_from(&arguments).and_then(|matches| match is_warmer {
        true => Ok(Ok(Invocation::Warm(Box::new(WarmerFlags::from_arg_matches(&matches)?)))),
        false => invocation(&matches, &program, name),
    });
    parsed.unwrap_or_else(|error| match error.kind() {
        ErrorKind::DisplayHelp => Ok(Invocation::Print(error.render().to_string())),
        ErrorKind::DisplayVersion => Ok(Invocation::Print(commands::version())),
        _ => Err(explain(&error, &program, &arguments)),
    })
}

/// Returns what the matches ask for, or why they do not go together.
fn invocation(
    matches: &ArgMatches,
    program: &Command,
    name: &OsStr,
) -> Result<Result<Invocation, UsageError>, clap::Error> {
    if let Some(late) = late_command(matches) {
        return Ok(Err(late));
    }
    let CommandLine { command, build } = CommandLine::from_arg_matches(matches)?;
    Ok(Ok(match command {
        None => Invocation::Build(Box::new(build)),
        Some(SubCommand::Lint(flags)) => Invocation::Lint(flags),
        Some(SubCommand::Push(flags)) => Invocation::Push(flags),
        Some(SubCommand::Warmer(flags)) => Invocation::Warm(flags),
        Some(SubCommand::Cache(cache)) => match cache.command {
            CacheSubCommand::Prune(flags) => Invocation::Prune(flags),
            CacheSubCommand::Help => return Ok(help(&["cache".to_owned()], program)),
        },
        Some(SubCommand::Login(flags)) => Invocation::Login(flags),
        Some(SubCommand::Completion { shell }) => {
            Invocation::Print(commands::completion(shell, &name.to_string_lossy()))
        }
        Some(SubCommand::Version) => Invocation::Print(commands::version()),
        Some(SubCommand::Help { command }) => return Ok(help(&command, program)),
    }))
}

/// Returns the help of the program, or of the command that the words name.
fn help(words: &[String], program: &Command) -> Result<Invocation, UsageError> {
    let mut built = program.clone();
    built.build();
    let mut command = &mut built;
    for word in words {
        command = command.find_subcommand_mut(word).ok_or_else(|| unknown_command(word.clone(), program))?;
    }
    Ok(Invocation::Print(command.render_long_help().to_string()))
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
            ("completion tcsh", "SHELL cannot be \"tcsh\": expected bash, elvish, fish, powershell, zsh"),
            ("completion bash zsh", "unknown command: zsh"),
            ("-v debug warmer", "warmer is a command, and must come first: crabwright warmer [FLAGS]"),
            ("warmer --imag x", "unknown flag: --imag (did you mean --image?)"),
            ("warmer --no-push", "warmer has no flag --no-push: nothing is built"),
            ("versoin", "unknown command: versoin (did you mean version?)"),
            ("-d x .", "unknown command: ."),
            ("help me", "unknown command: me"),
            ("help lnit", "unknown command: lnit (did you mean lint?)"),
            ("lint login", "login is a command, and must come first: crabwright login [FLAGS]"),
            ("lint --kaniko-dir=/k", "lint has no flag --work-dir: nothing is built"),
            ("lint -t a", "lint has no flag --tag: nothing is built"),
            ("cache prune --no-push", "cache prune has no flag --no-push: nothing is built"),
            ("lnit", "unknown command: lnit (did you mean lint?)"),
            ("-v debug lint", "lint is a command, and must come first: crabwright lint [FLAGS]"),
            ("lint --no-push", "lint has no flag --no-push: nothing is built"),
            ("lint -d r/app", "lint has no flag --destination: nothing is built"),
            ("lint --format xml", "--format cannot be \"xml\": expected text, json"),
            ("lint --offlin", "unknown flag: --offlin (did you mean --offline?)"),
            ("lint --cache", "lint has no flag --cache: nothing is built"),
            ("lint .", "unknown command: ."),
            ("cache", "cache needs a command: the command is crabwright cache prune --cache-repo REPOSITORY"),
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
            Ok(Invocation::Push(flags)) => {
                assert_eq!(flags.path, Path::new("a.tar"));
                assert_eq!(flags.destination, ["r/a:1", "r/b"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_program_has_the_names_of_kaniko() {
        let named = |words: &[&str]| parse(words.iter().copied());
        assert!(matches!(named(&["/kaniko/executor", "--no-push"]), Ok(Invocation::Build(_))));
        assert!(matches!(named(&["executor", "version"]), Ok(Invocation::Print(_))));
        assert!(matches!(named(&["executor", "-v=debug", "login", "r", "-u=me"]), Ok(Invocation::Login(_))));
        match named(&["/kaniko/warmer", "-i", "a", "-c=/c", "-f", "--cache-ttl=1h", "--cache-ttl=2h"]) {
            Ok(Invocation::Warm(flags)) => {
                assert_eq!((flags.image.as_slice(), flags.force), (["a".to_owned()].as_slice(), true));
                assert_eq!(flags.cache_ttl.as_secs(), 7200);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            named(&["warmer", "--imag"]).unwrap_err().to_string(),
            "unknown flag: --imag (did you mean --image?)"
        );
        assert!(matches!(named(&["warmer", "-V"]), Ok(Invocation::Print(text)) if text.starts_with("crabwright ")));
    }

    #[test]
    fn help_and_version_are_texts() {
        for line in ["version", "--version", "-V", "-v debug version", "lint -V", "cache prune --version"] {
            assert!(matches!(parsed(line), Ok(Invocation::Print(text)) if text.starts_with("crabwright ")), "{line}");
        }
        for line in ["help", "--help", "-h", "--no-push --help", "push --help", "-v debug help", "help push"] {
            assert!(matches!(parsed(line), Ok(Invocation::Print(text)) if text.contains("--destination")), "{line}");
        }
    }
}
