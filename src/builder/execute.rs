//! Executes the plan of a build. If a cached layer turns out to be unusable, executes it again without that layer.

use std::path::{Path, PathBuf};

use crate::cache::{LayerFormat, Retention};
use crate::diag::{CacheMountsSummary, CacheSummary, Phase, Summary, interrupt, with_causes};
use crate::executor::{
    self, BuiltLayer, ContentCache, ExecutorError, LayerObserver, Resolution, ResolveOptions, Resources,
    SharedCacheMounts, resolve,
};
use crate::fs::Removals;
use crate::image::Image;
use crate::layer::LayerOptions;
use crate::registry::Traffic;
use crate::sandbox::{Chosen, InPlace, SandboxError};
use crate::snapshot::IgnoredPaths;

use super::cache_mounts::CacheMounts;
use super::dockerfile;
use super::early_uploads::EarlyUploads;
use super::error::BuildError;
use super::prepare::Prepared;
use super::publish::{assemble, publish, summary};
use super::request::{BuildRequest, OutputsRequest};
use super::sandboxes;
use super::session::Session;
use super::step_cache::{Attempt, Environment, StepCache};

/// The directory of cache mounts below the work directory.
const CACHES: &str = "caches";

/// The directory of the stages' root directories.
pub(super) struct RootfsDirectory {
    /// The directory that outlives the build.
    pub(super) parent: PathBuf,
    /// The build's own directory in it.
    pub(super) path: PathBuf,
}

/// The chosen sandbox, before it is known whether a `RUN` executes.
pub(super) struct UnopenedSandbox {
    pub(super) sandbox: Result<Chosen, SandboxError>,
    /// Released when sandboxes are opened, because a build with commands locks the files itself. A build without
    /// commands holds it to its end.
    pub(super) in_place: Option<InPlace>,
}

/// An image that was built and published.
struct Published {
    image: Image,
    /// The places where it was published.
    images: Vec<String>,
    /// The number of steps whose layer was made because the cache had none.
    executed: usize,
}

/// A build that is ready to run.
pub(super) struct Execution<'a> {
    request: &'a BuildRequest,
    session: &'a Session,
    prepared: &'a Prepared,
    rootfs: &'a RootfsDirectory,
    uploads: Option<&'a EarlyUploads<'a>>,
    cache: Option<StepCache<'a>>,
    cache_mounts: Option<CacheMounts<'a>>,
}

impl<'a> Execution<'a> {
    /// Looks up all steps in the cache.
    pub(super) fn new(
        request: &'a BuildRequest,
        session: &'a Session,
        prepared: &'a Prepared,
        rootfs: &'a RootfsDirectory,
        uploads: Option<&'a EarlyUploads<'a>>,
        format: &'a LayerFormat,
    ) -> Self {
        let cache = request.cache.layers.as_ref().zip(prepared.bases.as_ref()).map(|(cache, bases)| {
            let OutputsRequest { destinations, push, .. } = &request.outputs;
            let env = Environment {
                session,
                plan: &prepared.plan,
                context: &prepared.context,
                named_contexts: &prepared.named_contexts,
                remotes: &prepared.remotes,
                work_directory: session.work_dir(),
                dockerfile: dockerfile::name(request),
                bases,
                destinations: if *push { destinations } else { &[] },
                format,
            };
            let _phase = session.progress.phase(Phase::Cache);
            StepCache::open(cache, env)
        });
        let mounts = request.cache.mounts.as_ref();
        let cache_mounts = mounts.map(|mounts| CacheMounts::new(mounts, session, &prepared.plan));
        Self { request, session, prepared, rootfs, uploads, cache, cache_mounts }
    }

    /// Executes the plan, publishes the image, and writes the caches.
    pub(super) fn run(self, unopened: UnopenedSandbox) -> Result<Summary, BuildError> {
        let progress = &self.session.progress;
        let published = self.attempts(unopened);
        if let Some(cache) = &self.cache {
            let _phase = progress.phase(Phase::Cache);
            cache.finish(published.is_ok(), published.as_ref().map_or(0, |published| published.executed));
        }
        if let Some(mounts) = &self.cache_mounts {
            let _phase = progress.phase(Phase::Cache);
            mounts.finish();
        }
        let Published { image, images, executed } = published.map_err(|error| match self.uploads {
            Some(uploads) => uploads.cancel(error),
            None => error,
        })?;
        let cache = self.cache.is_some().then(|| self.cache_summary(executed));
        let mounts: Option<CacheMountsSummary> = self.cache_mounts.as_ref().map(CacheMounts::summary);
        Ok(summary(self.session, &image, images, cache, mounts))
    }

