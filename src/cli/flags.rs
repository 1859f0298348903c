//! The flags of a build as they are typed: kaniko's names, defaults and meanings, and a few of our own.
//!
//! Nothing is looked up or checked against anything else here: [`super::request`] does that.

#![allow(rustdoc::broken_intra_doc_links, reason = "the help: brackets enclose what is optional")]

use std::any::TypeId;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser as _};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser};

use super::cache_flags::CacheFlags;
use super::cache_mount_flags::CacheMountFlags;
use super::context_flags::ContextFlags;
use super::kaniko_flags::KanikoFlags;
use super::layer_flags::LayerFlags;
use super::log_flags::LogFlags;
use super::output_flags::OutputFlags;
use super::registry_flags::RegistryFlags;
use super::snapshot_mode::{SnapshotMode, snapshot_modes};
use crate::builder::{Format, Question};
use crate::dockerfile::parse_go_bool;
use crate::image::ImageFormat;
use crate::sandbox::Isolation;

/// Builds a container image from a Dockerfile, without a daemon and without privileges, and pushes it to a registry.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "crabwright",
    version,
    args_override_self = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    override_usage = "crabwright --destination <IMAGE> [FLAGS]\n       crabwright --no-push [FLAGS]\n       \
                      crabwright lint [FLAGS]\n       crabwright login <REGISTRY> --username <USER> --password-stdin\n       \
                      crabwright push <PATH> --destination <IMAGE> [FLAGS]\n       crabwright completion <SHELL>\n       \
                      crabwright cache prune --cache-repo <REPOSITORY> [FLAGS]\n       \
                      crabwright warmer --image <IMAGE> [FLAGS]\n       \
                      crabwright version | help",
    after_help = ENVIRONMENT
)]
pub struct Flags {
    /// The Dockerfile: a path as given, else below the context; "-" for standard input; or a URL.
    ///
    /// A relative path is tried from the current directory first. Without this flag only the context is searched. A
    /// symbolic link in the context leads only to files of the context. PATH.dockerignore is used instead of
    /// .dockerignore if it exists.
    #[arg(short = 'f', long, value_name = "PATH", default_value = "Dockerfile", help_heading = "Input")]
    pub dockerfile: String,

    /// Whether the command line has `--dockerfile`.
    #[arg(skip)]
    pub dockerfile_is_named: bool,

    /// The build context: a directory, an archive, a git repository, a bucket or a URL.
    ///
    /// PATH or dir://PATH is a directory; tar://FILE an archive, tar://stdin or - one on standard input;
    /// git://HOST/REPOSITORY[#REF[#COMMIT]][:DIRECTORY], HTTPS-URL.git and SSH-URL a repository; s3://BUCKET/OBJECT,
    /// gs://BUCKET/OBJECT and the URL of an Azure blob an archive in a bucket; any other https:// URL an archive.
    #[arg(short, long, value_name = "LOCATION", default_value = "/workspace/", help_heading = "Input")]
    pub context: String,

    /// A directory inside the context to build from.
    #[arg(long, value_name = "PATH", help_heading = "Input")]
    pub context_sub_path: Option<String>,

    /// How the context is fetched.
    #[command(flatten)]
    pub context_source: ContextFlags,

    /// A directory, image, OCI layout or URL that FROM and COPY --from can name. Repeatable.
    ///
    /// LOCATION is a path, docker-image://IMAGE, oci-layout://DIRECTORY[:NAME][@DIGEST], the URL of a git repository,
    /// or an archive: tar://FILE, a URL, or an object in a bucket. NAME takes precedence over a stage or image of the
    /// same name.
    #[arg(long, value_name = "NAME=LOCATION", action = ArgAction::Append, help_heading = "Input")]
    pub build_context: Vec<String>,

    /// A secret, from a file or a variable of the environment: id=ID[,src=FILE][,env=VARIABLE]. Repeatable.
    ///
    /// With the ID alone, the source is the variable of that name, or else the file. type=file or type=env decides. A
    /// secret reaches only the steps that mount it, and never the image.
    #[arg(long, value_name = "FIELDS", action = ArgAction::Append, help_heading = "Input")]
    pub secret: Vec<String>,

