//! kaniko's flags that have no effect here, and its old spellings of flags that have one.
//!
//! Each is accepted, so that a pipeline changes only the name of the image. A flag whose help says that it has no
//! effect says why: the table of flags in the documentation is generated from these texts.

use std::path::PathBuf;

use clap::{ArgAction, ValueEnum};

use crate::cli::env::{Env, EnvError};
use crate::cli::values::path;

/// Flags that exist because kaniko has them.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Without effect")]
pub struct KanikoFlags {
    /// full, redo or time: each finds every change.
    ///
    /// Accepted for compatibility with kaniko: there is one way to find what a step changed, and it misses nothing.
    #[arg(long, value_name = "MODE", value_enum, default_value = "full", hide_possible_values = true)]
    pub snapshot_mode: SnapshotMode,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// kaniko holds compressed layers in memory with it. Here, a layer is compressed once and never held in memory.
    #[arg(long, action = ArgAction::Set, default_value_t = true)]
    pub compressed_caching: bool,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// Changes of a RUN, deletions included, are found without reading every file.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub use_new_run: bool,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// Every stage has its own root directory, in which /var/run belongs to the image; what a RUN writes there is part
    /// of the image, as with BuildKit. To leave it out: --ignore-path /var/run.
    #[arg(long, action = ArgAction::Set, default_value_t = true)]
    pub ignore_var_run: bool,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// Layers are verified when they are fetched, and fetching is what is repeated.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    pub image_fs_extract_retry: u32,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// Files of the image never stay in this container, and those of the build are removed at its end.
    #[arg(long, action = ArgAction::Set)]
    pub cleanup: Option<bool>,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// The context is never changed.
    #[arg(long, action = ArgAction::Set)]
    pub preserve_context: Option<bool>,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// The image's files are not unpacked over those of this container. --output type=local,dest=DIRECTORY writes them.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub materialize: bool,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// Deprecated. The image's configuration is always complete.
    #[arg(long, action = ArgAction::Set, hide = true)]
    pub force_build_metadata: Option<bool>,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// Deprecated. Unused stages are never built.
    #[arg(long, action = ArgAction::Set, hide = true)]
    pub skip_unused_stages: Option<bool>,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// The old name of --ignore-var-run.
    #[arg(long, action = ArgAction::Set, hide = true)]
    pub whitelist_var_run: Option<bool>,

    /// The old spelling of --snapshot-mode.
    #[arg(
        long = "snapshotMode",
        value_name = "MODE",
        value_enum,
        hide = true,
        hide_possible_values = true,
        overrides_with = "snapshot_mode"
    )]
    pub snapshot_mode_camel: Option<SnapshotMode>,

    /// The old spelling of --custom-platform.
    #[arg(long = "customPlatform", value_name = "PLATFORM", hide = true, overrides_with = "custom_platform")]
    pub custom_platform_camel: Option<String>,

    /// The old spelling of --tar-path.
    #[arg(
        long = "tarPath",
        value_name = "FILE",
        hide = true,
        overrides_with = "tar_path",
        value_parser = path()
    )]
    pub tar_path_camel: Option<PathBuf>,
}

/// The values of `--snapshot-mode`: every mode finds the changes that `full` finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SnapshotMode {
    /// Compare contents.
    Full,
    /// Compare metadata.
    Redo,
    /// Compare modification times.
    Time,
}

/// Variables of the environment that mean the same as a flag without effect: their value is checked all the same.
const BOOLEANS_WITHOUT_EFFECT: [&str; 2] = ["KANIKO_CLEANUP", "KANIKO_PRESERVE_CONTEXT"];

impl KanikoFlags {
    /// Warns of each deprecated flag that was given, once, and logs at debug level what has no effect.
    ///
    /// # Errors
    /// A variable of the environment is neither true nor false.
    pub(crate) fn report(&self, env: Env<'_>) -> Result<(), EnvError> {
        for (given, old, instead) in [
            (self.snapshot_mode_camel.is_some(), "--snapshotMode", "use --snapshot-mode"),
            (self.custom_platform_camel.is_some(), "--customPlatform", "use --custom-platform"),
            (self.tar_path_camel.is_some(), "--tarPath", "use --tar-path"),
            (self.whitelist_var_run.is_some(), "--whitelist-var-run", "leave it out, it has no effect"),
            (self.force_build_metadata.is_some(), "--force-build-metadata", "leave it out, it has no effect"),
            (self.skip_unused_stages.is_some(), "--skip-unused-stages", "leave it out, it has no effect"),
        ] {
            if given {
                tracing::warn!("{old} is deprecated: {instead}");
            }
        }
        if self.materialize {
            tracing::warn!("--materialize has no effect: --output type=local,dest=DIRECTORY writes the image's files");
        }
        for name in BOOLEANS_WITHOUT_EFFECT {
            if env.boolean(name)? == Some(true) {
                tracing::debug!("{name} has no effect: every stage has a root directory of its own");
            }
        }
        if env.has("KANIKO_TELEMETRY_ENDPOINT") {
            tracing::warn!("environment variable KANIKO_TELEMETRY_ENDPOINT has no effect: no telemetry is sent");
        }
        if self.snapshot_mode_camel.unwrap_or(self.snapshot_mode) != SnapshotMode::Full {
            tracing::debug!("--snapshot-mode has no effect: every change is found in any mode");
        }
        Ok(())
    }
}
