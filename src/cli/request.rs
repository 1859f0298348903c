//! The flags of a build and the environment to a validated request: what one group alone cannot decide.

use super::env::{Env, EnvError};
use super::flags::BuildFlags;
use super::flags::cache::CacheFlagError;
use super::flags::context::{ContextFlagError, ContextFlags, git_login};
use super::flags::dockerfile::{DockerfileFlagError, DockerfileFlags, build_arguments, platform, source_date_epoch};
use super::flags::image::{ImageFlagError, ImageFlags};
use super::flags::layer::LayerFlagError;
use super::flags::output::OutputFlagError;
use super::flags::question::QuestionFlagError;
use super::flags::registry::{RegistryFlagError, RegistryFlags};
use super::flags::sandbox::SandboxFlags;
use super::flags::secret::SecretFlags;
use super::flags::warmer::WarmerFlagError;
use crate::builder::{
    BuildRequest, CachesRequest, InputsRequest, LayersRequest, OutputsRequest, QuestionRequest, TargetRequest,
};
use crate::cache::CacheLocation;
use crate::diag::Hint;
use crate::secret::SourceError;
use crate::ssh::SshSourceError;

/// Flags that do not go together, or a value that is not valid. Each group of flags has its own errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The Dockerfile and its arguments.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileFlagError),
    /// Contexts.
    #[error(transparent)]
    Context(#[from] ContextFlagError),
    /// A secret.
    #[error(transparent)]
    Secret(#[from] SourceError),
    /// An SSH agent.
    #[error(transparent)]
    Ssh(#[from] SshSourceError),
    /// Names and outputs.
    #[error(transparent)]
    Output(#[from] OutputFlagError),
    /// Labels and annotations.
    #[error(transparent)]
    Image(#[from] ImageFlagError),
    /// Layers.
    #[error(transparent)]
    Layer(#[from] LayerFlagError),
    /// Registries.
    #[error(transparent)]
    Registry(#[from] RegistryFlagError),
    /// Caches.
    #[error(transparent)]
    Cache(#[from] CacheFlagError),
    /// Questions.
    #[error(transparent)]
    Question(#[from] QuestionFlagError),
    /// `warmer`.
    #[error(transparent)]
    Warmer(#[from] WarmerFlagError),
    /// A variable of the environment.
    #[error(transparent)]
    Environment(#[from] EnvError),
}

impl Hint for RequestError {
    fn hint(&self) -> Option<String> {
        // The messages name the flag and what it takes.
        None
    }
}

/// What the command line of a build asks for.
#[derive(Debug, Clone)]
pub enum Asked {
    /// An image.
    Build(BuildRequest),
    /// An answer about a Dockerfile.
    Question(QuestionRequest),
}

/// Checks what was typed and fills in what the environment says.
///
/// # Errors
/// See [`RequestError`].
pub fn request(flags: BuildFlags, env: Env<'_>) -> Result<Asked, RequestError> {
    let question = flags.question.question()?;
    let format = flags.question.call.format;
    let build = build_request(flags, question.is_some(), env)?;
    Ok(match question {
        None => Asked::Build(build),
        Some(question) => Asked::Question(QuestionRequest { question, format, offline: false, build }),
    })
}

/// Returns the build that flags describe; one without outputs where only a question is asked.
fn build_request(mut flags: BuildFlags, is_question: bool, env: Env<'_>) -> Result<BuildRequest, RequestError> {
    flags.kaniko.report(env)?;
    let image = flags.output.outputs(flags.kaniko.tar_path_camel.take(), is_question, env)?;
    let cache = flags.cache.request(flags.layers.single_snapshot, &image.names, image.push)?;
    let pushes = &flags.registries.push;
    let outputs = OutputsRequest {
        push: image.push,
        check_push: !pushes.skip_push_permission_check,
        ignore_immutable_tags: pushes.push_ignore_immutable_tag_errors,
        outputs: image.outputs,
        reports: flags.output.reports.reports(env),
        digest_files: flags.output.reports.digest_files(),
        print_plan: env.boolean("KANIKO_PRINT_PLAN")?.unwrap_or(false),
        destinations: image.names,
    };
    let mut registries = flags.registries.config(env)?;
    let locations =
        [cache.layers.as_ref().map(|cache| &cache.location), cache.mounts.as_ref().map(|cache| &cache.location)];
    let repositories = locations.into_iter().flatten().filter_map(CacheLocation::repository);
    let names = outputs.destinations.iter().chain(repositories);
    registries.named_registries.extend(names.map(|name| name.registry.clone()));
    if let Some(platform) = flags.kaniko.custom_platform_camel.take() {
        flags.dockerfile.custom_platform = Some(platform);
    }
    Ok(BuildRequest {
        target: target(&flags.dockerfile, &flags.target, &flags.image, env)?,
        inputs: inputs(flags.dockerfile, &flags.context, &flags.secrets, env)?,
        outputs,
        cache,
        sandbox: flags.sandbox.request(env)?,
        registries,
        layers: LayersRequest {
            options: flags.layers.options(flags.image.image_format)?,
            single_snapshot: flags.layers.single_snapshot,
            ignored_paths: flags.layers.ignored_paths()?,
            reproducible: flags.layers.reproducible || image.rewrite_timestamp,
        },
    })
}

/// Returns a build of which only the Dockerfile is read: nothing is executed, stored or written.
///
/// # Errors
/// A value is not valid.
pub(crate) fn read_only(
    inputs: InputsRequest,
    dockerfile: &DockerfileFlags,
    stages: &[String],
    registries: RegistryFlags,
    env: Env<'_>,
) -> Result<BuildRequest, RequestError> {
    Ok(BuildRequest {
        inputs,
        target: target(dockerfile, stages, &ImageFlags::default(), env)?,
        outputs: OutputsRequest::default(),
        cache: CachesRequest::default(),
        sandbox: SandboxFlags::default().request(env)?,
        registries: registries.config(env)?,
        layers: LayersRequest::default(),
    })
}

/// Returns what is built from.
///
/// # Errors
/// A value is not valid.
pub(crate) fn inputs(
    dockerfile: DockerfileFlags,
    context: &ContextFlags,
    secrets: &SecretFlags,
    env: Env<'_>,
) -> Result<InputsRequest, RequestError> {
    let (contexts, context_directories) = context.named_contexts()?;
    let (dockerfile, dockerfile_is_named) = dockerfile.dockerfile();
    Ok(InputsRequest {
        context: context.location(env)?,
        context_sub_path: context.sub_path(),
        context_limits: context.limits(),
        git_login: git_login(env)?,
        contexts,
        context_directories,
        dockerfile,
        dockerfile_is_named,
        secrets: secrets.secrets(env)?,
        ssh: secrets.agents(env)?,
    })
}

fn target(
    dockerfile: &DockerfileFlags,
    stages: &[String],
    image: &ImageFlags,
    env: Env<'_>,
) -> Result<TargetRequest, RequestError> {
    let build_args = build_arguments(&dockerfile.build_arg, env)?;
    let mut stages = stages.iter().filter(|stage| !stage.is_empty()).cloned();
    Ok(TargetRequest {
        stage: stages.next(),
        also_built: stages.collect(),
        source_date_epoch: source_date_epoch(&build_args)?,
        build_args,
        platform: platform(dockerfile.custom_platform.clone())?,
        labels: image.labels()?,
        annotations: image.annotations()?,
        image_format: image.image_format,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::builder::Question;
    use crate::cli::typed::{asked, asked_question};
    use crate::layer::Compression;
    use crate::location::ContextLocation;
    use crate::push::DigestFiles;
    use crate::sandbox::OwnRootConsent;

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
}