    /// An SSH agent for RUN --mount=type=ssh: default, or ID[=SOCKET|KEY[,KEY...]][,raw=true]. Repeatable.
    ///
    /// Without a path, the agent at $SSH_AUTH_SOCK is used. Commands can list keys and have data signed, nothing else.
    /// Key files must not have a passphrase; crabwright holds their keys itself. raw=true forwards everything to a
    /// socket.
    #[arg(long, value_name = "AGENT", help_heading = "Input")]
    pub ssh: Vec<String>,

    /// A value for ARG; a NAME alone takes its value from the environment. Repeatable.
    ///
    /// A NAME that is not in the environment stays unset, so that the default in the Dockerfile applies.
    #[arg(
        long,
        value_name = "NAME[=VALUE]",
        allow_hyphen_values = true,
        action = ArgAction::Append,
        help_heading = "Input"
    )]
    pub build_arg: Vec<String>,

    /// The stage to build; the last one if not given. Repeatable.
    ///
    /// Of several, also separated by commas, the first becomes the image, and the others are built, too.
    #[arg(long, value_name = "STAGE", value_delimiter = ',', action = ArgAction::Append, help_heading = "Input")]
    pub target: Vec<String>,

    /// The platform of the image, such as linux/arm64; that of this machine if not given.
    ///
    /// A RUN for a foreign platform needs an emulator in the kernel (binfmt).
    #[arg(long, visible_alias = "platform", value_name = "OS/ARCHITECTURE[/VARIANT]", help_heading = "Input")]
    pub custom_platform: Option<String>,

    /// What to do: build, check, outline or targets; with ,format=json the answer is a JSON object.
    ///
    /// check reports what is wrong with the Dockerfile or could be written better, outline the arguments, secrets and
    /// caches of the target, targets the stages that can be built. Nothing is built then, and no other output is
    /// written.
    #[arg(
        long,
        value_name = "KIND[,format=FORMAT]",
        default_value = "build",
        value_parser = called,
        help_heading = "Input"
    )]
    pub call: Called,

    /// The same as --call=check.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Input")]
    pub check: bool,

    /// Of `lint` only: ask no registry.
    #[arg(skip)]
    pub offline: bool,

    /// A name for the image, such as registry:5000/team/app:1.0. Repeatable.
    ///
    /// The image is pushed under each of them. Required unless --no-push is given.
    #[arg(short, long, value_name = "IMAGE", action = ArgAction::Append, help_heading = "Output")]
    pub destination: Vec<String>,

    /// Outputs other than the push.
    #[command(flatten)]
    pub outputs: OutputFlags,

    /// A label of the image; it overrides that of the Dockerfile. Repeatable.
    #[arg(
        long,
        value_name = "KEY=VALUE",
        allow_hyphen_values = true,
        action = ArgAction::Append,
        help_heading = "Output"
    )]
    pub label: Vec<String>,

    /// An annotation of the image's manifest. Repeatable.
    #[arg(
        long,
        value_name = "KEY=VALUE",
        allow_hyphen_values = true,
        action = ArgAction::Append,
        help_heading = "Output"
    )]
    pub annotation: Vec<String>,

    /// The format of the image's manifest, whatever the base image has: oci or docker.
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "oci",
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(["oci", "docker"]).map(|word| image_format(&word)),
        help_heading = "Output"
    )]
    pub image_format: ImageFormat,

    /// Give no file of a new layer a time after SOURCE_DATE_EPOCH, or 1970 without it.
    ///
    /// The same input then gives the same digest in every sandbox and on every machine.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Output")]
    pub reproducible: bool,

    /// How registries are reached.
    #[command(flatten)]
    pub registries: RegistryFlags,

    /// How layers of earlier builds are used.
    #[command(flatten)]
    pub caching: CacheFlags,

    /// How cache mounts are exchanged between machines.
    #[command(flatten)]
    pub cache_mounts: CacheMountFlags,

    /// How RUN is isolated: auto, namespace or own-root.
    ///
    /// namespace uses Linux namespaces; own-root puts the image's files in place of this container's own, for a pod
    /// that may neither unshare nor mount; auto takes the first that works.
    #[arg(
        long,
        value_name = "KIND",
        default_value = "auto",
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(["auto", "namespace", "own-root"]).try_map(|word| word.parse::<Isolation>()),
        help_heading = "Build"
    )]
    pub isolation: Isolation,

    /// The directory for everything except outputs during the build [default: $KANIKO_DIR, or /kaniko].
    #[arg(long, visible_alias = "kaniko-dir", value_name = "DIRECTORY", value_parser = path(), help_heading = "Build")]
    pub work_dir: Option<PathBuf>,

    /// How many stages are built in parallel [default: twice the processors, at least 4].
    ///
    /// Independent stages are built in parallel, and their RUNs, too, with namespace isolation.
    #[arg(long, value_name = "STAGES", help_heading = "Build")]
    pub parallel: Option<NonZeroUsize>,

    /// full, redo or time: each finds every change.
    ///
    /// Accepted for compatibility with kaniko: there is one way to find what a step changed, and it misses nothing.
    #[arg(
        long,
        value_name = "MODE",
        default_value = "full",
        hide_possible_values = true,
        value_parser = snapshot_modes(),
        help_heading = "Build"
    )]
    pub snapshot_mode: SnapshotMode,

    /// How new layers are written.
    #[command(flatten)]
    pub layers: LayerFlags,

    /// Build even though this does not look like a container.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Build")]
    pub force: bool,

    /// Take no step from the cache. That is the default without --cache.
    ///
    /// With --cache, every step is executed and its layer stored for later builds.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Build")]
    pub no_cache: bool,

    /// Flags that exist because kaniko has them.
    #[command(flatten)]
    pub kaniko: KanikoFlags,

    /// The log and the progress output.
    #[command(flatten)]
    pub log: LogFlags,

    /// `login`, `version`, `help`, or a word that is not a sub-command.
    #[command(subcommand)]
    pub(super) command: Option<Word>,
}

