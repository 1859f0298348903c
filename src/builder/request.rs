//! What one build is asked to do: the command line, validated.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::cache::{Authenticator, Place, WarmImages};
use crate::diag::redact::Secret;
use crate::executor::copy::Limits;
use crate::image::{ImageFormat, Platform, Reference};
use crate::layer::LayerOptions;
use crate::location::ContextLocation;
use crate::plan::NamedContext;
use crate::push::{Output, Reports};
use crate::registry::ClientConfig;
use crate::sandbox::{Isolation, OwnRootConsent};
use crate::secret::SecretSource;
use crate::snapshot::IgnoredPaths;
use crate::ssh::SshSource;

use super::call::{Call, Format};

/// One build. Every field has been checked on its own; what depends on files or registries is checked by the build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// `--call` and `--check`: what to do with the Dockerfile.
    pub call: Call,
    /// How the answer to a call that is no build is written.
    pub format: Format,
    /// A check asks no registry.
    pub offline: bool,
    /// `--context`, and `--git` with it.
    pub context: ContextLocation,
    /// `GIT_USERNAME` or `GIT_TOKEN`, and `GIT_PASSWORD`: for the server of a context that is a repository.
    pub git_login: Option<(String, Secret<String>)>,
    /// `--context-max-size` and `--context-max-entries`: what an archive may unpack to.
    pub context_limits: Limits,
    /// `--build-context`; directories have numbers in `context_directories`.
    pub contexts: Vec<NamedContext>,
    /// The directories of `--build-context`.
    pub context_directories: Vec<String>,
    /// `--ssh`.
    pub ssh: Vec<SshSource>,
    /// `--secret`.
    pub secrets: Vec<SecretSource>,
    /// `--context-sub-path`.
    pub context_sub_path: Option<String>,
    /// `--dockerfile`: tried as given if the command line names it, then below the context.
    pub dockerfile: String,
    /// Whether the command line names it.
    pub dockerfile_is_named: bool,
    /// `--destination` and `--tag`: the image's names.
    pub destinations: Vec<Reference>,
    /// The image is pushed under its names.
    pub push: bool,
    /// `--output`, `--tar-path` and `--oci-layout-path`.
    pub outputs: Vec<Output>,
    /// `--metadata-file`, `--iidfile` and `BUILDER_OUTPUT`.
    pub reports: Reports,
    /// `--digest-file`.
    pub digest_file: Option<PathBuf>,
    /// `--image-name-with-digest-file`.
    pub image_name_with_digest_file: Option<PathBuf>,
    /// `--image-name-tag-with-digest-file`.
    pub image_name_tag_with_digest_file: Option<PathBuf>,
    /// `--build-arg`, and `SOURCE_DATE_EPOCH` of the environment; `None` is a name without a value here or there.
    pub build_args: Vec<(String, Option<String>)>,
    /// `--target`, the first: the stage that becomes the image.
    pub target: Option<String>,
    /// `--target`, the others: stages that are built too, and of which nothing is kept.
    pub also_built: Vec<String>,
    /// `--ignore-path`: what no layer gets.
    pub ignored_paths: IgnoredPaths,
    /// `KANIKO_PRINT_PLAN`: tell what will be done, and do it.
    pub print_plan: bool,
    /// `--custom-platform`: the image's, if it is not that of this machine.
    pub platform: Option<Platform>,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// `--image-format`.
    pub image_format: ImageFormat,
    /// Not `--skip-push-permission-check`.
    pub check_push: bool,
    /// `--push-ignore-immutable-tag-errors`.
    pub ignore_immutable_tags: bool,
    /// How registries are reached.
    pub registries: ClientConfig,
    /// `--cache` and what belongs to it.
    pub cache: Option<CacheRequest>,
    /// `--cache-mounts-repo` and what belongs to it.
    pub cache_mounts: Option<CacheMountsRequest>,
    /// `--cache-dir`, with `--cache`: base images that `warmer` has fetched.
    pub warm_images: Option<WarmImages>,
    /// `--isolation`: how RUN is isolated.
    pub isolation: Isolation,
    /// `--force` and `--pre-cleanup`: where own-root may run.
    pub own_root: OwnRootConsent,
    /// `--work-dir`: where blobs, stage roots and layers are kept while the build runs.
    pub work_dir: PathBuf,
    /// `--parallel`: how many stages run at a time.
    pub parallel: Option<usize>,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub source_date_epoch: Option<i64>,
    /// `--reproducible`: file times in layers are at most `SOURCE_DATE_EPOCH`, and without it everything is from 1970.
    pub reproducible: bool,
    /// `--compression` and `--compression-level`.
    pub layers: LayerOptions,
    /// `--single-snapshot`: one layer for each stage.
    pub single_snapshot: bool,
    /// `--snapshot-mode`: accepted for compatibility.
    pub snapshot_mode: SnapshotMode,
}

/// What `--snapshot-mode` asks for. Every mode finds the changes that `Full` finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotMode {
    /// Compare contents.
    #[default]
    Full,
    /// Compare metadata.
    Redo,
    /// Compare modification times.
    Time,
}

/// How layers of earlier builds are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRequest {
    /// `--cache-repo`, or what follows from the destination.
    pub place: Place,
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
    pub place: Place,
    /// `--cache-mounts-limit`: bytes that a cache may have.
    pub limit: u64,
    /// `--cache-key-file`.
    pub authenticator: Option<Authenticator>,
    /// Not `--no-cache`.
    pub read: bool,
    /// Not `--no-push-cache`.
    pub write: bool,
}
