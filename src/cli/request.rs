//! Flags and environment to a validated [`BuildRequest`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::cache_flags::{CacheFlagError, authenticator, cache_request};
use super::context_flags;
use super::delivery::{DeliveryError, delivery};
use super::flags::{self, Flags, NotBoolean};
use super::kaniko_flags::IgnorePathError;
use super::registry_flags::{RegistryFlagError, client_config};
use super::snapshot_mode::SnapshotMode;
use crate::builder::{
    BuildRequest, CachesRequest, InputsRequest, LayersRequest, OutputsRequest, PushRequest, Question, QuestionRequest,
    SandboxRequest, TargetRequest,
};
use crate::cache::{CacheLocation, WarmImages};
use crate::diag::Hint;
use crate::image::{EpochError, ImageFormat, Platform, PlatformError, Reference, ReferenceError, parse_epoch};
use crate::location::LocationError;
use crate::plan::{NamedContext, NamedSource};
use crate::sandbox::OwnRootConsent;
use crate::secret::{SecretSource, SourceError};
use crate::ssh::{SshSource, SshSourceError};

/// Where kaniko keeps its files.
const DEFAULT_WORK_DIR: &str = "/kaniko";

/// The build argument, and the variable of the environment, that says from when an image is.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Flags that do not fit together, or a value that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The context cannot be understood.
    #[error("--context cannot be used")]
    Context(#[source] LocationError),
    /// Two contexts.
    #[error("--bucket is read only with --context=\"\": name the object with --context=gs://BUCKET/OBJECT")]
    BucketAndContext,
    /// `--git` is malformed.
    #[error("--git {text:?} cannot be used: {reason}")]
    Git {
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `GIT_PULL_METHOD` is nothing that git URLs are read with.
    #[error("environment variable GIT_PULL_METHOD cannot be {value:?}: https or http")]
    GitPullMethod {
        /// Its value.
        value: String,
    },
    /// Two different things to do.
    #[error("--check means --call=check: only one of the two can be given")]
    CheckAndCall,
    /// A plan, and something else than a build.
    #[error("--dryrun prints the plan of a build: it does not go with --check or --call")]
    DryRunAndCall,
    /// Where the image goes.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// A path of `--ignore-path` is none.
    #[error(transparent)]
    IgnorePath(#[from] IgnorePathError),
    /// A named context has no name, no place, or a name that is taken.
    #[error("--build-context {text:?} cannot be used: {reason}")]
    BuildContext {
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The image of a named context is no reference.
    #[error("--build-context {text:?} cannot be used")]
    ContextImage {
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// `warmer` without anything to fetch.
    #[error("you must provide at least one image to cache with --image, or a Dockerfile with --dockerfile")]
    NothingToWarm,
    /// An image of `warmer` is no reference.
    #[error("--image {text:?} cannot be used")]
    WarmImage {
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// A platform is none.
    #[error("--custom-platform {text:?} cannot be used")]
    Platform {
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: PlatformError,
    },
    /// An SSH agent cannot be used.
    #[error(transparent)]
    Ssh(#[from] SshSourceError),
    /// A secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SourceError),
    /// A label is no `key=value`.
    #[error("--label {text:?} is not of the form key=value")]
    Label {
        /// As given.
        text: String,
    },
    /// An annotation is no `key=value`.
    #[error("--annotation {text:?} is not of the form key=value")]
    Annotation {
        /// As given.
        text: String,
    },
    /// Docker's manifests have no place for annotations.
    #[error("--annotation needs --image-format oci: Docker's manifests have no annotations")]
    DockerAnnotation,
    /// Docker's manifests know gzip only.
    #[error("--compression zstd needs --image-format oci: Docker's manifests have no layers compressed with zstd")]
    DockerZstd,
    /// A flag about the cache.
    #[error(transparent)]
    Cache(#[from] CacheFlagError),
    /// A flag about registries.
    #[error(transparent)]
    Registry(#[from] RegistryFlagError),
    /// A build argument has no name.
    #[error("--build-arg {text:?} has no name: it is NAME=VALUE, or NAME to take the value from the environment")]
    BuildArgument {
        /// As given.
        text: String,
    },
    /// A variable of the environment is neither true nor false.
    #[error("environment variable {name} cannot be {value:?}")]
    NotBoolean {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should have been.
        #[source]
        source: NotBoolean,
    },
    /// A variable of the environment is not text.
    #[error("environment variable {name} is not valid UTF-8")]
    NotText {
        /// The variable.
        name: String,
    },
    /// A level the compression does not have.
    #[error("--compression-level cannot be {level}: {compression} has the levels {first} to {last}")]
    CompressionLevel {
        /// As given.
        level: i64,
        /// `gzip` or `zstd`.
        compression: &'static str,
        /// The fastest.
        first: u8,
        /// The smallest.
        last: u8,
    },
    /// `SOURCE_DATE_EPOCH` is no time.
    #[error("SOURCE_DATE_EPOCH cannot be {value:?}: {problem}")]
    Epoch {
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: EpochError,
    },
}

impl Hint for RequestError {
    fn hint(&self) -> Option<String> {
        // The messages name the flag and what it takes.
        None
    }
}

/// What a command line asks for.
#[derive(Debug, Clone)]
pub enum Asked {
    /// An image.
    Build(BuildRequest),
    /// An answer about a Dockerfile.
    Question(QuestionRequest),
}

/// Checks what was typed and fills in what the environment says. `environment` looks a variable up.
///
/// # Errors
/// See [`RequestError`].
pub fn request(flags: Flags, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Asked, RequestError> {
    let question = match (flags.check, flags.call.question, flags.kaniko.dryrun) {
        (false, question, false) => question,
        (true, None | Some(Question::Check), false) => Some(Question::Check),
        (true, Some(_), false) => return Err(RequestError::CheckAndCall),
        (false, None, true) => Some(Question::Plan),
        (_, _, true) => return Err(RequestError::DryRunAndCall),
    };
    let (format, offline) = (flags.call.format, flags.offline);
    let build = build_request(flags, question.is_some(), environment)?;
    Ok(match question {
        None => Asked::Build(build),
        Some(question) => Asked::Question(QuestionRequest { question, format, offline, build }),
    })
}

/// The push of an image that exists already: what `crabwright push` leaves of the flags of a build.
///
/// # Errors
/// See [`RequestError`].
pub fn push_request(
    flags: Flags,
    image: PathBuf,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<PushRequest, RequestError> {
    let BuildRequest { outputs, registries, sandbox, .. } = build_request(flags, false, environment)?;
    Ok(PushRequest { image, outputs, registries, work_dir: sandbox.work_dir })
}

/// The build that flags describe; one that nothing is delivered of where only a question is asked.
pub(super) fn build_request(
    mut flags: Flags,
    is_question: bool,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<BuildRequest, RequestError> {
    flags.kaniko.tell(environment)?;
    let pre_cleanup = match flags.kaniko.pre_cleanup {
        Some(given) => given,
        None => boolean("KANIKO_PRE_CLEANUP", environment)?.unwrap_or(false),
    };
    let context = context_flags::context(&flags.context_source, &flags.context, environment)?;
    warn_of_no_effect(&flags, environment);
    let tar_path = flags.kaniko.tar_path_camel.take();
    let delivery = delivery(flags.destination, flags.outputs, tar_path, is_question, environment)?;
    let authenticator = authenticator(flags.caching.cache_key_file.as_deref())?;
    let (reads, writes) = (!flags.no_cache, !flags.caching.no_push_cache);
    let warm_images = flags.caching.cache.then(|| WarmImages::new(&flags.caching.cache_dir, flags.caching.cache_ttl));
    let cache = CachesRequest {
        mounts: flags.cache_mounts.request(reads, writes, authenticator.clone())?,
        layers: cache_request(
            flags.caching,
            flags.no_cache,
            flags.layers.single_snapshot,
            &delivery.names,
            delivery.push,
            authenticator,
        )?,
        warm_images,
    };
    let (check_push, ignore_immutable_tags) =
        (!flags.registries.skip_push_permission_check, flags.registries.push_ignore_immutable_tag_errors);
    let mut registries = client_config(flags.registries, environment)?;
    let locations =
        [cache.layers.as_ref().map(|cache| &cache.location), cache.mounts.as_ref().map(|cache| &cache.location)];
    let repositories = locations.into_iter().flatten().filter_map(CacheLocation::repository);
    registries.named_registries.extend(delivery.names.iter().chain(repositories).map(|name| name.registry.clone()));
    let (contexts, context_directories) = build_contexts(&flags.build_context)?;
    let build_args = with_epoch(build_arguments(&flags.build_arg, environment)?, environment)?;
    let mut targets = flags.target.iter().filter(|stage| !stage.is_empty()).cloned();
    Ok(BuildRequest {
        inputs: InputsRequest {
            context,
            context_sub_path: flags.context_sub_path.filter(|path| !path.is_empty()),
            context_limits: flags.context_source.limits(),
            git_login: context_flags::git_login(environment)?,
            contexts,
            context_directories,
            dockerfile: flags.dockerfile,
            dockerfile_is_named: flags.dockerfile_is_named,
            secrets: flags
                .secret
                .iter()
                .map(|text| SecretSource::parse(text, environment))
                .collect::<Result<_, _>>()?,
            ssh: flags.ssh.iter().map(|text| SshSource::parse(text, environment)).collect::<Result<_, _>>()?,
        },
        target: TargetRequest {
            stage: targets.next(),
            also_built: targets.collect(),
            source_date_epoch: source_date_epoch(&build_args)?,
            build_args,
            platform: platform(flags.kaniko.custom_platform_camel.take().or(flags.custom_platform))?,
            labels: flags.label.iter().map(|text| label(text)).collect::<Result<_, _>>()?,
            annotations: annotations(&flags.annotation, flags.image_format)?,
            image_format: flags.image_format,
        },
        outputs: OutputsRequest {
            destinations: delivery.names,
            push: delivery.push,
            check_push,
            ignore_immutable_tags,
            outputs: delivery.outputs,
            reports: delivery.reports,
            digest_files: delivery.files,
            print_plan: boolean("KANIKO_PRINT_PLAN", environment)?.unwrap_or(false),
        },
        cache,
        sandbox: SandboxRequest {
            isolation: flags.isolation,
            own_root: OwnRootConsent { outside_container: flags.force, own_system: flags.force && pre_cleanup },
            work_dir: given(flags.work_dir)
                .or_else(|| given(environment("KANIKO_DIR").map(PathBuf::from)))
                .unwrap_or_else(|| PathBuf::from(DEFAULT_WORK_DIR)),
            parallel: flags.parallel.map(NonZeroUsize::get),
        },
        registries,
        layers: LayersRequest {
            options: flags.layers.options(flags.image_format)?,
            single_snapshot: flags.layers.single_snapshot,
            ignored_paths: flags.kaniko.ignored_paths()?,
            reproducible: flags.reproducible || delivery.rewrite_timestamp,
        },
    })
}

/// Says which settings are accepted for compatibility and change nothing.
fn warn_of_no_effect(flags: &Flags, environment: &dyn Fn(&str) -> Option<OsString>) {
    if environment("KANIKO_TELEMETRY_ENDPOINT").is_some_and(|value| !value.is_empty()) {
        tracing::warn!("environment variable KANIKO_TELEMETRY_ENDPOINT has no effect: nothing is sent to anybody");
    }
    if flags.kaniko.snapshot_mode_camel.unwrap_or(flags.snapshot_mode) != SnapshotMode::Full {
        tracing::debug!("--snapshot-mode has no effect: every change is found in any mode");
    }
}

/// A path, unless it is empty: scripts pass an empty value for a flag they do not want.
pub(super) fn given(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// Named contexts, and the directories among them, here or behind a URL. Other places are refused where directories are opened.
fn build_contexts(arguments: &[String]) -> Result<(Vec<NamedContext>, Vec<String>), RequestError> {
    let (mut contexts, mut directories) = (Vec::new(), Vec::new());
    for text in arguments {
        let refused = |reason| RequestError::BuildContext { text: text.clone(), reason };
        let (name, location) = text
            .split_once('=')
            .filter(|(name, location)| !name.is_empty() && !location.is_empty())
            .ok_or_else(|| refused("it is not of the form name=location"))?;
        if name.contains("::") {
            return Err(refused("contexts for one platform are not supported yet; leave out :: and what follows"));
        }
        if ["scratch", "context"].contains(&name.to_lowercase().as_str()) {
            return Err(refused("the name is reserved"));
        }
        let source = if let Some(image) = location.strip_prefix("docker-image://") {
            let image = Reference::parse(image);
            NamedSource::Image(image.map_err(|source| RequestError::ContextImage { text: text.clone(), source })?)
        } else if let Some(image) = location.strip_prefix("oci-layout://") {
            let image = Reference::parse_layout(image);
            NamedSource::Image(image.map_err(|source| RequestError::ContextImage { text: text.clone(), source })?)
        } else if ["target:", "input:"].iter().any(|scheme| location.starts_with(scheme)) {
            return Err(refused("only bake files know other targets; name a directory, an image, a layout or a URL"));
        } else {
            directories.push(location.to_owned());
            NamedSource::Directory(directories.len() - 1)
        };
        contexts.push(NamedContext { name: name.to_owned(), source });
    }
    Ok((contexts, directories))
}

pub(super) fn platform(text: Option<String>) -> Result<Option<Platform>, RequestError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.parse() {
        Ok(platform) => Ok(Some(platform)),
        Err(source) => Err(RequestError::Platform { text, source }),
    }
}

fn annotations(texts: &[String], format: ImageFormat) -> Result<BTreeMap<String, String>, RequestError> {
    if format == ImageFormat::Docker && !texts.is_empty() {
        return Err(RequestError::DockerAnnotation);
    }
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(RequestError::Annotation { text: text.clone() }),
    };
    texts.iter().map(pair).collect()
}

fn label(text: &str) -> Result<(String, String), RequestError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(RequestError::Label { text: text.to_owned() }),
    }
}

/// `NAME=VALUE`, or `NAME` with the value the environment has; a name it does not have stays without a value, as
/// BuildKit has it (kaniko: empty).
fn build_arguments(
    arguments: &[String],
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Vec<(String, Option<String>)>, RequestError> {
    arguments
        .iter()
        .map(|text| match text.split_once('=') {
            Some(("", _)) => Err(RequestError::BuildArgument { text: text.clone() }),
            Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
            None if text.is_empty() => Err(RequestError::BuildArgument { text: text.clone() }),
            None => Ok((text.clone(), variable(text, environment)?)),
        })
        .collect()
}

/// With `SOURCE_DATE_EPOCH` of the environment, unless there is a build argument of that name or the variable is empty, as
/// `docker build` passes it on: what `ARG SOURCE_DATE_EPOCH` means in a stage is the time that the image gets.
fn with_epoch(
    mut build_args: Vec<(String, Option<String>)>,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Vec<(String, Option<String>)>, RequestError> {
    if !build_args.iter().any(|(name, _)| name == EPOCH)
        && let Some(value) = variable(EPOCH, environment)?.filter(|value| !value.is_empty())
    {
        build_args.push((EPOCH.to_owned(), Some(value)));
    }
    Ok(build_args)
}

/// The build argument of that name. Empty counts as unset: it is how a shell unsets a variable for one command.
fn source_date_epoch(build_args: &[(String, Option<String>)]) -> Result<Option<i64>, RequestError> {
    let given = build_args.iter().rev().find(|(name, _)| name == EPOCH).and_then(|(_, value)| value.clone());
    let Some(value) = given.filter(|value| !value.is_empty()) else { return Ok(None) };
    parse_epoch(&value).map(Some).map_err(|problem| RequestError::Epoch { value, problem })
}

pub(super) fn boolean(
    name: &'static str,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<bool>, RequestError> {
    let Some(value) = variable(name, environment)? else { return Ok(None) };
    match flags::boolean(&value) {
        Ok(on) => Ok(Some(on)),
        Err(source) => Err(RequestError::NotBoolean { name, value, source }),
    }
}

/// A variable of the environment as text.
pub(super) fn variable(
    name: &str,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<String>, RequestError> {
    environment(name)
        .map(|value| value.into_string().map_err(|_| RequestError::NotText { name: name.to_owned() }))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::typed::{asked, asked_question};
    use crate::layer::Compression;
    use crate::location::ContextLocation;
    use crate::push::DigestFiles;

    #[test]
    fn defaults_are_kanikos() {
        let request = asked("--no-push", &[]).unwrap();
        assert_eq!(request.inputs.context, ContextLocation::Directory("/workspace/".to_owned()));
        assert_eq!(request.inputs.dockerfile, "Dockerfile");
        assert_eq!(request.sandbox.work_dir, PathBuf::from("/kaniko"));
        assert!(
            !request.outputs.push
                && request.sandbox.own_root == OwnRootConsent::default()
                && request.outputs.check_push
                && !request.registries.insecure
        );
        assert_eq!((request.target.stage, request.target.source_date_epoch), (None, None));
    }

    #[test]
    fn destinations_are_references() {
        let request = asked("-d app:1 -d 127.0.0.1:5000/team/app", &[]).unwrap();
        let names: Vec<_> = request.outputs.destinations.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["docker.io/library/app:1", "127.0.0.1:5000/team/app"]);
        assert!(request.registries.named_registries.iter().eq(["127.0.0.1:5000", "docker.io"]));
        assert!(request.outputs.push);
    }

    #[test]
    fn a_question_needs_no_destination() {
        for (line, question) in [
            ("--call outline", Question::Outline),
            ("--call=targets,format=json", Question::Targets),
            ("--check", Question::Check),
            ("--check --call=check", Question::Check),
            ("lint --offline", Question::Check),
            ("--dryrun", Question::Plan),
        ] {
            assert_eq!(asked_question(line, &[]).unwrap().question, question, "{line}");
        }
        assert!(asked_question("lint --offline", &[]).unwrap().offline);
        assert!(asked_question("--check --call=outline", &[]).unwrap_err().contains("only one of the two"));
    }

    #[test]
    fn a_level_that_is_not_above_zero_is_the_default() {
        let layers = |line: &str| asked(&format!("--no-push {line}"), &[]).unwrap().layers.options;
        assert_eq!((layers("").compression, layers("").level), (Compression::Gzip, None));
        assert_eq!(layers("--compression-level 0").level, None);
        assert_eq!(layers("--compression-level=-1 --compression zstd").level, None);
        assert_eq!(layers("--compression zstd --compression-level 22").level, Some(22));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let digest = format!("--destination app@sha256:{}", "a".repeat(64));
        for (line, message) in [
            ("", "you must provide --destination, or use --no-push"),
            ("--no-push=false", "you must provide --destination, or use --no-push"),
            (
                "--no-push --image-name-with-digest-file f",
                "you must provide --destination to use --image-name-with-digest-file",
            ),
            (
                "--no-push --image-name-tag-with-digest-file f",
                "you must provide --destination to use --image-name-tag-with-digest-file",
            ),
            ("--no-push --compression-level 10", "--compression-level cannot be 10: gzip has the levels 1 to 9"),
            ("--no-push --compression zstd --compression-level 23", "zstd has the levels 1 to 22"),
            ("-d App:1", "--destination \"App:1\" cannot be used: invalid image reference"),
            (&digest, "has a digest"),
            ("--no-push --build-context a", "it is not of the form name=location"),
            ("--no-push --build-context =/d", "it is not of the form name=location"),
            ("--no-push --build-context scratch=/d", "the name is reserved"),
            ("--no-push --build-context a=target:d", "only bake files know other targets"),
            ("--no-push --build-context a=oci-layout://", "--build-context \"a=oci-layout://\" cannot be used"),
            ("--no-push --build-context a::linux/arm64=/d", "not supported yet"),
            ("--no-push --build-context a=docker-image://X", "--build-context \"a=docker-image://X\" cannot be used"),
            ("--no-push --platform a/b/c/d", "--custom-platform \"a/b/c/d\" cannot be used"),
            ("--no-push --ignore-path a", "--ignore-path \"a\" cannot be used: it is not an absolute path"),
            ("--dryrun --check", "--dryrun prints the plan of a build"),
            ("--no-push --label x", "--label \"x\" is not of the form key=value"),
            ("--no-push --label =x", "--label \"=x\" is not of the form key=value"),
            ("--no-push --annotation x", "--annotation \"x\" is not of the form key=value"),
            ("--no-push --compression zstd --image-format docker", "--compression zstd needs --image-format oci"),
            ("--no-push --annotation a=b --image-format docker", "Docker's manifests have no annotations"),
            ("--no-push --registry-map x", "--registry-map cannot be \"x\": \"x\" is not of the form"),
            ("--no-push --build-arg =x", "--build-arg \"=x\" has no name"),
        ] {
            let error = asked(line, &[]).unwrap_err();
            assert!(error.contains(message), "{line}: {error}");
        }
    }

    #[test]
    fn the_environment_fills_in_what_was_not_typed() {
        assert_eq!(asked("--no-push", &[("KANIKO_DIR", "/k")]).unwrap().sandbox.work_dir, PathBuf::from("/k"));
        assert_eq!(
            asked("--no-push --work-dir /w", &[("KANIKO_DIR", "/k")]).unwrap().sandbox.work_dir,
            PathBuf::from("/w")
        );
        assert_eq!(
            asked("--no-push --work-dir=", &[("KANIKO_DIR", "")]).unwrap().sandbox.work_dir,
            PathBuf::from("/kaniko")
        );
        assert!(!asked("-d a", &[("KANIKO_NO_PUSH", "1")]).unwrap().outputs.push);
        assert!(asked("-d a --no-push=false", &[("KANIKO_NO_PUSH", "1")]).unwrap().outputs.push);
        for value in ["yes", ""] {
            assert_eq!(
                asked("-d a", &[("KANIKO_NO_PUSH", value)]).unwrap_err(),
                format!("environment variable KANIKO_NO_PUSH cannot be {value:?}: expected true or false")
            );
        }
    }

    #[test]
    fn build_arguments_without_a_value_take_it_from_the_environment() {
        let line = "--no-push --build-arg A=1=2 --build-arg B --build-arg C --build-arg D=";
        let pair = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert_eq!(
            asked(line, &[("B", "from outside"), ("A", "unused")]).unwrap().target.build_args,
            [pair("A", Some("1=2")), pair("B", Some("from outside")), pair("C", None), pair("D", Some(""))]
        );
    }

    #[test]
    fn labels_keep_their_order_and_target_may_be_empty() {
        let request = asked("--no-push --label b=1 --label a=x=y --label c= --target=", &[]).unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(request.target.labels, [pair("b", "1"), pair("a", "x=y"), pair("c", "")]);
        assert_eq!(request.target.stage, None);
        assert_eq!(asked("--no-push --target Build", &[]).unwrap().target.stage.as_deref(), Some("Build"));
    }

    #[test]
    fn empty_paths_are_not_given() {
        let line = "--no-push --digest-file= --tar-path= --oci-layout-path= --context-sub-path= \
                    --image-name-with-digest-file= --image-name-tag-with-digest-file=";
        let request = asked(line, &[]).unwrap();
        assert_eq!((request.outputs.digest_files, request.outputs.outputs.len()), (DigestFiles::default(), 0));
        assert_eq!(request.inputs.context_sub_path, None);
    }

    #[test]
    fn source_date_epoch_is_a_time_an_image_can_have_and_a_build_argument() {
        let epoch = |line, value| {
            let request = asked(line, &[("SOURCE_DATE_EPOCH", value)])?;
            let arguments: Vec<String> = request.target.build_args.into_iter().filter_map(|(_, value)| value).collect();
            Ok::<_, String>((request.target.source_date_epoch, arguments))
        };
        let both = |seconds: i64| Ok((Some(seconds), vec![seconds.to_string()]));
        assert_eq!(epoch("--no-push", "1700000000"), both(1_700_000_000));
        assert_eq!(epoch("--no-push", "0"), both(0));
        assert_eq!(epoch("--no-push", ""), Ok((None, Vec::new())));
        assert_eq!(epoch("--no-push --build-arg SOURCE_DATE_EPOCH=5", "7"), both(5));
        assert_eq!(epoch("--no-push --build-arg SOURCE_DATE_EPOCH=", "7"), Ok((None, vec![String::new()])));
        assert_eq!(epoch("--no-push --build-arg SOURCE_DATE_EPOCH", "7"), both(7));
        assert!(epoch("--no-push", "yesterday").unwrap_err().contains("cannot be \"yesterday\": expected the seconds"));
        assert!(epoch("--no-push", "253402300800").unwrap_err().contains("within the years 1 to 9999"));
    }
}