/// The value of `--call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Called {
    /// What is asked instead of a build.
    pub question: Option<Question>,
    /// How the answer is written.
    pub format: Format,
}

/// The flags of `login`.
#[derive(Debug, Clone, clap::Args)]
pub struct LoginFlags {
    /// The registry, such as registry.example:5000; Docker Hub if not given.
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub registry: String,

    /// The user.
    #[arg(short, long, value_name = "USER")]
    pub username: Option<String>,

    /// The password. Other processes of the machine can see it; prefer --password-stdin.
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub password: Option<String>,

    /// Read the password from standard input.
    #[arg(long)]
    pub password_stdin: bool,
}

/// The first word that is not a flag.
#[derive(Debug, Clone, clap::Subcommand)]
pub(super) enum Word {
    /// Log in to a registry.
    Login(LoginFlags),
    /// Print the version.
    Version,
    /// Print this help.
    Help,
    /// Anything else, with what follows it.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

const ENVIRONMENT: &str = "\
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

/// The parser: the flags above, with the syntax of Go's pflag for booleans.
pub fn command() -> clap::Command {
    with_booleans(Flags::command())
}

/// The flags of a command line, and which Dockerfile it names itself.
///
/// # Errors
/// A value is not valid.
pub(super) fn from_matches(matches: &ArgMatches) -> Result<Flags, clap::Error> {
    let dockerfile_is_named = matches.value_source("dockerfile") == Some(ValueSource::CommandLine);
    Ok(Flags { dockerfile_is_named, ..Flags::from_arg_matches(matches)? })
}

/// Accepts boolean flags as --flag, --flag=true and --flag=false.
pub(super) fn with_booleans(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| {
        if arg.get_value_parser().type_id() != TypeId::of::<bool>() {
            return arg;
        }
        arg.value_parser(boolean)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("true|false")
    })
}

/// The spellings of Go's `strconv.ParseBool`.
pub(super) fn boolean(word: &str) -> Result<bool, NotBoolean> {
    parse_go_bool(word).ok_or(NotBoolean)
}

/// A word that is neither true nor false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected true or false")]
pub struct NotBoolean;

/// Takes any path, and an empty one, which scripts pass for "none", too.
pub(super) fn path() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// `KIND`, `KIND,format=json` or `format=json,KIND`.
fn called(text: &str) -> Result<Called, NotCall> {
    let mut called = Called::default();
    for word in text.split(',') {
        match word {
            "build" => called.question = None,
            "check" => called.question = Some(Question::Check),
            "outline" => called.question = Some(Question::Outline),
            "targets" => called.question = Some(Question::Targets),
            "format=text" => called.format = Format::Text,
            "format=json" => called.format = Format::Json,
            _ => return Err(NotCall),
        }
    }
    Ok(called)
}

/// A word that is not a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected build, check, outline or targets, and then ,format=text or ,format=json")]
struct NotCall;

fn image_format(word: &str) -> ImageFormat {
    if word == "docker" { ImageFormat::Docker } else { ImageFormat::Oci }
}

#[cfg(test)]
mod tests;
