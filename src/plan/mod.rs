//! From syntax tree to plan: which stages are built, from what, and every step with its final words.
//!
//! A plan is known whole before anything runs: variables are expanded, `ONBUILD` triggers inserted, the image's
//! configuration and history written. It needs the base images' configurations for that, and nothing else of them; they
//! come through [`Images`], so that the plan itself knows no registry.

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
/// What the Dockerfile reference forbids, an image that cannot be had, or something that is not supported yet; each with
/// the place in the file, and every one that does not follow from another.
pub fn plan(dockerfile: &Dockerfile, options: &Options, images: &mut dyn Images) -> Result<Plan, Vec<PlanError>> {
    graph::Planner::new(dockerfile, options, false).plan(images)
}

/// What is wrong with a Dockerfile of which parts could not be parsed, besides those parts; no image is asked for.
pub fn check_rest(rest: &Dockerfile, options: &Options) -> Vec<PlanError> {
    graph::Planner::new(rest, options, true).plan(&mut NoImages).err().unwrap_or_default()
}

/// For a plan that asks for no images.
struct NoImages;

impl Images for NoImages {
    fn resolve(&mut self, _requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        Vec::new()
    }
}
