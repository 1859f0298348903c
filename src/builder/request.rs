//! The request of one build: the validated command line, grouped by purpose.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::cache::{Authenticator, CacheLocation, WarmImages};
use crate::diag::redact::Secret;
use crate::executor::copy::UnpackLimits;
use crate::image::{ImageFormat, Platform, Reference};
use crate::layer::LayerOptions;
use crate::location::ContextLocation;
use crate::plan::NamedContext;
use crate::push::{DigestFiles, Output, Reports};
use crate::registry::ClientConfig;
use crate::sandbox::{Isolation, OwnRootConsent};
use crate::secret::SecretSource;
use crate::snapshot::IgnoredPaths;
use crate::ssh::SshSource;

/// One build. Every field has been validated on its own; the build validates what depends on files or registries.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The inputs of the build.
    pub inputs: InputsRequest,
    /// The stages to build, and the image's properties.
    pub target: TargetRequest,
    /// The outputs.
    pub outputs: OutputsRequest,
    /// The caches.
    pub cache: CachesRequest,
    /// The execution of steps.
    pub sandbox: SandboxRequest,
    /// The access to registries.
    pub registries: ClientConfig,
    /// The format of layers.
    pub layers: LayersRequest,
}

/// The build context, the Dockerfile, and other inputs of steps.
#[derive(Debug, Clone)]
pub struct InputsRequest {
    /// `--context`, and `--git` with it.
    pub context: ContextLocation,
    /// `--context-sub-path`.
    pub context_sub_path: Option<String>,
    /// `--context-max-size` and `--context-max-entries`: limits of an unpacked archive.
    pub context_limits: UnpackLimits,
    /// `GIT_USERNAME` or `GIT_TOKEN`, and `GIT_PASSWORD`: for the server of a context that is a repository.
    pub git_login: Option<(String, Secret<String>)>,
    /// `--build-context`; directories have numbers in `context_directories`.
    pub contexts: Vec<NamedContext>,
    /// The directories of `--build-context`.
    pub context_directories: Vec<String>,
    /// `--dockerfile`: first relative to the current directory if the command line names it, then below the context.
    pub dockerfile: String,
    /// Whether the command line names it.
    pub dockerfile_is_named: bool,
    /// `--secret`.
    pub secrets: Vec<SecretSource>,
    /// `--ssh`.
    pub ssh: Vec<SshSource>,
}

/// The stages to build, and the image's properties.
#[derive(Debug, Clone)]
pub struct TargetRequest {
    /// `--target`, the first: the stage that becomes the image.
    pub stage: Option<String>,
    /// `--target`, the others: stages that are built too, and whose results are discarded.
    pub also_built: Vec<String>,
    /// `--build-arg`, and `SOURCE_DATE_EPOCH` of the environment. `None` is a name without a value.
    pub build_args: Vec<(String, Option<String>)>,
    /// `--custom-platform`; `None` is the platform of this machine.
    pub platform: Option<Platform>,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// `--image-format`.
    pub image_format: ImageFormat,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub source_date_epoch: Option<i64>,
}

/// The image's names and outputs.
#[derive(Debug, Clone, Default)]
pub struct OutputsRequest {
    /// `--destination` and `--tag`: the image's names.
    pub destinations: Vec<Reference>,
    /// Whether the image is pushed under its names.
    pub push: bool,
    /// Not `--skip-push-permission-check`.
    pub check_push: bool,
    /// `--push-ignore-immutable-tag-errors`.
    pub ignore_immutable_tags: bool,
    /// `--output`, `--tar-path` and `--oci-layout-path`.
    pub outputs: Vec<Output>,
    /// `--metadata-file`, `--iidfile` and `BUILDER_OUTPUT`.
    pub reports: Reports,
    /// `--digest-file` and its relatives.
    pub digest_files: DigestFiles,
    /// `KANIKO_PRINT_PLAN`: print the plan before executing it.
    pub print_plan: bool,
}

/// The caches of a build.
#[derive(Debug, Clone, Default)]
pub struct CachesRequest {
    /// `--cache` and related flags.
    pub layers: Option<CacheRequest>,
    /// `--cache-mounts-repo` and related flags.
    pub mounts: Option<CacheMountsRequest>,
    /// `--cache-dir`, with `--cache`: base images that `warmer` has fetched.
    pub warm_images: Option<WarmImages>,
}

/// The execution of steps.
#[derive(Debug, Clone)]
pub struct SandboxRequest {
    /// `--isolation`: how RUN is isolated.
    pub isolation: Isolation,
    /// `--force` and `--pre-cleanup`: where own-root may run.
    pub own_root: OwnRootConsent,
    /// `--work-dir`: the directory of blobs, stage roots and layers during the build.
    pub work_dir: PathBuf,
    /// `--parallel`: the number of stages that run at a time.
    pub parallel: Option<usize>,
}

/// The format of layers.
#[derive(Debug, Clone, Default)]
pub struct LayersRequest {
    /// `--compression` and `--compression-level`.
    pub options: LayerOptions,
    /// `--single-snapshot`: one layer for each stage.
    pub single_snapshot: bool,
    /// `--ignore-path`: paths that no layer contains.
    pub ignored_paths: IgnoredPaths,
    /// `--reproducible`: file times in layers are at most `SOURCE_DATE_EPOCH`; without that, all times are 1970.
    pub reproducible: bool,
}

/// The use of the layer cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRequest {
    /// `--cache-repo`, or the default that follows from the destination.
    pub location: CacheLocation,
    /// `--cache-ttl`.
    pub lifetime: Duration,
    /// `--cache-run-layers`.
    pub run_layers: bool,
    /// `--cache-copy-layers`; by default only layers of the image.
    pub copy_layers: Option<bool>,
    /// `--cache-key-file`.
    pub authenticator: Option<Authenticator>,
    /// Not `--no-cache`.
    pub read: bool,
    /// Not `--no-push-cache`.
    pub write: bool,
}

/// The exchange of cache mounts between machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMountsRequest {
    /// `--cache-mounts-repo`.
    pub location: CacheLocation,
    /// `--cache-mounts-limit`: the most bytes of a cache mount.
    pub limit: u64,
    /// `--cache-key-file`.
    pub authenticator: Option<Authenticator>,
    /// Not `--no-cache`.
    pub read: bool,
    /// Not `--no-push-cache`.
    pub write: bool,
}

/// A question about a Dockerfile instead of a build (`--call`, `--check`, `--dryrun`).
#[derive(Debug, Clone)]
pub struct QuestionRequest {
    /// The question.
    pub question: Question,
    /// The format of the answer.
    pub format: Format,
    /// Whether a check must not use registries.
    pub offline: bool,
    /// The build that the question is about.
    pub build: BuildRequest,
}

/// A question about a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Its warnings and errors.
    Check,
    /// The arguments, secrets and cache mounts of its target.
    Outline,
    /// Its targets.
    Targets,
    /// The steps of the build (`--dryrun`).
    Plan,
}

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// A push of an existing image (`crabwright push`).
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// An archive or an OCI layout.
    pub image: PathBuf,
    /// The outputs.
    pub outputs: OutputsRequest,
    /// The access to registries.
    pub registries: ClientConfig,
    /// `--work-dir`.
    pub work_dir: PathBuf,
}
