//! The flags of a build as they are typed: kaniko's names, defaults and meanings, and the few that are ours.
//!
//! Nothing is looked up or checked against anything else here; that is [`super::request`]'s.

use std::any::TypeId;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser as _};
use clap::{ArgAction, CommandFactory as _, Parser};

use super::cache_flags::CacheFlags;
use super::cache_mount_flags::CacheMountFlags;
use super::context_flags::ContextFlags;
use super::kaniko_flags::KanikoFlags;
use super::layer_flags::LayerFlags;
use super::log_flags::LogFlags;
use super::output_flags::OutputFlags;
use super::registry_flags::RegistryFlags;
use crate::builder::{Call, Format, SnapshotMode};
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
    /// The Dockerfile; looked for as given, then in the context. "-" is standard input; a URL is fetched.
    ///
    /// A relative path is tried from the current directory first. PATH.dockerignore is used instead of .dockerignore if
    /// it exists.
    #[arg(short = 'f', long, value_name = "PATH", default_value = "Dockerfile", help_heading = "Input")]
    pub dockerfile: String,

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
    /// LOCATION is a path, docker-image://IMAGE, oci-layout://DIRECTORY[:NAME][@DIGEST], or the URL of a git repository or
    /// an archive. It goes before a stage and before an image of that name.
    #[arg(long, value_name = "NAME=LOCATION", action = ArgAction::Append, help_heading = "Input")]
    pub build_context: Vec<String>,

    /// A secret, from a file or a variable of the environment: id=ID[,src=FILE][,env=VARIABLE]. Repeatable.
    ///
    /// With the ID alone it is the variable of that name, or else the file. type=file or type=env says which.
    #[arg(long, value_name = "FIELDS", action = ArgAction::Append, help_heading = "Input")]
    pub secret: Vec<String>,

    /// An SSH agent for RUN --mount=type=ssh: default, or ID[=SOCKET|KEY[,KEY...]][,raw=true]. Repeatable.
    ///
    /// Without a path it is the agent at $SSH_AUTH_SOCK. Commands can list keys and have data signed, nothing else; keys in
    /// files, which may have no passphrase, are held by crabwright itself. raw=true passes everything on to a socket.
    #[arg(long, value_name = "AGENT", help_heading = "Input")]
    pub ssh: Vec<String>,

    /// A value for ARG; a NAME alone takes its value from the environment. Repeatable.
    ///
    /// A NAME that the environment does not have either stays unset, so that the default in the Dockerfile applies.
    #[arg(
        long,
        value_name = "NAME[=VALUE]",
        allow_hyphen_values = true,
        action = ArgAction::Append,
        help_heading = "Input"
    )]
    pub build_arg: Vec<String>,

    /// The stage to build; the last one if not given.
    #[arg(long, value_name = "STAGE", value_delimiter = ',', action = ArgAction::Append, help_heading = "Input")]
    pub target: Vec<String>,

    /// The platform of the image, such as linux/arm64; that of this machine if not given.
    #[arg(long, visible_alias = "platform", value_name = "OS/ARCHITECTURE[/VARIANT]", help_heading = "Input")]
    pub custom_platform: Option<String>,

    /// What to do: build, check, outline or targets; with ,format=json the answer is a JSON object.
    ///
    /// check tells what is wrong with the Dockerfile or better written otherwise, outline which arguments, secrets and
    /// caches the target uses, targets which stages can be built. Nothing is built then, and no other output written.
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

    /// Of lint only: ask no registry.
    #[arg(skip)]
    pub offline: bool,

    /// A name for the image, such as registry:5000/team/app:1.0. Repeatable.
    ///
    /// The image is pushed under each of them. Required unless --no-push is given.
    #[arg(short, long, value_name = "IMAGE", action = ArgAction::Append, help_heading = "Output")]
    pub destination: Vec<String>,

    /// Where it goes besides.
    #[command(flatten)]
    pub outputs: OutputFlags,

    /// A label of the image; it overrides the Dockerfile's. Repeatable.
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

    /// The format of the image's manifest: oci or docker.
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
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Output")]
    pub reproducible: bool,

    /// How registries are reached.
    #[command(flatten)]
    pub registries: RegistryFlags,

    /// How layers of earlier builds are used.
    #[command(flatten)]
    pub caching: CacheFlags,

    /// How caches of commands go from machine to machine.
    #[command(flatten)]
    pub cache_mounts: CacheMountFlags,

    /// How RUN is isolated: auto, namespace or own-root.
    ///
    /// namespace uses Linux namespaces; own-root puts the image's files in place of this container's own, for a pod that
    /// may neither unshare nor mount; auto takes the first that works.
    #[arg(
        long,
        value_name = "KIND",
        default_value = "auto",
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(["auto", "namespace", "own-root"]).try_map(|word| word.parse::<Isolation>()),
        help_heading = "Build"
    )]
    pub isolation: Isolation,

    /// Where everything but the outputs is kept while building [default: $KANIKO_DIR, or /kaniko].
    #[arg(long, visible_alias = "kaniko-dir", value_name = "DIRECTORY", value_parser = path(), help_heading = "Build")]
    pub work_dir: Option<PathBuf>,

    /// How many stages are built at a time [default: twice the processors, at least 4].
    ///
    /// Stages that need nothing of each other are built side by side. Their RUNs are, too, with the namespace isolation.
    #[arg(long, value_name = "STAGES", help_heading = "Build")]
    pub parallel: Option<NonZeroUsize>,

    /// full, redo or time: each finds every change.
    ///
    /// Accepted so that a command line for kaniko works; there is one way of finding what a step changed, and it loses nothing.
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

    /// Take no step from a cache. That is the default: --cache is what asks for one.
    ///
    /// With --cache every step is carried out, and what it makes is kept for later builds.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Build")]
    pub no_cache: bool,

    /// What kaniko has besides.
    #[command(flatten)]
    pub kaniko: KanikoFlags,

    /// How the program speaks.
    #[command(flatten)]
    pub log: LogFlags,

    /// `version` and the words that are no sub-command.
    #[command(subcommand)]
    pub(super) command: Option<Word>,
}

