//! The driver: context and Dockerfile in, plan, execution, image, outputs.
//!
//! The core is synchronous; this is the one place where it meets the network, through a runtime that only registry code
//! runs on.

mod call;
mod dockerfile;
mod images;
mod inputs;
mod layouts;
mod outputs;
mod remotes;
mod request;
mod saved;
mod work_directory;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::cache::{BlobStore, StoreError};
use crate::context::{Context, ContextError};
use crate::diag::progress::Progress;
use crate::diag::redact::Secret;
use crate::diag::{Phase, Summary, interrupt};
use crate::dockerfile::ast::Dockerfile;
use crate::executor::{self, AgentError, BuiltLayer, CopyError, ExecutorError, Resources, SshAgents};
use crate::image::{AssembleError, Digest, Image, rfc3339};
use crate::layer::LayerOptions;
use crate::lint::{self, Extent, SettingsError, Violation};
use crate::location::LocationError;
use crate::plan::{self, Plan, PlanError};
use crate::push::{self, DigestFiles, ExistingTags, PushError};
use crate::registry::{Client, ClientConfig, RegistryError};
use crate::remote::{DownloadError, GitError, Lookup, TransferError};
use crate::sandbox::{Chosen, Sandbox, SandboxError};
use crate::secret::{SecretError, Secrets};
use crate::ssh::{Agents, SshError};

use images::{Layers, Registry, Remembering};
use outputs::Outputs;
use remotes::Remotes;
use work_directory::WorkDirectory;

