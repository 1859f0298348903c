//! The parts of a build that its layer cache uses.

use std::path::Path;

use crate::builder::known_bases::KnownBases;
use crate::builder::remotes::Remotes;
use crate::builder::session::Session;
use crate::cache::LayerFormat;
use crate::context::Context;
use crate::image::Reference;
use crate::plan::Plan;

/// Inputs of cache keys, and of writing entries.
#[derive(Clone, Copy)]
pub(in crate::builder) struct Environment<'a> {
    pub(in crate::builder) session: &'a Session,
    pub(in crate::builder) plan: &'a Plan,
    pub(in crate::builder) context: &'a Context,
    pub(in crate::builder) named_contexts: &'a [Context],
    pub(in crate::builder) remotes: &'a Remotes,
    /// Ignored if it is inside a context.
    pub(in crate::builder) work_directory: &'a Path,
    /// The name of the Dockerfile.
    pub(in crate::builder) dockerfile: &'a str,
    /// The base images of the last build, from the cache.
    pub(in crate::builder) bases: &'a KnownBases,
    /// The names under which the image is pushed.
    pub(in crate::builder) destinations: &'a [Reference],
    pub(in crate::builder) format: &'a LayerFormat,
}
