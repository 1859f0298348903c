//! The flags of a build as they are typed, in groups by purpose: kaniko's names, defaults and meanings, and ours.
//!
//! A group is a struct in a file of its own, with the errors of its values and the part of the request that follows
//! from it. A sub-command has the groups that it needs, so that it can neither accept nor list any other flag. Nothing
//! is compared with other groups here: `request.rs` does that.

#![allow(rustdoc::broken_intra_doc_links, reason = "the help: brackets enclose what is optional")]

pub(crate) mod cache;
pub(crate) mod cache_location;
pub(crate) mod cache_mounts;
pub(crate) mod context;
pub(crate) mod dockerfile;
pub(crate) mod image;
pub(crate) mod kaniko;
pub(crate) mod layer;
pub(crate) mod log;
pub(crate) mod output;
pub(crate) mod output_field;
pub(crate) mod question;
pub(crate) mod registry;
pub(crate) mod report;
pub(crate) mod sandbox;
pub(crate) mod secret;
pub(crate) mod warmer;

use clap::ArgAction;

use cache::CacheFlags;
use context::ContextFlags;
use dockerfile::DockerfileFlags;
use image::ImageFlags;
use kaniko::KanikoFlags;
use layer::LayerFlags;
use log::LogFlags;
use output::OutputFlags;
use question::QuestionFlags;
use registry::RegistryFlags;
use sandbox::SandboxFlags;
use secret::SecretFlags;

/// The flags of a build.
#[derive(Debug, Clone, clap::Args)]
pub struct BuildFlags {
    /// The Dockerfile and its arguments.
    #[command(flatten)]
    pub dockerfile: DockerfileFlags,

    /// The stage to build; the last one if not given. Repeatable.
    ///
    /// Of several, also separated by commas, the first becomes the image, and the others are built, too.
    #[arg(long, value_name = "STAGE", value_delimiter = ',', action = ArgAction::Append, help_heading = "Input")]
    pub target: Vec<String>,

    /// The build context, and named contexts.
    #[command(flatten)]
    pub context: ContextFlags,

    /// Secrets and SSH agents.
    #[command(flatten)]
    pub secrets: SecretFlags,

    /// The image's names, and what is written of it.
    #[command(flatten)]
    pub output: OutputFlags,

    /// What the image says of itself.
    #[command(flatten)]
    pub image: ImageFlags,

    /// How new layers are written.
    #[command(flatten)]
    pub layers: LayerFlags,

    /// How registries are reached.
    #[command(flatten)]
    pub registries: RegistryFlags,

    /// How results of earlier builds are used.
    #[command(flatten)]
    pub cache: CacheFlags,

    /// Where and how steps execute.
    #[command(flatten)]
    pub sandbox: SandboxFlags,

    /// What is asked instead of a build.
    #[command(flatten)]
    pub question: QuestionFlags,

    /// Flags that exist because kaniko has them.
    #[command(flatten)]
    pub kaniko: KanikoFlags,

    /// The log and the progress output.
    #[command(flatten)]
    pub log: LogFlags,
}

#[cfg(test)]
mod tests;
