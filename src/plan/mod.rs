//! Turns a syntax tree into a plan: the stages to build, their bases, and every step with expanded words.
//!
//! A plan is complete before anything runs: variables are expanded, `ONBUILD` triggers inserted, the image's
//! configuration and history written. For that it needs the base images' configurations and nothing else of them. They
//! come through [`Images`], so that the plan does not depend on a registry.

mod caches;
mod contexts;
mod copy_from;
mod environment;
mod epoch;
mod error;
mod graph;
mod heredoc;
mod history;
mod host_name;
mod images;
mod mount;
mod options;
mod paths;
mod refuse;
mod remote;
mod stage;
mod steps;
#[cfg(test)]
mod tests;

use crate::dockerfile::ast::Dockerfile;
use crate::image::BaseImage;

pub use contexts::{NamedContext, NamedSource};
pub use copy_from::CopyFrom;
pub use environment::{DEFAULT_PATH, Environment, PROXY_VARIABLES, platform_arguments};
pub use error::PlanError;
pub use images::{ImageError, ImageRequest, Images};
pub use mount::{Mount, MountSource};
pub use options::Options;
pub use remote::RemoteSource;
pub use steps::{Action, Base, Copy, Plan, Run, SCRIPT_DIRECTORY, Stage, Step, StepId, TextFile, Workdir};

/// Plans `dockerfile`.
///
/// # Errors
/// A rule of the Dockerfile reference is violated, an image is not available, or a feature is not supported; each error
/// has its location in the file, and all independent errors are returned.
pub fn plan(dockerfile: &Dockerfile, options: &Options, images: &mut dyn Images) -> Result<Plan, Vec<PlanError>> {
    graph::Planner::new(dockerfile, options, false).plan(images)
}

/// Returns the other errors of a Dockerfile that could be parsed only in part; fetches no images.
pub fn check_rest(rest: &Dockerfile, options: &Options) -> Vec<PlanError> {
    graph::Planner::new(rest, options, true).plan(&mut NoImages).err().unwrap_or_default()
}

/// An image source for plans without images.
struct NoImages;

impl Images for NoImages {
    fn resolve(&mut self, _requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        Vec::new()
    }
}