pub use call::{Answer, Call, Format, call};
pub use outputs::FilesError;
pub use request::{BuildRequest, SnapshotMode};
pub use saved::{SavedImageError, push_saved};

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The build context.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A file that names the build's inputs could not be read.
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    /// The work directory cannot be used.
    #[error("prepare the work directory")]
    WorkDirectory(#[source] crate::fs::Error),
    /// There is no Dockerfile.
    #[error("there is no Dockerfile at {}", .tried.join(" or "))]
    NoDockerfile {
        /// The places looked at.
        tried: Vec<String>,
    },
    /// The Dockerfile is not valid UTF-8.
    #[error("read the Dockerfile {path}: it is not UTF-8 text")]
    NotText {
        /// Its path.
        path: PathBuf,
    },
    /// What is wrong with the Dockerfile: with its text, its meaning, or its base images. Never empty.
    #[error("the Dockerfile has {} errors", .0.len())]
    Dockerfile(Vec<PlanError>),
    /// The `check` directive.
    #[error(transparent)]
    CheckSettings(#[from] SettingsError),
    /// Warnings about a Dockerfile that wants none (`check=error=true`).
    #[error(transparent)]
    Lint(#[from] Violation),
    /// An answer that cannot be written as JSON.
    #[error("write the answer as JSON")]
    Json(#[source] serde_json::Error),
    /// An SSH agent cannot be used.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A RUN needs a sandbox, and there is none.
    #[error("prepare the sandbox that RUN needs")]
    NoSandbox(#[source] SandboxError),
    /// A step failed.
    #[error(transparent)]
    Execute(#[from] ExecutorError),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The image's configuration and manifest.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The place where blobs are kept during the build.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file on the network.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// A repository on the network.
    #[error(transparent)]
    Repository(#[from] GitError),
    /// A URL of the command line makes no sense.
    #[error("{flag} cannot be used")]
    Location {
        /// Where it was given.
        flag: &'static str,
        /// What is wrong with it.
        #[source]
        source: LocationError,
    },
    /// An archive that is the context.
    #[error("unpack the build context")]
    ContextArchive(#[source] CopyError),
    /// An archive on the network.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// Somebody types the context.
    #[error("the build context is to be read from standard input, which is a terminal")]
    Terminal,
    /// Standard input cannot be two things.
    #[error("the Dockerfile and the build context cannot both be read from standard input")]
    InputTwice,
    /// An archive that is a context cannot be unpacked.
    #[error("unpack the build context {location}")]
    Unpack {
        /// Where it came from, without credentials.
        location: String,
        /// Why.
        #[source]
        source: CopyError,
    },
    /// An output.
    #[error(transparent)]
    Push(#[from] PushError),
    /// An image that was to be pushed cannot be read.
    #[error(transparent)]
    Saved(#[from] SavedImageError),
    /// The image's files could not be written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// SIGTERM or SIGINT.
    #[error("stopped by signal {signal}: {left}")]
    Interrupted {
        /// Which.
        signal: i32,
        /// What the build leaves behind.
        left: String,
    },
    /// The asynchronous runtime could not start.
    #[error("start the network runtime")]
    Runtime(#[source] std::io::Error),
}

/// Caches of `RUN --mount=type=cache`, below the work directory.
const CACHES: &str = "caches";

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
    let mut work = None;
    let result = uninterrupted(request, sandbox, progress, &mut work);
    // Not earlier: only now that the network's tasks have ended does nobody write into it any more.
    let kept = work.and_then(|work| {
        let path = work.path().to_owned();
        let error = work.remove().err()?;
        tracing::warn!("left behind: {error}");
        Some(path)
    });
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
    work: &mut Option<WorkDirectory>,
) -> Result<Summary, BuildError> {
    let secrets = Secrets::new(request.secrets.clone())?;
    let local = inputs::local_context(request)?;
    let (runtime, client) = connect(request, progress)?;
    // Processes with another current directory are told of paths in it.
    let work_dir = std::path::absolute(&request.work_dir)
        .map_err(|error| BuildError::WorkDirectory(crate::fs::Error::new("find", &request.work_dir, error)))?;
    let created = WorkDirectory::create(&work_dir).map_err(BuildError::WorkDirectory)?;
    let directory = work.insert(created).path().to_owned();
    let store = BlobStore::open(directory.join("blobs"))?;
    let mut registry = Registry::new(runtime.handle().clone(), client.clone());
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

    let plan = plan(&file, &options, &context, &mut registry, progress)?;
    if request.print_plan {
        progress.text(call::plan_text(&plan, &file, request).trim_end());
    }
    let epoch = request.source_date_epoch.or(plan.source_date_epoch).or(request.reproducible.then_some(0));
    let missing = plan.missing(&|id| secrets.contains(id), &|id| agents.contains(id));
    if !missing.is_empty() {
        return Err(BuildError::Dockerfile(missing));
    }
    let parallel = request.parallel.unwrap_or_else(default_parallel);
    let sandboxes = open_sandboxes(&plan, sandbox, &work_dir, &directory, parallel, progress)?;
    if request.push && request.check_push {
        runtime.block_on(push::check_destinations(&client, &request.destinations))?;
    }
    let base_layers = Layers::new(registry, store.clone());
    base_layers.prefetch(&plan, request.single_snapshot);
    remotes.prefetch(&plan);

    let removals = crate::fs::Removals::default();
    let resources = Resources {
        context: &context,
        named_contexts: &named_contexts,
        base_layers: &base_layers,
        remote_sources: &remotes,
        secrets: &secrets,
        ssh_agents: &agents,
        caches: work_dir.join(CACHES),
        sandboxes,
        parallel,
        directory: directory.clone(),
        ignored_paths: request.ignored_paths.clone(),
        removals: &removals,
        layers: LayerOptions { clamp_mtime: epoch.filter(|_| request.reproducible), ..request.layers.clone() },
        single_snapshot: request.single_snapshot,
        progress: progress.clone(),
    };
    let layers = executor::execute(&plan, &resources)?;
    let image = assemble(&plan, layers, epoch)?.into_format(request.image_format, request.annotations.clone())?;
    let images = {
        let _phase = progress.phase(Phase::Push);
        let outputs = Outputs { image: &image, client: &client, store: &store, directory: &directory };
        deliver(&outputs, request, &runtime, progress)?
    };
    Ok(Summary {
        images,
        digest: image.digest().to_string(),
        size: total_size(&image),
        layers: image.blobs.len(),
        disk: progress.disk_peak(),
        elapsed: progress.elapsed(),
        phases: progress.phases(),
    })
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
fn connect(request: &BuildRequest, progress: &Progress) -> Result<(tokio::runtime::Runtime, Client), BuildError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(BuildError::Runtime)?;
    let client = Client::new(ClientConfig { progress: progress.clone(), ..request.registries.clone() })?;
    Ok((runtime, client))
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

/// A sandbox for each stage that may run at a time, or one for all. What the probe said matters only if there is a RUN.
fn open_sandboxes(
    plan: &Plan,
    chosen: Result<Chosen, SandboxError>,
    work_dir: &Path,
    directory: &Path,
    parallel: usize,
    progress: &Progress,
) -> Result<Vec<Mutex<Box<dyn Sandbox>>>, BuildError> {
    let is_run = |step: &plan::Step| matches!(step.action, plan::Action::Run(_));
    let stages = plan.stages.iter().filter(|stage| stage.steps.iter().any(is_run)).count();
    if stages == 0 {
        return Ok(Vec::new());
    }
    let chosen = chosen.map_err(BuildError::NoSandbox)?;
    progress.line(&chosen);
    let mut sandboxes: Vec<Mutex<Box<dyn Sandbox>>> = Vec::new();
    loop {
        let sandbox = crate::sandbox::open(&chosen, work_dir, directory, &[]).map_err(BuildError::NoSandbox)?;
        if !sandbox.supports_offline() {
            refuse_offline_steps(plan, sandbox.name())?;
        }
        let alone = !sandbox.is_concurrent();
        sandboxes.push(Mutex::new(sandbox));
        if alone || sandboxes.len() >= parallel.min(plan.stages.len()) {
            return Ok(sandboxes);
        }
    }
}

/// What a sandbox cannot give is told before anything runs.
fn refuse_offline_steps(plan: &Plan, isolation: &str) -> Result<(), BuildError> {
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    let offline = steps.filter(|step| matches!(&step.action, plan::Action::Run(run) if run.offline));
    let errors: Vec<PlanError> = offline
        .map(|step| {
            let message = format!("RUN --network=none is not possible with {isolation} isolation");
            PlanError::impossible(step, message, "allow user namespaces in the pod (seccompProfile: Unconfined)")
        })
        .collect();
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
    request: &BuildRequest,
    runtime: &tokio::runtime::Runtime,
    progress: &Progress,
) -> Result<Vec<String>, BuildError> {
    let Outputs { image, client, store, .. } = *outputs;
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
        if request.push {
            let tags = if request.ignore_immutable_tags { ExistingTags::KeepImmutable } else { ExistingTags::Replace };
            push::push(client, image, &request.destinations, tags, progress, store).await?;
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
