//! Prepares a build: opens its inputs and makes its plan. Nothing is executed.

use std::path::PathBuf;

use crate::context::Context;
use crate::layer::LayerOptions;
use crate::plan::Plan;
use crate::push;
use crate::sandbox::{Chosen, InPlace, SandboxError};
use crate::secret::Secrets;
use crate::ssh::Agents;

use super::error::BuildError;
use super::images::{Layers, Registry};
use super::known_bases::KnownBases;
use super::logins::server_logins;
use super::planning::{plan, plan_text};
use super::remotes::Remotes;
use super::request::BuildRequest;
use super::sandboxes::keep_in_place;
use super::session::Session;
use super::{dockerfile, inputs};

/// The inputs that can be opened without a network.
pub(super) struct Opened {
    /// The parent of the session's directory.
    pub(super) work_dir: PathBuf,
    /// Keeps the work directory and the context in place until a command of this build needs `/` for itself.
    pub(super) in_place: Option<InPlace>,
    pub(super) secrets: Secrets,
    /// The build context, if it is a local directory.
    pub(super) local_context: Option<Context>,
}

/// Everything that is known before a step executes.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) context: Context,
    pub(super) named_contexts: Vec<Context>,
    pub(super) secrets: Secrets,
    pub(super) agents: Agents,
    pub(super) remotes: Remotes,
    pub(super) base_layers: Layers,
    /// The configurations of base images in the cache, if there is one.
    pub(super) bases: Option<KnownBases>,
    /// The image's creation time, if the build sets one: seconds since 1970.
    pub(super) epoch: Option<i64>,
    /// The format of layers.
    pub(super) layers: LayerOptions,
}

/// Opens the local inputs of a build.
pub(super) fn open(request: &BuildRequest, sandbox: Result<&Chosen, &SandboxError>) -> Result<Opened, BuildError> {
    let work_dir = &request.sandbox.work_dir;
    // The sandbox's processes have a different current directory.
    let work_dir = std::path::absolute(work_dir)
        .map_err(|error| BuildError::WorkDirectory(crate::fs::Error::new("find", work_dir, error)))?;
    let in_place = keep_in_place(request, sandbox, &work_dir)?;
    let secrets = Secrets::new(request.inputs.secrets.clone())?;
    Ok(Opened { work_dir, in_place, secrets, local_context: inputs::local_context(request)? })
}

/// Reads the contexts and the Dockerfile, and plans the build.
pub(super) fn prepare(
    request: &BuildRequest,
    secrets: Secrets,
    local_context: Option<Context>,
    session: &Session,
) -> Result<Prepared, BuildError> {
    let (directory, progress, runtime) = (session.directory(), &session.progress, session.runtime.handle());
    let agents = Agents::new(&request.inputs.ssh, directory.to_owned(), runtime.clone())?;
    let logins = server_logins(&secrets, inputs::git_login(request))?;
    let keys = agents.keys("default")?;
    let remotes = Remotes::new(runtime.clone(), directory.join("remote"), logins, keys, progress)?;
    let mut context = match local_context {
        Some(context) => context,
        None => inputs::fetched_context(request, &remotes, directory)?,
    };
    let source = dockerfile::read(request, &mut context, &mut |location| Ok(remotes.file(location, None)?.path))?;
    let options = dockerfile::options(request);
    let file = dockerfile::parse(source, &options).map_err(BuildError::Dockerfile)?;
    let named_contexts = inputs::named_contexts(request, &remotes, directory)?;

    let bases = KnownBases::new(request, &options, session);
    let warm_images = request.cache.warm_images.clone();
    let mut registry = Registry::new(runtime.clone(), session.client.clone(), warm_images, bases.clone());
    let plan = plan(&file, &options, &context, &mut registry, progress)?;
    add_warm_layouts(request, &plan, session);
    if request.outputs.print_plan {
        progress.text(plan_text(&plan, &file, &request.outputs).trim_end());
    }
    let missing = plan.missing(&|id| secrets.contains(id), &|id| agents.contains(id));
    if !missing.is_empty() {
        return Err(BuildError::Dockerfile(missing));
    }
    if request.outputs.push && request.outputs.check_push {
        session.runtime.block_on(push::check_destinations(&session.client, &request.outputs.destinations))?;
    }
    let reproducible = request.layers.reproducible;
    let epoch = request.target.source_date_epoch.or(plan.source_date_epoch).or(reproducible.then_some(0));
    let layers = LayerOptions { clamp_mtime: epoch.filter(|_| reproducible), ..request.layers.options.clone() };
    let base_layers = Layers::new(registry, session.store.clone());
    Ok(Prepared { plan, context, named_contexts, secrets, agents, remotes, base_layers, bases, epoch, layers })
}

/// Reads layers from the directory of warm images if it has them.
fn add_warm_layouts(request: &BuildRequest, plan: &Plan, session: &Session) {
    let Some(warm) = &request.cache.warm_images else { return };
    for image in &plan.images {
        if let Some(layout) = warm.layout(&image.digest) {
            tracing::info!("{}: read from {}", image.reference, layout.display());
            session.store.add_layout(&layout, image.layers.iter().map(|layer| &layer.descriptor));
        }
    }
}