/// The value of `--call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Called {
    /// What to do.
    pub call: Call,
    /// How the answer is written.
    pub format: Format,
}

/// What `login` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct LoginFlags {
    /// The registry, such as registry.example:5000; Docker Hub if not given.
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub registry: String,

    /// The user.
    #[arg(short, long, value_name = "USER")]
    pub username: Option<String>,

    /// The password. Other processes of the machine can see it: --password-stdin is better.
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub password: Option<String>,

    /// Read the password from standard input.
    #[arg(long)]
    pub password_stdin: bool,
}

/// The first word that is no flag.
#[derive(Debug, Clone, clap::Subcommand)]
pub(super) enum Word {
    /// Put a user and a password into Docker's config.
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
A flag that is on or off may be given as --flag, --flag=true or --flag=false.

Environment:
  KANIKO_DIR         Default of --work-dir
  KANIKO_NO_PUSH     true or false; default of --no-push
  SOURCE_DATE_EPOCH  Seconds since 1970: the time of what the build creates; also a build argument
  DOCKER_CONFIG      Directory with the config.json that holds the registries' credentials
  DOCKER_AUTH_CONFIG The content of such a file
  KANIKO_<HOST>_USER, KANIKO_<HOST>_PASSWORD
                     Credentials for a registry, such as KANIKO_REG_EXAMPLE_COM_USER
  KANIKO_REGISTRY_MIRROR, KANIKO_REGISTRY_MAP
                     One more --registry-mirror, --registry-map
  S3_ENDPOINT, S3_FORCE_PATH_STYLE, AWS_*
                     Where the buckets of an s3:// context are, and its credentials
  GOOGLE_APPLICATION_CREDENTIALS
                     The file with the credentials for a gs:// context
  AZURE_STORAGE_ACCESS_KEY, AZURE_STORAGE_SAS_TOKEN
                     Credentials for a context that is an Azure blob
  GIT_TOKEN, GIT_USERNAME, GIT_PASSWORD, GIT_PULL_METHOD
                     Credentials for a context that is a repository; https or http for git://

Exit status:
  0            The image is complete, or a check has found nothing
  128+NUMBER   Stopped by that signal: 143 for SIGTERM
  any other    That of the command when a RUN fails, 1 for everything else";

/// The parser: the flags above, with the syntax of Go's pflag for those that are on or off.
pub fn command() -> clap::Command {
    with_booleans(Flags::command())
}

/// Lets flags that are on or off be given as --flag, --flag=true or --flag=false.
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

/// The words of `--snapshot-mode`.
pub(super) fn snapshot_modes() -> impl clap::builder::TypedValueParser<Value = SnapshotMode> {
    PossibleValuesParser::new(["full", "redo", "time"]).map(|word| snapshot_mode(&word))
}

/// `KIND`, `KIND,format=json` or `format=json,KIND`.
fn called(text: &str) -> Result<Called, NotCall> {
    let mut called = Called::default();
    for word in text.split(',') {
        match word {
            "build" => called.call = Call::Build,
            "check" => called.call = Call::Check,
            "outline" => called.call = Call::Outline,
            "targets" => called.call = Call::Targets,
            "format=text" => called.format = Format::Text,
            "format=json" => called.format = Format::Json,
            _ => return Err(NotCall),
        }
    }
    Ok(called)
}

/// A word that is no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected build, check, outline or targets, and then ,format=text or ,format=json")]
struct NotCall;

fn image_format(word: &str) -> ImageFormat {
    if word == "docker" { ImageFormat::Docker } else { ImageFormat::Oci }
}

fn snapshot_mode(word: &str) -> SnapshotMode {
    match word {
        "redo" => SnapshotMode::Redo,
        "time" => SnapshotMode::Time,
        _ => SnapshotMode::Full,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::log_flags::{LogFormat, ProgressKind, Verbosity};
    use super::super::{Invocation, parse};
    use super::*;
    use crate::layer::Compression;

    fn typed(line: &str) -> Flags {
        match parse(std::iter::once("crabwright").chain(line.split_whitespace())) {
            Ok(Invocation::Build(flags)) => *flags,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// The name of a flag, a command line, and what it must have set.
    type Meaning = (&'static str, &'static str, fn(&Flags) -> bool);

    const MEANINGS: &[Meaning] = &[
        ("dockerfile", "", |flags| flags.dockerfile == "Dockerfile"),
        ("dockerfile", "--dockerfile a/D", |flags| flags.dockerfile == "a/D"),
        ("dockerfile", "-f D", |flags| flags.dockerfile == "D"),
        ("dockerfile", "-f=D", |flags| flags.dockerfile == "D"),
        ("dockerfile", "-fD", |flags| flags.dockerfile == "D"),
        ("dockerfile", "-f a --dockerfile=b", |flags| flags.dockerfile == "b"),
        ("context", "", |flags| flags.context == "/workspace/"),
        ("context", "--context dir:///w", |flags| flags.context == "dir:///w"),
        ("context", "-c .", |flags| flags.context == "."),
        ("bucket", "-b x", |flags| flags.context_source.bucket.as_deref() == Some("x")),
        ("git", "--git=branch=x,depth=1", |flags| flags.context_source.git == ["branch=x,depth=1"]),
        ("context_max_size", "", |flags| flags.context_source.context_max_size == 8 << 30),
        ("context_max_size", "--context-max-size=2KiB", |flags| flags.context_source.context_max_size == 2048),
        ("context_max_entries", "--context-max-entries=7", |flags| flags.context_source.context_max_entries == 7),
        ("context_sub_path", "", |flags| flags.context_sub_path.is_none()),
        ("context_sub_path", "--context-sub-path a/b", |flags| flags.context_sub_path.as_deref() == Some("a/b")),
        ("build_context", "--build-context a=/d --build-context=b=dir://x=y", |flags| {
            flags.build_context == ["a=/d", "b=dir://x=y"]
        }),
        ("ssh", "--ssh default --ssh=a=/k,/l", |flags| flags.ssh == ["default", "a=/k,/l"]),
        ("secret", "--secret id=a,src=/f --secret=id=b", |flags| flags.secret == ["id=a,src=/f", "id=b"]),
        ("build_arg", "--build-arg A=1 --build-arg=B", |flags| flags.build_arg == ["A=1", "B"]),
        ("build_arg", "--build-arg A=1,2", |flags| flags.build_arg == ["A=1,2"]),
        ("build_arg", "--build-arg -A=-O2", |flags| flags.build_arg == ["-A=-O2"]),
        ("target", "--target a", |flags| flags.target == ["a"]),
        ("target", "--target a,b --target c", |flags| flags.target == ["a", "b", "c"]),
        ("custom_platform", "", |flags| flags.custom_platform.is_none()),
        ("custom_platform", "--custom-platform linux/arm64", |flags| {
            flags.custom_platform.as_deref() == Some("linux/arm64")
        }),
        ("custom_platform", "--platform=linux", |flags| flags.custom_platform.as_deref() == Some("linux")),
        ("call", "", |flags| flags.call == Called { call: Call::Build, format: Format::Text }),
        ("call", "--call check", |flags| flags.call == Called { call: Call::Check, format: Format::Text }),
        ("call", "--call=outline,format=json", |flags| {
            flags.call == Called { call: Call::Outline, format: Format::Json }
        }),
        ("call", "--call=targets,format=text", |flags| flags.call.call == Call::Targets),
        ("check", "--check", |flags| flags.check && flags.call.call == Call::Build),
        ("check", "--check=false", |flags| !flags.check),
        ("destination", "--destination r/a:1 -d r/b:2", |flags| flags.destination == ["r/a:1", "r/b:2"]),
        ("destination", "-d=a -db", |flags| flags.destination == ["a", "b"]),
        ("no_push", "", |flags| flags.outputs.no_push.is_none()),
        ("no_push", "--no-push", |flags| flags.outputs.no_push == Some(true)),
        ("no_push", "--no-push=true", |flags| flags.outputs.no_push == Some(true)),
        ("no_push", "--no-push --no-push=false", |flags| flags.outputs.no_push == Some(false)),
        ("tar_path", "--tar-path /a.tar", |flags| flags.outputs.tar_path == Some("/a.tar".into())),
        ("oci_layout_path", "--oci-layout-path=/o", |flags| flags.outputs.oci_layout_path == Some("/o".into())),
        ("digest_file", "--digest-file /dev/stdout", |flags| flags.outputs.digest_file == Some("/dev/stdout".into())),
        ("digest_file", "--digest-file=", |flags| flags.outputs.digest_file == Some("".into())),
        ("image_name_with_digest_file", "--image-name-with-digest-file f", |flags| {
            flags.outputs.image_name_with_digest_file == Some("f".into())
        }),
        ("image_name_tag_with_digest_file", "--image-name-tag-with-digest-file f", |flags| {
            flags.outputs.image_name_tag_with_digest_file == Some("f".into())
        }),
        ("label", "--label a=b --label c=d=e,f", |flags| flags.label == ["a=b", "c=d=e,f"]),
        ("reproducible", "", |flags| !flags.reproducible),
        ("reproducible", "--reproducible", |flags| flags.reproducible),
        ("annotation", "--annotation a=b --annotation c=d=e,f", |flags| flags.annotation == ["a=b", "c=d=e,f"]),
        ("image_format", "", |flags| flags.image_format == ImageFormat::Oci),
        ("image_format", "--image-format docker", |flags| flags.image_format == ImageFormat::Docker),
        ("compression", "", |flags| flags.layers.compression == Compression::Gzip),
        ("compression", "--compression gzip", |flags| flags.layers.compression == Compression::Gzip),
        ("compression", "--compression=zstd", |flags| flags.layers.compression == Compression::Zstd),
        ("compression_level", "", |flags| flags.layers.compression_level == -1),
        ("compression_level", "--compression-level 9", |flags| flags.layers.compression_level == 9),
        ("compression_level", "--compression-level -1", |flags| flags.layers.compression_level == -1),
        ("single_snapshot", "", |flags| !flags.layers.single_snapshot),
        ("single_snapshot", "--single-snapshot", |flags| flags.layers.single_snapshot),
        ("compressed_caching", "", |flags| flags.layers.compressed_caching),
        ("compressed_caching", "--compressed-caching=false", |flags| !flags.layers.compressed_caching),
        ("insecure", "", |flags| !flags.registries.insecure),
        ("insecure", "--insecure", |flags| flags.registries.insecure && !flags.registries.insecure_pull),
        ("insecure_pull", "--insecure-pull", |flags| flags.registries.insecure_pull && !flags.registries.insecure),
        ("insecure_registry", "--insecure-registry a:5000 --insecure-registry=b", |flags| {
            flags.registries.insecure_registry == ["a:5000", "b"]
        }),
        ("skip_tls_verify", "--skip-tls-verify", |flags| {
            flags.registries.skip_tls_verify && !flags.registries.skip_tls_verify_pull
        }),
        ("skip_tls_verify_pull", "--skip-tls-verify-pull", |flags| {
            flags.registries.skip_tls_verify_pull && !flags.registries.skip_tls_verify
        }),
        ("skip_tls_verify_registry", "--skip-tls-verify-registry a --skip-tls-verify-registry b:1", |flags| {
            flags.registries.skip_tls_verify_registry == ["a", "b:1"]
        }),
        ("registry_certificate", "--registry-certificate a=/x --registry-certificate b=/y", |flags| {
            flags.registries.registry_certificate == ["a=/x", "b=/y"]
        }),
        ("registry_client_cert", "--registry-client-cert a=/x,/y", |flags| {
            flags.registries.registry_client_cert == ["a=/x,/y"]
        }),
        ("registry_map", "--registry-map a=b --registry-map c=d;e=f", |flags| {
            flags.registries.registry_map == ["a=b", "c=d;e=f"]
        }),
        ("registry_mirror", "--registry-mirror a --registry-mirror b/c", |flags| {
            flags.registries.registry_mirror == ["a", "b/c"]
        }),
        ("skip_default_registry_fallback", "--skip-default-registry-fallback", |flags| {
            flags.registries.skip_default_registry_fallback
        }),
        ("push_retry", "", |flags| flags.registries.push_retry == 0),
        ("push_retry", "--push-retry 7", |flags| flags.registries.push_retry == 7),
        ("image_download_retry", "--image-download-retry=9", |flags| flags.registries.image_download_retry == 9),
        ("push_ignore_immutable_tag_errors", "--push-ignore-immutable-tag-errors", |flags| {
            flags.registries.push_ignore_immutable_tag_errors
        }),
        ("skip_push_permission_check", "", |flags| !flags.registries.skip_push_permission_check),
        ("skip_push_permission_check", "--skip-push-permission-check", |flags| {
            flags.registries.skip_push_permission_check
        }),
        ("credential_helpers", "", |flags| flags.registries.credential_helpers.is_empty()),
        ("credential_helpers", "--credential-helpers=", |flags| flags.registries.credential_helpers == [""]),
        ("credential_helpers", "--credential-helpers env,ecr --credential-helpers acr", |flags| {
            flags.registries.credential_helpers == ["env", "ecr", "acr"]
        }),
        ("tag", "-t a --tag=b", |flags| flags.outputs.tag == ["a", "b"]),
        ("push", "", |flags| !flags.outputs.push),
        ("push", "--push", |flags| flags.outputs.push),
        ("output", "-o out --output type=oci,dest=a", |flags| flags.outputs.output == ["out", "type=oci,dest=a"]),
        ("load", "--load", |flags| flags.outputs.load),
        ("metadata_file", "--metadata-file m.json", |flags| flags.outputs.metadata_file == Some("m.json".into())),
        ("iidfile", "--iidfile=id", |flags| flags.outputs.iidfile == Some("id".into())),
        ("no_cache", "--no-cache", |flags| flags.no_cache),
        ("ignore_path", "--ignore-path /a,b --ignore-path=/c", |flags| flags.kaniko.ignore_path == ["/a,b", "/c"]),
        ("dryrun", "", |flags| !flags.kaniko.dryrun),
        ("dryrun", "--dryrun", |flags| flags.kaniko.dryrun),
        ("use_new_run", "--use-new-run", |flags| flags.kaniko.use_new_run),
        ("ignore_var_run", "", |flags| flags.kaniko.ignore_var_run),
        ("ignore_var_run", "--ignore-var-run=f", |flags| !flags.kaniko.ignore_var_run),
        ("whitelist_var_run", "--whitelist-var-run", |flags| flags.kaniko.whitelist_var_run == Some(true)),
        ("image_fs_extract_retry", "--image-fs-extract-retry 3", |flags| flags.kaniko.image_fs_extract_retry == 3),
        ("cleanup", "--cleanup", |flags| flags.kaniko.cleanup == Some(true)),
        ("pre_cleanup", "--pre-cleanup=T", |flags| flags.kaniko.pre_cleanup == Some(true)),
        ("preserve_context", "--preserve-context=0", |flags| flags.kaniko.preserve_context == Some(false)),
        ("materialize", "--materialize", |flags| flags.kaniko.materialize),
        ("force_build_metadata", "--force-build-metadata", |flags| flags.kaniko.force_build_metadata == Some(true)),
        ("skip_unused_stages", "--skip-unused-stages=false", |flags| flags.kaniko.skip_unused_stages == Some(false)),
        ("snapshot_mode_camel", "--snapshotMode=redo", |flags| {
            flags.kaniko.snapshot_mode_camel == Some(SnapshotMode::Redo)
        }),
        ("snapshot_mode_camel", "--snapshotMode=redo --snapshot-mode=time", |flags| {
            flags.kaniko.snapshot_mode_camel.is_none() && flags.snapshot_mode == SnapshotMode::Time
        }),
        ("snapshot_mode_camel", "--snapshot-mode=time --snapshotMode redo", |flags| {
            flags.kaniko.snapshot_mode_camel == Some(SnapshotMode::Redo)
        }),
        ("custom_platform_camel", "--customPlatform=linux/arm64", |flags| {
            flags.kaniko.custom_platform_camel.as_deref() == Some("linux/arm64")
        }),
        ("tar_path_camel", "--tarPath x --tarPath=y", |flags| flags.kaniko.tar_path_camel == Some("y".into())),
        ("work_dir", "--kaniko-dir=/k", |flags| flags.work_dir == Some("/k".into())),
        ("cache", "", |flags| !flags.caching.cache),
        ("cache", "--cache=true", |flags| flags.caching.cache),
        ("cache_repo", "--cache-repo r/c", |flags| flags.caching.cache_repo.as_deref() == Some("r/c")),
        ("cache_dir", "", |flags| flags.caching.cache_dir.to_str() == Some("/cache")),
        ("cache_dir", "--cache-dir /c", |flags| flags.caching.cache_dir.to_str() == Some("/c")),
        ("cache_ttl", "", |flags| flags.caching.cache_ttl == Duration::from_secs(336 * 3600)),
        ("cache_ttl", "--cache-ttl 1h30m", |flags| flags.caching.cache_ttl == Duration::from_secs(5400)),
        ("cache_run_layers", "", |flags| flags.caching.cache_run_layers),
        ("cache_run_layers", "--cache-run-layers=false", |flags| !flags.caching.cache_run_layers),
        ("cache_copy_layers", "", |flags| flags.caching.cache_copy_layers.is_none()),
        ("cache_copy_layers", "--cache-copy-layers", |flags| flags.caching.cache_copy_layers == Some(true)),
        ("no_push_cache", "--no-push-cache", |flags| flags.caching.no_push_cache),
        ("cache_mounts_repo", "--cache-mounts-repo r/m", |flags| {
            flags.cache_mounts.cache_mounts_repo.as_deref() == Some("r/m")
        }),
        ("cache_mounts_limit", "", |flags| flags.cache_mounts.cache_mounts_limit.is_none()),
        ("cache_mounts_limit", "--cache-mounts-limit 500MB", |flags| {
            flags.cache_mounts.cache_mounts_limit == Some(500_000_000)
        }),
        ("isolation", "", |flags| flags.isolation == Isolation::Auto),
        ("isolation", "--isolation namespace", |flags| flags.isolation == Isolation::Namespace),
        ("isolation", "--isolation=own-root", |flags| flags.isolation == Isolation::OwnRoot),
        ("work_dir", "", |flags| flags.work_dir.is_none()),
        ("work_dir", "--work-dir /w", |flags| flags.work_dir == Some("/w".into())),
        ("parallel", "", |flags| flags.parallel.is_none()),
        ("parallel", "--parallel=3", |flags| flags.parallel.map(NonZeroUsize::get) == Some(3)),
        ("snapshot_mode", "", |flags| flags.snapshot_mode == SnapshotMode::Full),
        ("snapshot_mode", "--snapshot-mode redo", |flags| flags.snapshot_mode == SnapshotMode::Redo),
        ("snapshot_mode", "--snapshot-mode=time", |flags| flags.snapshot_mode == SnapshotMode::Time),
        ("force", "--force=F --force=1", |flags| flags.force),
        ("force", "--force --force=FALSE", |flags| !flags.force),
        ("verbosity", "", |flags| flags.log.verbosity == Verbosity::Info),
        ("verbosity", "-v debug", |flags| flags.log.verbosity == Verbosity::Debug),
        ("verbosity", "--verbosity=WARNING", |flags| flags.log.verbosity == Verbosity::Warn),
        ("verbosity", "--verbosity panic", |flags| flags.log.verbosity == Verbosity::Panic),
        ("log_format", "", |flags| flags.log.log_format == LogFormat::Color),
        ("log_format", "--log-format json", |flags| flags.log.log_format == LogFormat::Json),
        ("progress", "", |flags| flags.log.progress == ProgressKind::Auto),
        ("progress", "--progress=rawjson", |flags| flags.log.progress == ProgressKind::RawJson),
        ("progress", "--progress quiet", |flags| flags.log.progress == ProgressKind::Quiet),
        ("log_timestamp", "", |flags| !flags.log.log_timestamp),
        ("log_timestamp", "--log-timestamp", |flags| flags.log.log_timestamp),
    ];

    #[test]
    fn every_flag_means_what_it_says() {
        for (name, line, meaning) in MEANINGS {
            assert!(meaning(&typed(line)), "{name}: {line}");
        }
        let tried: BTreeSet<_> = MEANINGS.iter().map(|(name, ..)| *name).collect();
        let command = command();
        let all: BTreeSet<_> = command.get_arguments().map(|argument| argument.get_id().as_str()).collect();
        assert_eq!(tried, all);
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn help_explains_every_flag() {
        insta::assert_snapshot!("help", command().term_width(100).render_long_help());
    }
}