    fn attempts(&self, unopened: UnopenedSandbox) -> Result<Published, BuildError> {
        let Self { request, session, prepared, .. } = *self;
        let options = ResolveOptions {
            single_snapshot: request.layers.single_snapshot,
            base_layers: base_layer_retention(&request.outputs),
        };
        let removals = Removals::default();
        let mut resources = self.resources(&removals);
        let mut unopened = Some(unopened);
        let may_retry = || interrupt::requested().is_none();
        for number in 1_u64.. {
            let attempt = self.cache.as_ref().map(Attempt::new);
            let hits = attempt.as_ref().map(Attempt::hits).unwrap_or_default();
            let resolution = resolve(&prepared.plan, &hits, options);
            self.start_fetching(&resolution);
            self.open_sandboxes(&resolution, &mut unopened, &mut resources)?;
            let content_cache = attempt.as_ref().map(|attempt| -> &dyn ContentCache { attempt });
            let layers = match executor::execute(&prepared.plan, &resolution, content_cache, &resources) {
                Ok(layers) => layers,
                Err(ExecutorError::CachedLayer { digest, cause })
                    if may_retry() && attempt.as_ref().is_some_and(|attempt| attempt.reject(&digest)) =>
                {
                    tracing::warn!("cached layer {digest}: cannot be used: {}", with_causes(&cause));
                    self.use_directories_of(number + 1, &mut resources)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let image = self.image(layers.clone())?;
            match publish(&image, &request.outputs, self.uploads, &resources.directory, session) {
                Ok(images) => {
                    return Ok(Published { image, images, executed: attempt.as_ref().map_or(0, Attempt::executed) });
                }
                Err(_) if may_retry() && attempt.as_ref().is_some_and(|attempt| attempt.reject_unusable(&layers)) => {
                    self.use_directories_of(number + 1, &mut resources)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(BuildError::Endless)
    }

    fn image(&self, layers: Vec<BuiltLayer>) -> Result<Image, BuildError> {
        let created = self.prepared.epoch.unwrap_or_else(super::session::now);
        let image = assemble(&self.prepared.plan, layers, created)?;
        let target = &self.request.target;
        Ok(image.into_format(target.image_format, target.annotations.clone())?)
    }

    /// Starts to fetch the inputs of the steps, and to mount the base's layers in repositories.
    fn start_fetching(&self, resolution: &Resolution) {
        let Prepared { plan, base_layers, remotes, .. } = self.prepared;
        base_layers.prefetch(plan, resolution);
        if let Some(uploads) = self.uploads {
            uploads.mount_base_layers(plan, base_layers);
        }
        remotes.prefetch(plan, resolution);
    }

    /// Opens the sandboxes if a `RUN` executes and they are not open yet. Before that, a missing sandbox is not an
    /// error.
    fn open_sandboxes(
        &self,
        resolution: &Resolution,
        unopened: &mut Option<UnopenedSandbox>,
        resources: &mut Resources<'_>,
    ) -> Result<(), BuildError> {
        let plan = &self.prepared.plan;
        if let Some(UnopenedSandbox { sandbox, in_place }) =
            unopened.take_if(|_| sandboxes::are_needed(plan, resolution))
        {
            drop(in_place);
            let Resources { parallel, directory, progress, .. } = &*resources;
            resources.sandboxes = sandboxes::open(plan, sandbox, *parallel, &self.rootfs.parent, directory, progress)?;
        }
        Ok(())
    }

    fn resources<'r>(&'r self, removals: &'r Removals) -> Resources<'r> {
        let Self { request, session, prepared, .. } = self;
        Resources {
            context: &prepared.context,
            named_contexts: &prepared.named_contexts,
            layer_observer: self.uploads.map(|uploads| -> &dyn LayerObserver { uploads }),
            base_layers: &prepared.base_layers,
            remote_sources: &prepared.remotes,
            secrets: &prepared.secrets,
            ssh_agents: &prepared.agents,
            cache_mounts_directory: session.work_dir().join(CACHES),
            shared_cache_mounts: self.cache_mounts.as_ref().map(|mounts| -> &dyn SharedCacheMounts { mounts }),
            sandboxes: Vec::new(),
            parallel: request.sandbox.parallel.unwrap_or_else(default_parallel),
            directory: session.directory().to_owned(),
            trees: self.rootfs.path.clone(),
            ignored_paths: request.layers.ignored_paths.clone(),
            removals,
            layers: prepared.layers.clone(),
            single_snapshot: request.layers.single_snapshot,
            progress: session.progress.clone(),
        }
    }

    /// Gives a repeated attempt its own directories, below those of the build.
    fn use_directories_of(&self, attempt: u64, resources: &mut Resources<'_>) -> Result<(), BuildError> {
        let below = |parent: &Path| -> Result<PathBuf, BuildError> {
            let path = parent.join(format!("attempt-{attempt}"));
            crate::fs::create_dir_all(&path).map_err(BuildError::WorkDirectory)?;
            Ok(path)
        };
        resources.directory = below(self.session.directory())?;
        resources.trees = below(&self.rootfs.path)?;
        Ok(())
    }

    fn cache_summary(&self, executed: usize) -> CacheSummary {
        let steps = self.prepared.plan.steps().filter(|(_, step)| step.action.makes_layer()).count();
        let Traffic { requests, received, sent } = self.session.client.traffic();
        CacheSummary { steps, executed, requests, received, sent }
    }
}

/// Returns how long outputs need the layers of base images after unpacking.
fn base_layer_retention(outputs: &OutputsRequest) -> Retention {
    match (outputs.outputs.is_empty(), outputs.push) {
        (false, _) => Retention::Keep,
        (true, true) => Retention::UntilUploaded,
        (true, false) => Retention::Ephemeral,
    }
}

/// Every setting that affects layer bytes, in the form that goes into cache keys.
pub(super) fn layer_format(layers: &LayerOptions, ignored: &IgnoredPaths) -> LayerFormat {
    LayerFormat {
        compression: layers.compression.name().to_owned(),
        level: layers.level,
        left_out: ignored.patterns(),
        clamp_mtime: layers.clamp_mtime,
    }
}

/// Returns the default number of stages that run at a time. It is larger than the number of processors, because stages
/// also wait for disks, networks and each other.
fn default_parallel() -> usize {
    std::thread::available_parallelism().map_or(4, |count| (2 * count.get()).max(4))
}
