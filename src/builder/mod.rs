//! The driver: context and Dockerfile in, plan, execution, image, outputs.
//!
//! The core is synchronous; this is the one place where it meets the network, through a runtime that only registry code
//! runs on.

mod cache_mounts;
mod call;
mod dockerfile;
mod early_uploads;
mod error;
mod images;
mod inputs;
mod known_bases;
mod layer_cache;
mod layouts;
mod outputs;
mod prune;
mod remotes;
mod request;
mod saved;
mod warmer;
mod work_directory;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::cache::{BlobStore, LayerFormat};
use crate::context::Context;
use crate::diag::progress::Progress;
use crate::diag::redact::Secret;
use crate::diag::{CacheSummary, Phase, Summary, interrupt, with_causes};
use crate::dockerfile::ast::Dockerfile;
use crate::executor::{
    self, AgentError, BuiltLayer, ExecutorError, KnownLayers, LayerObserver, Position, Resources, SharedCaches,
    SshAgents,
};
use crate::image::{AssembleError, Digest, Image, rfc3339};
use crate::layer::{Compression, LayerOptions};
use crate::lint::{self, Extent};
use crate::location::ContextLocation;
use crate::plan::{self, Plan, PlanError};
use crate::push::{self, DigestFiles, ExistingTags};
use crate::registry::{Client, ClientConfig, Traffic};
use crate::remote::Lookup;
use crate::sandbox::{Chosen, InPlace, Sandbox, SandboxError};
use crate::secret::{SecretError, Secrets};
use crate::snapshot::IgnoredPaths;
use crate::ssh::Agents;

use cache_mounts::CacheMounts;
use early_uploads::EarlyUploads;
use images::{Keeping, Layers, Registry, Remembering};
use known_bases::KnownBases;
use layer_cache::{StepCache, Surroundings};
use outputs::Outputs;
use remotes::Remotes;
use work_directory::WorkDirectory;

pub use call::{Answer, Call, Format, call};
pub use error::BuildError;
pub use outputs::FilesError;
pub use prune::{PruneRequest, prune_cache};
pub use request::{BuildRequest, CacheMountsRequest, CacheRequest, SnapshotMode};
pub use saved::{SavedImageError, push_saved};
pub use warmer::{WarmRequest, WarmSummary, warm};

/// Caches of `RUN --mount=type=cache`, below the work directory.
const CACHES: &str = "caches";

/// Bytes of stack of the network's threads: as many as the main thread has, which runs the same pushes.
const STACK: usize = 8 << 20;

/// Builds and delivers one image.
///
/// `sandbox` is what the probe chose, or why it could choose nothing: that matters only if the Dockerfile has a RUN.
///
/// # Errors
/// Whatever stopped the build; nothing has been tagged then.
pub fn build(
    request: &BuildRequest,
    sandbox: Result<Chosen, SandboxError>,
    progress: &Progress,
) -> Result<Summary, BuildError> {
    let mut work = Vec::new();
    let result = uninterrupted(request, sandbox, progress, &mut work);
    // Not earlier: only now that the network's tasks have ended does nobody write into it any more.
    let mut kept = None;
    for work in work {
        let path = work.path().to_owned();
        if let Err(error) = work.remove() {
            tracing::warn!("left behind: {error}");
            kept = Some(path);
        }
    }
    result.map_err(|error| match interrupt::requested() {
        Some(signal) => {
            tracing::debug!("what the signal ended: {error}");
            BuildError::Interrupted { signal, left: left_behind(&error, request, kept.as_deref()) }
        }
        None => error,
    })
}

/// What there is of a build that a signal ended: in registries, and on disk.
fn left_behind(error: &BuildError, request: &BuildRequest, kept: Option<&Path>) -> String {
    let pushed = match error {
        BuildError::Push(error) => error.left_behind(),
        _ => None,
    };
    let pushed = pushed.unwrap_or_else(|| "no tag was written".to_owned());
    match kept {
        Some(path) => format!("{pushed}; the build's files are left in {}", path.display()),
        None => format!("{pushed}; nothing of this build is left in {}", request.work_dir.display()),
    }
}

