//! Looks up steps by content: by the layers they start from and the files they read.
//!
//! A step whose definition is cached needs no inputs; it is [cached](super::Disposition::Cached) before anything runs.
//! Any other step waits for its inputs and is looked up by their content. A cached layer is unpacked only if a later
//! step needs the files: by [`StageRun::materialize`](super::stage::StageRun::materialize) while the stage runs,
//! otherwise on first use of the finished stage's files.

use std::path::PathBuf;

use crate::cache::Files;
use crate::image::Digest;
use crate::plan::{Action, Copy, MountSource, StepId};

use super::copy::{CopyError, CopySource, FileDigests, contents};
use super::{BuiltLayer, CachedLayerError};

/// The layers of earlier builds by content. This build adds its own.
pub trait ContentCache: Sync {
    /// Returns the layer that the step makes of these inputs, if an earlier build stored it: the diffIDs of the layers
    /// below, and the files that it reads from each of its origins that is a stage.
    fn lookup(&self, step: StepId, below: &[Digest], sources: Vec<Option<Files>>) -> Option<BuiltLayer>;

    /// Records the layer of an executed step for later builds.
    fn record(&self, step: StepId, layer: &BuiltLayer);

    /// Returns the blob of a cached or recorded layer as a local file, complete and verified.
    ///
    /// # Errors
    /// The blob can no longer be fetched, or its digest is wrong.
    fn file(&self, layer: &BuiltLayer) -> Result<PathBuf, CachedLayerError>;
}

/// Returns the files that a step reads from one of its origins, given that origin's tree. The directory `excluded`
/// (device and inode) counts as missing. Returns `None` for an image, which its layers identify.
///
/// # Errors
/// As when the step executes.
pub fn files_of(
    action: &Action,
    origin: usize,
    source: &CopySource<'_>,
    excluded: Option<(u64, u64)>,
    digests: &FileDigests,
) -> Result<Option<Files>, CopyError> {
    match action {
        Action::Copy(copy) => contents(copy, source, excluded, false, digests).map(Some),
        Action::Run(run) => {
            let mounts = run.mounts.iter().filter(|mount| mount.origin().is_some());
            let path = mounts.map(|mount| match &mount.source {
                MountSource::Bind { path, .. } | MountSource::Cache { content: Some((_, path)), .. } => path.as_str(),
                _ => "",
            });
            let Some(path) = path.into_iter().nth(origin) else { return Ok(None) };
            let path = if path.is_empty() { "." } else { path };
            let copy = Copy { sources: vec![path.to_owned()], ..Copy::default() };
            contents(&copy, source, excluded, true, digests).map(Some)
        }
        Action::Configure | Action::Workdir(_) => Ok(None),
    }
}
