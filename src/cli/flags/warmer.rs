//! The flags of `warmer`: some of kaniko's names for them differ from those of a build.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::cache::LIFETIME;
use super::log::LogFlags;
use super::registry::RegistryFlags;
use crate::cli::values::duration;
use crate::image::{Reference, ReferenceError};

/// Fill a directory with base images, for builds with --cache=true.
///
/// Builds read it with --cache=true and --cache-dir. Images that exist and have not expired are left alone.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "crabwright warmer --image <IMAGE> [FLAGS]\n       crabwright warmer --dockerfile <PATH> [FLAGS]",
    after_help = "Exit status:\n  0  At least one image is in the directory\n  1  None is, or there was an error"
)]
pub struct WarmerFlags {
    /// An image. Repeatable.
    #[arg(short, long, value_name = "IMAGE", action = ArgAction::Append)]
    pub image: Vec<String>,

    /// A Dockerfile, or its URL: the base images of all of its stages.
    #[arg(short, long, value_name = "PATH")]
    pub dockerfile: Option<String>,

    /// A value for an ARG of the Dockerfile. Repeatable.
    #[arg(long, value_name = "NAME[=VALUE]", action = ArgAction::Append)]
    pub build_arg: Vec<String>,

    /// The directory.
    #[arg(short, long, value_name = "DIRECTORY", default_value = "/cache")]
    pub cache_dir: PathBuf,

    /// How old an image may be, such as 6h or 90m.
    #[arg(long, value_name = "DURATION", default_value = LIFETIME, value_parser = duration)]
    pub cache_ttl: Duration,

    /// Fetch images again that exist already.
    #[arg(short, long, action = ArgAction::Set, default_value_t = false)]
    pub force: bool,

    /// The images' platform, such as linux/arm64.
    #[arg(long = "customPlatform", visible_aliases = ["custom-platform", "platform"], value_name = "PLATFORM")]
    pub platform: Option<String>,

    /// How registries are reached.
    #[command(flatten)]
    pub registries: RegistryFlags,

    /// The log and the progress output.
    #[command(flatten)]
    pub log: LogFlags,
}

/// Nothing to fetch, or an image that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WarmerFlagError {
    /// Nothing to fetch. The message is kaniko's.
    #[error("you must provide at least one image to cache with --image, or a Dockerfile with --dockerfile")]
    NothingToFetch,
    /// An image that is not a reference.
    #[error("--image {text:?} cannot be used")]
    Image {
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
}

impl WarmerFlags {
    /// Returns the images of `--image`.
    ///
    /// # Errors
    /// One is not a reference, or there is neither an image nor a Dockerfile.
    pub(crate) fn images(&self) -> Result<Vec<Reference>, WarmerFlagError> {
        if self.image.is_empty() && self.dockerfile.as_deref().is_none_or(str::is_empty) {
            return Err(WarmerFlagError::NothingToFetch);
        }
        let image = |text: &String| {
            Reference::parse(text).map_err(|source| WarmerFlagError::Image { text: text.clone(), source })
        };
        self.image.iter().map(image).collect()
    }
}
