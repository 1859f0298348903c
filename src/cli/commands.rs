//! The sub-commands whose flags are some of a build's: `lint` and `push`; and `completion`.

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::flags::{Called, Flags, command, path};
use crate::builder::{Format, Question};

/// The flags that `lint` shares with a build.
const LINT_FLAGS: &[&str] = &[
    "dockerfile",
    "context",
    "context_sub_path",
    "bucket",
    "git",
    "context_max_size",
    "context_max_entries",
    "build_context",
    "build_arg",
    "target",
    "custom_platform",
    "insecure_pull",
    "insecure_registry",
    "skip_tls_verify_pull",
    "skip_tls_verify_registry",
    "registry_certificate",
    "registry_client_cert",
    "registry_map",
    "registry_mirror",
    "skip_default_registry_fallback",
    "image_download_retry",
    "credential_helpers",
    "azure_container_registry_config",
    "verbosity",
    "log_format",
    "log_timestamp",
    "progress",
];

const LINT_HELP: &str = "\
The rules are those of docker build --check: https://docs.docker.com/reference/build-checks/
A Dockerfile selects rules on its first lines, or for one instruction directly above it:

  # check=skip=RULE,RULE;experimental=RULE

The build argument BUILDKIT_DOCKERFILE_CHECK replaces the first lines.
Registries are asked for the configuration of base images, which names the variables that are set.

Exit status:
  0  Nothing was found
  1  There is a warning, or an error that prevents a build";

/// The parser of `crabwright lint`: a build's, of which [`not_for_lint`] names the flags that have no meaning here.
pub(super) fn lint_command() -> Command {
    command()
        .mut_args(|arg| if is_for_lint(&arg) { arg } else { arg.hide(true) })
        .mut_arg("target", |arg| {
            arg.help("The stage to check, with those it needs; every stage if not given").long_help(None)
        })
        .mut_subcommands(|word| word.hide(true))
        .name("crabwright lint")
        .about("Reports what is wrong with a Dockerfile, or could be written better, without building it.")
        .override_usage("crabwright lint [FLAGS]")
        .after_help(LINT_HELP)
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .help("text or json")
                .default_value("text")
                .hide_possible_values(true)
                .value_parser(PossibleValuesParser::new(["text", "json"]))
                .help_heading("Output"),
        )
        .arg(
            Arg::new("offline")
                .long("offline")
                .help("Ask no registry; variables of base images are then unknown")
                .action(ArgAction::SetTrue)
                .help_heading("Registries"),
        )
}

/// Returns a flag of a build that `lint` does not have, if one was given.
pub(super) fn not_for_lint(matches: &ArgMatches) -> Option<String> {
    stray(matches, is_for_lint)
}

fn is_for_lint(flag: &Arg) -> bool {
    LINT_FLAGS.contains(&flag.get_id().as_str())
}

/// Returns a flag of a build on this command line that the sub-command does not have.
fn stray(matches: &ArgMatches, is_wanted: impl Fn(&Arg) -> bool) -> Option<String> {
    let given = |flag: &&Arg| matches.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine);
    let command = command();
    let strays = command.get_arguments().filter(|flag| !is_wanted(flag));
    strays.filter(given).find_map(|flag| flag.get_long().map(|name| format!("--{name}")))
}

/// Returns the flags of a build that `lint` and its own flags amount to.
pub(super) fn lint_flags(matches: &ArgMatches) -> Result<Flags, clap::Error> {
    let format = match matches.get_one::<String>("format").map(String::as_str) {
        Some("json") => Format::Json,
        _ => Format::Text,
    };
    let flags = super::flags::from_matches(matches)?;
    Ok(Flags {
        call: Called { question: Some(Question::Check), format },
        offline: matches.get_flag("offline"),
        ..flags
    })
}

/// The flags that `push` shares with a build, in addition to those of registries and messages.
const PUSH_FLAGS: &[&str] = &[
    "destination",
    "work_dir",
    "digest_file",
    "image_name_with_digest_file",
    "image_name_tag_with_digest_file",
    "metadata_file",
    "iidfile",
];

const PUSH_HELP: &str = "\
PATH is an archive with one image, written by docker save or --tar-path, or the directory of an OCI image layout with one
image. An image of a layout keeps its digest. Uncompressed layers of an archive are compressed.

Exit status:
  0  Every tag was written
  1  There was an error; no tag was written unless the message names it";

/// The parser of `crabwright push`.
pub(super) fn push_command() -> Command {
    command()
        .mut_args(|arg| if is_for_push(&arg) { arg } else { arg.hide(true) })
        .mut_arg("destination", |arg| arg.help("A name to push the image under. Repeatable").long_help(None))
        .mut_subcommands(|word| word.hide(true))
        .subcommand_negates_reqs(true)
        .name("crabwright push")
        .about("Pushes an image from a docker archive or an OCI image layout.")
        .override_usage("crabwright push <PATH> --destination <IMAGE> [FLAGS]")
        .after_help(PUSH_HELP)
        .arg(Arg::new("path").value_name("PATH").help("The archive or the layout's directory").value_parser(path()))
}

fn is_for_push(flag: &Arg) -> bool {
    PUSH_FLAGS.contains(&flag.get_id().as_str())
        || flag.get_help_heading().is_some_and(|heading| ["Registries", "Messages"].contains(&heading))
}

/// Returns a flag of a build that `push` does not have, if one was given.
pub(super) fn not_for_push(matches: &ArgMatches) -> Option<String> {
    stray(matches, is_for_push)
}

/// The shells that `completion` knows.
pub(super) const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

/// Returns the completion script of a shell for the program under the name by which it was started.
pub(super) fn completion(shell: &str, program: &str) -> Option<String> {
    let shell: clap_complete::Shell = shell.parse().ok()?;
    let mut command = command();
    for (name, about) in
        [("lint", "Check a Dockerfile"), ("push", "Push an archive or a layout"), ("completion", "Print this script")]
    {
        command = command.subcommand(Command::new(name).about(about));
    }
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, program, &mut script);
    String::from_utf8(script).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        lint_command().debug_assert();
        push_command().debug_assert();
        let command = command();
        for id in LINT_FLAGS.iter().chain(PUSH_FLAGS) {
            assert!(command.get_arguments().any(|arg| arg.get_id() == id), "{id}");
        }
    }

    #[test]
    fn help_explains_every_flag() {
        insta::assert_snapshot!("lint_help", lint_command().term_width(100).render_long_help());
        insta::assert_snapshot!("push_help", push_command().term_width(100).render_long_help());
    }

    #[test]
    fn every_shell_gets_a_script_for_the_name_it_knows() {
        for shell in SHELLS {
            let script = completion(shell, "executor").unwrap();
            for word in ["executor", "dockerfile", "no-push", "completion"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
        assert_eq!(completion("tcsh", "executor"), None);
    }
}