/// The build, without regard to signals: whatever they stop returns an error of its own.
fn uninterrupted(
    request: &BuildRequest,
    sandbox: Result<Chosen, SandboxError>,
    progress: &Progress,
    work: &mut Vec<WorkDirectory>,
) -> Result<Summary, BuildError> {
    // Processes with another current directory are told of paths in it.
    let work_dir = std::path::absolute(&request.work_dir)
        .map_err(|error| BuildError::WorkDirectory(crate::fs::Error::new("find", &request.work_dir, error)))?;
    let mut in_place = keep_in_place(request, sandbox.as_ref(), &work_dir)?;
    let secrets = Secrets::new(request.secrets.clone())?;
    let local = inputs::local_context(request)?;
    let (runtime, client) = connect(&request.registries, progress)?;
    let created = WorkDirectory::create(&work_dir).map_err(BuildError::WorkDirectory)?;
    let (work_dir, directory) = (created.parent().to_owned(), created.path().to_owned());
    work.push(created);
    let store = BlobStore::open(directory.join("blobs"))?;
    let agents = Agents::new(&request.ssh, directory.clone(), runtime.handle().clone())?;
    let logins = server_logins(&secrets, inputs::git_login(request))?;
    let keys = agents.keys("default")?;
    let remotes = Remotes::new(runtime.handle().clone(), directory.join("remote"), logins, keys, progress)?;
    let mut context = match local {
        Some(context) => context,
        None => inputs::fetched_context(request, &remotes, &directory)?,
    };
    let source = dockerfile::read(request, &mut context, &mut |location| Ok(remotes.file(location, None)?.path))?;
    let options = dockerfile::options(request);
    let file = dockerfile::parse(source, &options).map_err(BuildError::Dockerfile)?;
    let named_contexts = inputs::named_contexts(request, &remotes, &directory)?;

    let bases = KnownBases::new(request, &options, &client);
    let mut registry =
        Registry::new(runtime.handle().clone(), client.clone(), request.warm_images.clone(), bases.clone());
    let plan = plan(&file, &options, &context, &mut registry, progress)?;
    lend_warm_layers(request, &plan, &store);
    if request.print_plan {
        progress.text(call::plan_text(&plan, &file, request).trim_end());
    }
    let epoch = request.source_date_epoch.or(plan.source_date_epoch).or(request.reproducible.then_some(0));
    let missing = plan.missing(&|id| secrets.contains(id), &|id| agents.contains(id));
    if !missing.is_empty() {
        return Err(BuildError::Dockerfile(missing));
    }
    if request.push && request.check_push {
        runtime.block_on(push::check_destinations(&client, &request.destinations))?;
    }
    let uploads = EarlyUploads::new(request, runtime.handle(), &client, &store, progress)?;
    let clamp_mtime = epoch.filter(|_| request.reproducible);
    let layers = LayerOptions { clamp_mtime, ..request.layers.clone() };
    let cache = request.cache.as_ref().zip(bases.as_ref()).map(|(cache, bases)| {
        let around = Surroundings {
            plan: &plan,
            context: &context,
            named_contexts: &named_contexts,
            remotes: &remotes,
            runtime: runtime.handle(),
            client: &client,
            store: &store,
            work_directory: &work_dir,
            bases,
            dockerfile: dockerfile::name(request),
            destinations: if request.push { &request.destinations } else { &[] },
            format: layer_format(&layers, &request.ignored_paths),
            now: now(),
        };
        let _phase = progress.phase(Phase::Cache);
        StepCache::open(cache, around)
    });
    let cache_mounts = request.cache_mounts.as_ref().map(|mounts| {
        let around = cache_mounts::Surroundings {
            plan: &plan,
            runtime: runtime.handle(),
            client: &client,
            store: &store,
            progress,
            directory: &directory,
            now: now(),
        };
        CacheMounts::new(mounts, around)
    });
    let (trees_parent, trees) = match trees_parent(&plan, &sandbox, &work_dir) {
        Some(parent) => {
            let created = WorkDirectory::create(&parent).map_err(BuildError::WorkDirectory)?;
            let places = (created.parent().to_owned(), created.path().to_owned());
            work.push(created);
            places
        }
        None => (work_dir.clone(), directory.clone()),
    };
    let base_layers = Layers::new(registry, store.clone());
    let removals = crate::fs::Removals::default();
    let resources = Resources {
        context: &context,
        named_contexts: &named_contexts,
        known_layers: cache.as_ref().map(|cache| -> &dyn KnownLayers { cache }),
        layer_observer: uploads.as_ref().map(|uploads| -> &dyn LayerObserver { uploads }),
        base_layers: &base_layers,
        remote_sources: &remotes,
        secrets: &secrets,
        ssh_agents: &agents,
        caches: work_dir.join(CACHES),
        shared_caches: cache_mounts.as_ref().map(|mounts| -> &dyn SharedCaches { mounts }),
        sandboxes: Vec::new(),
        parallel: request.parallel.unwrap_or_else(default_parallel),
        directory: directory.clone(),
        trees,
        ignored_paths: request.ignored_paths.clone(),
        removals: &removals,
        layers: layers.clone(),
        single_snapshot: request.single_snapshot,
        progress: progress.clone(),
    };
    let uploads = uploads.as_ref();
    let work =
        Work { request, runtime: &runtime, client: &client, store: &store, uploads, progress, plan: &plan, epoch };
    let mut sandbox = Some(sandbox);
    let mut open = |resources: &Resources<'_>| {
        let is_carried_out = |position| cache.as_ref().is_none_or(|cache| cache.is_carried_out(position));
        base_layers.prefetch(&plan, request.single_snapshot, &is_carried_out, keeping(request));
        if let Some(uploads) = &uploads {
            uploads.take_over(&plan, &base_layers);
        }
        remotes.prefetch(&plan, &is_carried_out);
        if resources.sandboxes.is_empty() {
            // A build with commands has the files for itself.
            drop(in_place.take());
            open_sandboxes(&plan, &is_carried_out, &mut sandbox, &trees_parent, resources, progress)
        } else {
            Ok(Vec::new())
        }
    };
    let result = work.carry_out(resources, cache.as_ref(), &mut open);
    if let Some(cache) = &cache {
        let _phase = progress.phase(Phase::Cache);
        cache.finish(result.is_ok());
    }
    if let Some(mounts) = &cache_mounts {
        let _phase = progress.phase(Phase::Cache);
        mounts.finish();
    }
    let (image, images) = result.map_err(|error| match uploads {
        Some(uploads) => uploads.give_up(error),
        None => error,
    })?;
    Ok(Summary {
        images,
        digest: image.digest().to_string(),
        size: total_size(&image),
        layers: image.blobs.len(),
        disk: progress.disk_peak(),
        cache: cache.map(|cache| cache_summary(&cache, &client)),
        cache_mounts: cache_mounts.map(|mounts| mounts.summary()),
        elapsed: progress.elapsed(),
        phases: progress.phases(),
    })
}

