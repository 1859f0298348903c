//! The command line as a whole: a build, whose flags need no word before them, and the sub-commands.

use std::any::TypeId;

use clap::{Args as _, Command, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use super::flags::BuildFlags;
use super::flags::warmer::WarmerFlags;
use super::lint::LintFlags;
use super::login::LoginFlags;
use super::prune::PruneFlags;
use super::push::PushFlags;
use super::values;

/// The program.
const PROGRAM: &str = "crabwright";
/// The sub-command that is also a program of kaniko's.
pub(crate) const WARMER: &str = "warmer";

const NOTES: &str = "\
A boolean flag may be given as --flag, --flag=true or --flag=false.

Environment:
  KANIKO_DIR         Default of --work-dir
  KANIKO_NO_PUSH     true or false; default of --no-push
  SOURCE_DATE_EPOCH  Seconds since 1970: the time of the image's configuration; also a build argument
  DOCKER_CONFIG      Directory with the config.json that holds the registries' credentials
  DOCKER_AUTH_CONFIG The content of such a file
  KANIKO_<HOST>_USER, KANIKO_<HOST>_PASSWORD
                     Credentials for a registry, such as KANIKO_REG_EXAMPLE_COM_USER
  KANIKO_REGISTRY_MIRROR, KANIKO_REGISTRY_MAP
                     An additional --registry-mirror, --registry-map
  S3_ENDPOINT, S3_FORCE_PATH_STYLE, AWS_*
                     The service of an s3:// context, and its credentials
  GOOGLE_APPLICATION_CREDENTIALS
                     The file with the credentials for a gs:// context
  AZURE_STORAGE_ACCESS_KEY, AZURE_STORAGE_SAS_TOKEN
                     Credentials for a context that is an Azure blob
  GIT_TOKEN, GIT_USERNAME, GIT_PASSWORD, GIT_PULL_METHOD
                     Credentials for a context that is a repository; https or http for git://

Exit status:
  0            The image is complete, or a check has found nothing
  128+NUMBER   Stopped by that signal: 143 for SIGTERM
  any other    That of the command if a RUN fails, 1 for everything else";

/// Builds a container image from a Dockerfile, without a daemon and without privileges, and pushes it to a registry.
#[derive(Debug, Clone, Parser)]
#[command(
    name = PROGRAM,
    version,
    propagate_version = true,
    args_override_self = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    override_usage = "crabwright --destination <IMAGE> [FLAGS]\n       crabwright --no-push [FLAGS]\n       \
                      crabwright <COMMAND>",
    after_help = NOTES
)]
pub(crate) struct CommandLine {
    /// What is done instead of a build.
    #[command(subcommand)]
    pub(crate) command: Option<SubCommand>,

    /// The flags of a build.
    #[command(flatten)]
    pub(crate) build: BuildFlags,
}

/// A sub-command with its flags.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum SubCommand {
    Lint(Box<LintFlags>),
    Push(Box<PushFlags>),
    Warmer(Box<WarmerFlags>),
    Cache(CacheCommand),
    Login(LoginFlags),
    /// Print a completion script for a shell.
    #[command(override_usage = "crabwright completion <SHELL>")]
    Completion {
        /// The shell.
        #[arg(value_name = "SHELL", value_enum)]
        shell: Shell,
    },
    /// Print the version.
    Version,
    /// Print this help, or that of a command.
    #[command(override_usage = "crabwright help [COMMAND]...")]
    Help {
        /// The command.
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
    },
}

/// Delete expired layers from a cache (cache prune).
#[derive(Debug, Clone, clap::Args)]
#[command(override_usage = "crabwright cache prune --cache-repo <REPOSITORY> [FLAGS]")]
pub(crate) struct CacheCommand {
    /// What is done with the cache.
    #[command(subcommand)]
    pub(crate) command: CacheSubCommand,
}

/// A sub-command of `cache`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CacheSubCommand {
    Prune(Box<PruneFlags>),
    /// Print this help.
    Help,
}

/// Returns the parser of the program.
pub fn command() -> Command {
    with_booleans(CommandLine::command())
}

/// Returns the parser of `warmer` as a program of its own, as kaniko has it.
pub(crate) fn warmer_program() -> Command {
    let command = WarmerFlags::augment_args(Command::new(WARMER)).version(env!("CARGO_PKG_VERSION"));
    with_booleans(command.args_override_self(true).max_term_width(100))
}

/// Returns the parsers of the program and of every sub-command that has no sub-commands itself: the reference of flags
/// and the man page are generated from them. Their full name is `get_bin_name`.
pub fn all_commands() -> Vec<Command> {
    fn add_leaves(command: &Command, leaves: &mut Vec<Command>) {
        for word in command.get_subcommands().filter(|word| word.get_name() != "help") {
            match word.has_subcommands() {
                true => add_leaves(word, leaves),
                false => leaves.push(word.clone()),
            }
        }
    }
    let mut program = command();
    program.build();
    let mut all = vec![program.clone()];
    add_leaves(&program, &mut all);
    all
}

/// Returns the text of `version`.
pub(crate) fn version() -> String {
    command().render_version()
}

/// Returns the completion script of a shell for the program under the name by which it was started.
pub(crate) fn completion(shell: Shell, program: &str) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), program, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Accepts boolean flags as --flag, --flag=true and --flag=false.
fn with_booleans(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        if arg.get_value_parser().type_id() != TypeId::of::<bool>() {
            return arg;
        }
        arg.value_parser(values::boolean)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("true|false")
    });
    command.mut_subcommands(with_booleans)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        command().debug_assert();
        warmer_program().debug_assert();
    }

    #[test]
    fn every_sub_command_has_one_line_of_help() {
        let command = command();
        let words: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        assert_eq!(words, ["lint", "push", "warmer", "cache", "login", "completion", "version", "help"]);
        for word in command.get_subcommands() {
            let about = word.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && about.len() < 80 && !about.contains('\n'), "{}: {about}", word.get_name());
        }
    }

    #[test]
    fn every_shell_gets_a_script_for_the_name_it_knows() {
        for shell in Shell::value_variants() {
            let script = completion(*shell, "executor");
            for word in ["executor", "dockerfile", "no-push", "completion", "prune", "offline"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
