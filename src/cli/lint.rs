//! `crabwright lint`: reports what is wrong with a Dockerfile, without building it.

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use clap::{ArgAction, Args};

use super::env::Env;
use super::flags::context::ContextFlags;
use super::flags::dockerfile::DockerfileFlags;
use super::flags::log::LogFlags;
use super::flags::registry::{PullRegistryFlags, RegistryFlags, RegistryHostFlags};
use super::flags::secret::SecretFlags;
use super::request::{RequestError, inputs, read_only};
use crate::builder::{Format, Question, QuestionRequest};

const NOTES: &str = "\
The rules are those of docker build --check: https://docs.docker.com/reference/build-checks/
A Dockerfile selects rules on its first lines, or for one instruction directly above it:

  # check=skip=RULE,RULE;experimental=RULE

The build argument BUILDKIT_DOCKERFILE_CHECK replaces the first lines.
Registries are asked for the configuration of base images, which names the variables that are set.

Exit status:
  0  Nothing was found
  1  There is a warning, or an error that prevents a build";

/// Check a Dockerfile, without building it.
///
/// Reports what is wrong with it, or could be written better.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "crabwright lint [FLAGS]", after_help = NOTES)]
pub struct LintFlags {
    /// The Dockerfile and its arguments.
    #[command(flatten)]
    pub dockerfile: DockerfileFlags,

    /// The stage to check, with those it needs; every stage if not given.
    #[arg(long, value_name = "STAGE", value_delimiter = ',', action = ArgAction::Append, help_heading = "Input")]
    pub target: Vec<String>,

    /// The build context, and named contexts.
    #[command(flatten)]
    pub context: ContextFlags,

    /// How the answer is written: text or json.
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(["text", "json"]).map(|word| format(&word)),
        help_heading = "Output"
    )]
    pub format: Format,

    /// Ask no registry; variables of base images are then unknown.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Registries")]
    pub offline: bool,

    /// How base images are read.
    #[command(flatten)]
    pub pull: PullRegistryFlags,

    /// Named registries, and credentials.
    #[command(flatten)]
    pub hosts: RegistryHostFlags,

    /// The log and the progress output.
    #[command(flatten)]
    pub log: LogFlags,
}

fn format(word: &str) -> Format {
    if word == "json" { Format::Json } else { Format::Text }
}

/// Returns the request of the flags.
///
/// # Errors
/// A value is not valid.
pub fn lint_request(flags: LintFlags, env: Env<'_>) -> Result<QuestionRequest, RequestError> {
    let LintFlags { dockerfile, target, context, format, offline, pull, hosts, log: _ } = flags;
    let registries = RegistryFlags { pull, hosts, ..RegistryFlags::default() };
    let arguments = dockerfile.clone();
    let inputs = inputs(dockerfile, &context, &SecretFlags::default(), env)?;
    let build = read_only(inputs, &arguments, &target, registries, env)?;
    Ok(QuestionRequest { question: Question::Check, format, offline, build })
}