/// What carrying a plan out needs besides its resources.
struct Work<'a> {
    request: &'a BuildRequest,
    runtime: &'a tokio::runtime::Runtime,
    client: &'a Client,
    store: &'a BlobStore,
    /// Those of a build that pushes.
    uploads: Option<&'a EarlyUploads<'a>>,
    progress: &'a Progress,
    plan: &'a Plan,
    epoch: Option<i64>,
}

impl Work<'_> {
    /// Executes the plan and delivers the image; again, and without it, whenever a layer of the cache turns out to be
    /// unusable. `open` starts fetching what will be needed, and opens the sandboxes that are not open yet.
    fn carry_out<'r>(
        &self,
        mut resources: Resources<'r>,
        cache: Option<&StepCache<'_>>,
        open: &mut dyn FnMut(&Resources<'r>) -> Result<Sandboxes, BuildError>,
    ) -> Result<(Image, Vec<String>), BuildError> {
        let places = (resources.directory.clone(), resources.trees.clone());
        for attempt in 1.. {
            let opened = open(&resources)?;
            resources.sandboxes.extend(opened);
            let layers = match (executor::execute(self.plan, &resources), cache) {
                (Err(ExecutorError::KnownLayer { digest, cause }), Some(cache))
                    if interrupt::requested().is_none() && cache.reject(&digest) =>
                {
                    tracing::warn!("the cached layer {digest} cannot be used: {}", with_causes(&cause));
                    begin_again(&mut resources, &places, attempt + 1)?;
                    continue;
                }
                (layers, _) => layers?,
            };
            let image = assemble(self.plan, layers.clone(), self.epoch)?;
            let image = image.into_format(self.request.image_format, self.request.annotations.clone())?;
            let _phase = self.progress.phase(Phase::Push);
            let Work { client, store, .. } = *self;
            let outputs = Outputs { image: &image, client, store, directory: &resources.directory };
            match deliver(&outputs, self.uploads, self.request, self.runtime) {
                Ok(images) => return Ok((image, images)),
                Err(_)
                    if interrupt::requested().is_none()
                        && cache.is_some_and(|cache| cache.reject_unusable(&layers)) =>
                {
                    begin_again(&mut resources, &places, attempt + 1)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(BuildError::Endless)
    }
}

/// Who wants the layers of base images when they have been unpacked.
fn keeping(request: &BuildRequest) -> Keeping {
    match (request.outputs.is_empty(), request.push) {
        (false, _) => Keeping::All,
        (true, true) => Keeping::Uploaded,
        (true, false) => Keeping::None,
    }
}

/// Gives another attempt directories of its own, below those of the build.
fn begin_again(
    resources: &mut Resources<'_>,
    (directory, trees): &(PathBuf, PathBuf),
    attempt: u64,
) -> Result<(), BuildError> {
    for (place, parent) in [(&mut resources.directory, directory), (&mut resources.trees, trees)] {
        *place = parent.join(format!("attempt-{attempt}"));
        crate::fs::create_dir_all(&*place).map_err(BuildError::WorkDirectory)?;
    }
    Ok(())
}

/// Sees to it that no other build's command takes away what this one works with.
fn keep_in_place(
    request: &BuildRequest,
    sandbox: Result<&Chosen, &SandboxError>,
    work_dir: &Path,
) -> Result<Option<InPlace>, BuildError> {
    let context = match &request.context {
        ContextLocation::Directory(path) => Some(Path::new(path)),
        _ => None,
    };
    let paths: Vec<&Path> = std::iter::once(work_dir).chain(context).collect();
    crate::sandbox::keep_in_place(sandbox, &paths).map_err(BuildError::InPlace)
}

/// The directory that stages must be made below, if that cannot be the work directory and a command may run.
fn trees_parent(plan: &Plan, sandbox: &Result<Chosen, SandboxError>, work_dir: &Path) -> Option<PathBuf> {
    let mut steps = layer_cache::positions(plan);
    let chosen =
        sandbox.as_ref().ok().filter(|_| steps.any(|(_, step)| matches!(step.action, plan::Action::Run(_))))?;
    let place = crate::sandbox::place_for_trees(chosen, work_dir)?;
    tracing::info!(
        "the stages' files are in {}, for {} is on another mount than /: own-root isolation renames them",
        place.display(),
        work_dir.display()
    );
    Some(place)
}

/// All that makes the bytes of layers other ones, as keys know it.
fn layer_format(layers: &LayerOptions, ignored: &IgnoredPaths) -> LayerFormat {
    let compression = match layers.compression {
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    };
    LayerFormat {
        compression: compression.to_owned(),
        level: layers.level,
        left_out: ignored.patterns(),
        clamp_mtime: layers.clamp_mtime,
    }
}

fn cache_summary(cache: &StepCache<'_>, client: &Client) -> CacheSummary {
    let (steps, carried_out) = cache.steps();
    let Traffic { requests, received, sent } = client.traffic();
    CacheSummary { steps, carried_out, requests, received, sent }
}

impl SshAgents for Agents {
    fn socket(&self, id: &str) -> Result<Option<PathBuf>, AgentError> {
        Ok(self.socket(id)?)
    }
}

/// The secrets that servers of files and repositories are told, and with them `own`, unless one of them is for repositories. They are read now, while an error can still be returned.
fn server_logins(secrets: &Secrets, own: Option<(String, Secret<String>)>) -> Result<Lookup, SecretError> {
    let mut logins: HashMap<String, Secret<String>> = HashMap::new();
    for id in secrets.ids().filter(|id| id.starts_with("HTTP_AUTH_") || id.starts_with("GIT_AUTH_")) {
        if let Some(value) = secrets.get(id)? {
            let text =
                String::from_utf8(value.reveal().clone()).map_err(|_| SecretError::NotText { id: id.to_owned() })?;
            logins.insert(id.to_owned(), Secret::new(text));
        }
    }
    if !logins.keys().any(|id| id.starts_with("GIT_AUTH_")) {
        logins.extend(own);
    }
    Ok(Arc::new(move |id| logins.get(id).cloned()))
}

/// A runtime for the network, and the client for every registry.
fn connect(config: &ClientConfig, progress: &Progress) -> Result<(tokio::runtime::Runtime, Client), BuildError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .map_err(BuildError::Runtime)?;
    let client = Client::new(ClientConfig { progress: progress.clone(), ..config.clone() })?;
    Ok((runtime, client))
}

/// Layers that are in the directory of warm images are read there.
fn lend_warm_layers(request: &BuildRequest, plan: &Plan, store: &BlobStore) {
    let Some(warm) = &request.warm_images else { return };
    for image in &plan.images {
        if let Some(layout) = warm.layout(&image.digest) {
            tracing::info!("{} is read from {}", image.reference, layout.display());
            store.lend(&layout, image.layers.iter().map(|layer| &layer.descriptor));
        }
    }
}

/// The plan, after the warnings about the Dockerfile have been printed: they may explain why there is none.
fn plan(
    file: &Dockerfile,
    options: &plan::Options,
    context: &Context,
    registry: &mut Registry,
    progress: &Progress,
) -> Result<Plan, BuildError> {
    let mut images = Remembering::new(registry);
    let plan = plan::plan(file, options, &mut images);
    // The plan has asked for every image that is needed: nobody is asked again.
    let report = lint::check(file, options, Extent::Build, Some(&context.ignore), Some(&mut images.answers()))?;
    call::tell_warnings(&report, &file.source, progress);
    let plan = plan.map_err(BuildError::Dockerfile)?;
    report.verdict()?;
    for warning in &plan.warnings {
        progress.line(format_args!("WARNING: {warning}"));
    }
    Ok(plan)
}

type Sandboxes = Vec<Mutex<Box<dyn Sandbox>>>;

/// A sandbox for each stage that may run at a time, or one for all. What the probe said matters only if there is a RUN that is
/// carried out.
fn open_sandboxes(
    plan: &Plan,
    is_carried_out: &dyn Fn(Position) -> bool,
    chosen: &mut Option<Result<Chosen, SandboxError>>,
    work_dir: &Path,
    resources: &Resources<'_>,
    progress: &Progress,
) -> Result<Sandboxes, BuildError> {
    let mut steps = layer_cache::positions(plan);
    let any = steps.any(|(position, step)| matches!(step.action, plan::Action::Run(_)) && is_carried_out(position));
    let Some(chosen) = chosen.take_if(|_| any) else { return Ok(Vec::new()) };
    let chosen = chosen.map_err(BuildError::NoSandbox)?;
    progress.line(&chosen);
    let mut sandboxes = Sandboxes::new();
    loop {
        let sandbox =
            crate::sandbox::open(&chosen, work_dir, &resources.directory, &[]).map_err(BuildError::NoSandbox)?;
        refuse_impossible_steps(plan, sandbox.as_ref())?;
        if sandboxes.is_empty() && !sandbox.features().host_name && has_host_name(plan) {
            progress.line(format_args!(
                "WARNING: {} isolation cannot set a host name: that of BUILDKIT_SANDBOX_HOSTNAME stands in /etc/hosts only",
                sandbox.name()
            ));
        }
        let alone = !sandbox.features().concurrent_commands;
        sandboxes.push(Mutex::new(sandbox));
        if alone || sandboxes.len() >= resources.parallel.min(plan.stages.len()) {
            return Ok(sandboxes);
        }
    }
}

fn has_host_name(plan: &Plan) -> bool {
    let mut steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    steps.any(|step| matches!(&step.action, plan::Action::Run(run) if run.host_name.is_some()))
}

/// What a sandbox cannot give is told before anything runs.
fn refuse_impossible_steps(plan: &Plan, sandbox: &dyn Sandbox) -> Result<(), BuildError> {
    let (isolation, mut errors) = (sandbox.name(), Vec::new());
    let features = sandbox.features();
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let plan::Action::Run(run) = &step.action else { continue };
        if run.offline && !features.offline_commands {
            let message = format!(
                "RUN --network=none is not possible with {isolation} isolation in a pod that may not install seccomp filters"
            );
            let help =
                "allow the system call seccomp in the pod's profile, or user namespaces (seccompProfile: Unconfined)";
            errors.push(PlanError::impossible(step, message, help));
        }
        for mount in &run.mounts {
            let is_memory = matches!(mount.source, plan::MountSource::Memory { .. });
            let Some(target) = &mount.target else { continue };
            if let Some(reason) = features.obstacle(Path::new(target), is_memory) {
                let message = format!("cannot mount over {target} with {isolation} isolation: {reason}");
                let help =
                    "mount it elsewhere, here or in the pod, or allow user namespaces (seccompProfile: Unconfined)";
                errors.push(PlanError::impossible(step, message, help));
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(BuildError::Dockerfile(errors)) }
}

/// How many stages run at a time unless the user says. More than there are processors: stages also wait for disks,
/// networks and each other.
fn default_parallel() -> usize {
    std::thread::available_parallelism().map_or(4, |count| (2 * count.get()).max(4))
}

/// Configuration and manifest of the target, as BuildKit writes them.
fn assemble(plan: &Plan, layers: Vec<BuiltLayer>, epoch: Option<i64>) -> Result<Image, AssembleError> {
    let target = &plan.stages[plan.target];
    let created = rfc3339(epoch.unwrap_or_else(now));
    let mut config = target.config.clone();
    config.created = Some(created.clone());
    let inherited = base_history_length(plan, plan.target);
    for entry in config.history.iter_mut().skip(inherited) {
        entry.created = Some(created.clone());
    }
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<Digest>>();
    Image::assemble(config, layers.into_iter().map(|layer| layer.blob).collect())
}

/// How many history entries come from the base image: those keep their time.
fn base_history_length(plan: &Plan, stage: usize) -> usize {
    match plan.stages[stage].base {
        plan::Base::Scratch => 0,
        plan::Base::Image(image) => plan.images[image].config.history.len(),
        plan::Base::Stage(parent) => base_history_length(plan, parent),
    }
}

/// Writes every output that was asked for, the push last; gives the places where the image can be found.
fn deliver(
    outputs: &Outputs<'_>,
    uploads: Option<&EarlyUploads<'_>>,
    request: &BuildRequest,
    runtime: &tokio::runtime::Runtime,
) -> Result<Vec<String>, BuildError> {
    let image = outputs.image;
    let files = DigestFiles {
        digest: request.digest_file.clone(),
        name_with_digest: request.image_name_with_digest_file.clone(),
        name_tag_with_digest: request.image_name_tag_with_digest_file.clone(),
    };
    let mut places = Vec::new();
    runtime.block_on(async {
        push::write_digest_files(&files, &image.digest(), &request.destinations).await?;
        for output in &request.outputs {
            outputs.write(output, &request.destinations).await?;
            places.push(output.to_string());
        }
        if let Some(EarlyUploads { uploads, .. }) = uploads {
            let tags = if request.ignore_immutable_tags { ExistingTags::KeepImmutable } else { ExistingTags::Replace };
            push::push(uploads, image, tags).await?;
            places.extend(request.destinations.iter().map(ToString::to_string));
        }
        let pushed = if request.push { request.destinations.as_slice() } else { &[] };
        push::write_reports(&request.reports, image, &request.destinations, pushed)?;
        Ok(places)
    })
}

/// Bytes of layers, configuration and manifest.
fn total_size(image: &Image) -> u64 {
    let layers: u64 = image.blobs.iter().map(|blob| blob.descriptor.size).sum();
    layers + u64::try_from(image.config_bytes.len() + image.manifest_bytes.len()).unwrap_or(u64::MAX)
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|elapsed| i64::try_from(elapsed.as_secs()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{SecretSource, SecretValue};

    #[test]
    fn servers_are_told_of_their_own_secrets_alone() {
        let secrets = |id: &str, value: &[u8]| {
            let value = SecretValue::Text(Secret::new(value.to_vec()));
            Secrets::new(vec![SecretSource { id: id.to_owned(), value }]).expect("readable")
        };
        let own = || Some(("GIT_AUTH_HEADER.h".to_owned(), Secret::new("own".to_owned())));
        let lookup = server_logins(&secrets("GIT_AUTH_TOKEN", b"t"), own()).expect("text");
        assert_eq!(lookup("GIT_AUTH_TOKEN"), Some(Secret::new("t".to_owned())));
        assert_eq!(lookup("GIT_AUTH_HEADER.h"), None);
        let lookup = server_logins(&secrets("other", b"t"), own()).expect("not looked at");
        assert_eq!(lookup("other"), None);
        assert_eq!(lookup("GIT_AUTH_HEADER.h"), Some(Secret::new("own".to_owned())));
        let error = server_logins(&secrets("HTTP_AUTH_TOKEN_a", &[255]), None).err().expect("no text");
        assert!(matches!(error, SecretError::NotText { .. }));
    }
}
