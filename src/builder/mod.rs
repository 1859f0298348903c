//! Builds an image: from a request to the image and its outputs.
//!
//! A build has four steps, each of which returns a value: [`prepare::open`] opens the local inputs,
//! [`prepare::prepare`] makes the plan, [`execute`] executes it, and [`publish`] writes the outputs. The core is
//! synchronous. Only this module uses the network, through a runtime on which only registry code runs ([`session`]).

mod cache_mounts;
mod dockerfile;
mod early_uploads;
mod error;
mod execute;
mod images;
mod inputs;
mod known_bases;
mod layouts;
mod logins;
mod outputs;
mod planning;
mod prepare;
mod prune;
mod publish;
mod push_archive;
mod question;
mod remotes;
mod request;
mod sandboxes;
mod session;
mod step_cache;
mod warmer;
mod work_directory;

use crate::diag::Summary;
use crate::diag::progress::Progress;
use crate::sandbox::{Chosen, SandboxError};

use early_uploads::EarlyUploads;
use execute::{Execution, RootfsDirectory, UnopenedSandbox, layer_format};
use prepare::{Opened, prepare};
use session::{Session, interrupted};

pub use error::BuildError;
pub use error::files::FilesError;
pub use error::pushed_image::PushedImageError;
pub use prune::{PruneRequest, prune_cache};
pub use push_archive::push_image;
pub use question::{QuestionAnswer, answer};
pub use request::{
    BuildRequest, CacheMountsRequest, CacheRequest, CachesRequest, Format, InputsRequest, LayersRequest,
    OutputsRequest, PushRequest, Question, QuestionRequest, SandboxRequest, TargetRequest,
};
pub use warmer::{WarmRequest, WarmSummary, warm};

/// Builds and publishes one image.
///
/// `sandbox` is the result of the probe. Its error matters only if the Dockerfile has a `RUN`.
///
/// # Errors
/// Any error that stopped the build. No tag has been written then.
pub fn build(
    request: &BuildRequest,
    sandbox: Result<Chosen, SandboxError>,
    progress: &Progress,
) -> Result<Summary, BuildError> {
    let work_dir = &request.sandbox.work_dir;
    let opened = prepare::open(request, sandbox.as_ref()).map_err(|error| interrupted(error, work_dir, None))?;
    let mut session = Session::open(&opened.work_dir, &request.registries, progress)
        .map_err(|error| interrupted(error, work_dir, None))?;
    let result = in_session(request, opened, sandbox, &mut session);
    let remaining = session.close();
    result.map_err(|error| interrupted(error, work_dir, remaining.as_deref()))
}

fn in_session(
    request: &BuildRequest,
    opened: Opened,
    sandbox: Result<Chosen, SandboxError>,
    session: &mut Session,
) -> Result<Summary, BuildError> {
    let Opened { in_place, secrets, local_context, .. } = opened;
    let prepared = prepare(request, secrets, local_context, session)?;
    let rootfs = match sandboxes::rootfs_parent(&prepared.plan, sandbox.as_ref(), session.work_dir()) {
        Some(parent) => {
            let (parent, path) = session.add_directory(&parent)?;
            RootfsDirectory { parent, path }
        }
        None => RootfsDirectory { parent: session.work_dir().to_owned(), path: session.directory().to_owned() },
    };
    let session = &*session;
    let uploads = EarlyUploads::new(&request.outputs, session)?;
    let format = layer_format(&prepared.layers, &request.layers.ignored_paths);
    let execution = Execution::new(request, session, &prepared, &rootfs, uploads.as_ref(), &format);
    execution.run(UnopenedSandbox { sandbox, in_place })
}
