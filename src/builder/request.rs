//! What one build is asked to do: the command line, validated, in groups by purpose.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::cache::{Authenticator, CacheLocation, WarmImages};
use crate::diag::redact::Secret;
use crate::executor::copy::Limits;
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

/// One build. Every field has been checked on its own; what depends on files or registries is checked by the build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// What is built from.
    pub inputs: InputsRequest,
    /// What is built of it.
    pub target: TargetRequest,
    /// Where the image goes.
    pub outputs: OutputsRequest,
    /// What earlier builds left.
    pub cache: CachesRequest,
    /// Where and how steps execute.
    pub sandbox: SandboxRequest,
    /// How registries are reached.
    pub registries: ClientConfig,
    /// What becomes of changed files.
    pub layers: LayersRequest,
}

/// The build context, the Dockerfile, and what steps may read besides.
#[derive(Debug, Clone)]
pub struct InputsRequest {
    /// `--context`, and `--git` with it.
    pub context: ContextLocation,
    /// `--context-sub-path`.
    pub context_sub_path: Option<String>,
    /// `--context-max-size` and `--context-max-entries`: what an archive may unpack to.
    pub context_limits: Limits,
    /// `GIT_USERNAME` or `GIT_TOKEN`, and `GIT_PASSWORD`: for the server of a context that is a repository.
    pub git_login: Option<(String, Secret<String>)>,
    /// `--build-context`; directories have numbers in `context_directories`.
    pub contexts: Vec<NamedContext>,
    /// The directories of `--build-context`.
    pub context_directories: Vec<String>,
    /// `--dockerfile`: tried as given if the command line names it, then below the context.
    pub dockerfile: String,
    /// Whether the command line names it.
    pub dockerfile_is_named: bool,
    /// `--secret`.
    pub secrets: Vec<SecretSource>,
    /// `--ssh`.
    pub ssh: Vec<SshSource>,
}

/// The stages to build, and what the image says of itself.
#[derive(Debug, Clone)]
pub struct TargetRequest {
    /// `--target`, the first: the stage that becomes the image.
    pub stage: Option<String>,
    /// `--target`, the others: stages that are built too, and whose results are discarded.
    pub also_built: Vec<String>,
    /// `--build-arg`, and `SOURCE_DATE_EPOCH` of the environment; `None` is a name without a value here or there.
    pub build_args: Vec<(String, Option<String>)>,
    /// `--custom-platform`: the image's, if it is not that of this machine.
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

/// The image's names, and everything that is written of it.
#[derive(Debug, Clone, Default)]
pub struct OutputsRequest {
    /// `--destination` and `--tag`: the image's names.
    pub destinations: Vec<Reference>,
    /// The image is pushed under its names.
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
    /// `KANIKO_PRINT_PLAN`: the plan is printed before it is executed.
    pub print_plan: bool,
}

/// The caches of a build.
#[derive(Debug, Clone, Default)]
pub struct CachesRequest {
    /// `--cache` and what belongs to it.
    pub layers: Option<CacheRequest>,
    /// `--cache-mounts-repo` and what belongs to it.
    pub mounts: Option<CacheMountsRequest>,
    /// `--cache-dir`, with `--cache`: base images that `warmer` has fetched.
    pub warm_images: Option<WarmImages>,
}

/// Where steps execute.
#[derive(Debug, Clone)]
pub struct SandboxRequest {
    /// `--isolation`: how RUN is isolated.
    pub isolation: Isolation,
    /// `--force` and `--pre-cleanup`: where own-root may run.
    pub own_root: OwnRootConsent,
    /// `--work-dir`: where blobs, stage roots and layers are kept while the build runs.
    pub work_dir: PathBuf,
    /// `--parallel`: how many stages run at a time.
    pub parallel: Option<usize>,
}

/// How layers are made.
#[derive(Debug, Clone, Default)]
pub struct LayersRequest {
    /// `--compression` and `--compression-level`.
    pub options: LayerOptions,
    /// `--single-snapshot`: one layer for each stage.
    pub single_snapshot: bool,
    /// `--ignore-path`: what no layer gets.
    pub ignored_paths: IgnoredPaths,
    /// `--reproducible`: file times in layers are at most `SOURCE_DATE_EPOCH`, and without it everything is from 1970.
    pub reproducible: bool,
}

/// How layers of earlier builds are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRequest {
    /// `--cache-repo`, or what follows from the destination.
    pub location: CacheLocation,
    /// `--cache-ttl`.
    pub lifetime: Duration,
    /// `--cache-run-layers`.
    pub run_layers: bool,
    /// `--cache-copy-layers`; if not given, those that are part of the image.
    pub copy_layers: Option<bool>,
    /// `--cache-key-file`.
    pub authenticator: Option<Authenticator>,
    /// Not `--no-cache`.
    pub read: bool,
    /// Not `--no-push-cache`.
    pub write: bool,
}

/// How caches of `RUN --mount=type=cache` go from machine to machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMountsRequest {
    /// `--cache-mounts-repo`.
    pub location: CacheLocation,
    /// `--cache-mounts-limit`: bytes that a cache may have.
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
    /// What is asked.
    pub question: Question,
    /// How the answer is written.
    pub format: Format,
    /// A check asks no registry.
    pub offline: bool,
    /// The build that it is asked about.
    pub build: BuildRequest,
}

/// What can be asked about a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What is wrong with it.
    Check,
    /// The arguments, secrets and caches of its target.
    Outline,
    /// Its targets.
    Targets,
    /// The steps of the build (`--dryrun`).
    Plan,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For a person.
    #[default]
    Text,
    /// For a program: one object.
    Json,
}

/// A push of an image that exists already (`crabwright push`).
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// An archive, or an OCI layout.
    pub image: PathBuf,
    /// Where the image goes.
    pub outputs: OutputsRequest,
    /// How registries are reached.
    pub registries: ClientConfig,
    /// `--work-dir`.
    pub work_dir: PathBuf,
}
