//! kaniko's flags about its own way of building, most of which have no effect here, and its old spellings.
//!
//! Each is accepted, so that a pipeline changes only the name of the image. A flag whose help says that it has no
//! effect says why: the table of flags in the documentation is generated from these texts.

use std::ffi::OsString;

use clap::ArgAction;

use super::request::{RequestError, boolean};
use super::snapshot_mode::SnapshotMode;
use crate::snapshot::{IgnoredPaths, PatternError};

/// The help's heading for flags that are accepted and do nothing.
const WITHOUT_EFFECT: &str = "Without effect";

/// Flags that exist because kaniko has them.
#[derive(Debug, Clone, clap::Args)]
pub struct KanikoFlags {
    /// A path to keep out of every layer, with everything below it. Repeatable.
    ///
    /// *, ? and [a-z] match within a component of the path. The RUNs of the stage still find the files.
    #[arg(long, value_name = "PATH", action = ArgAction::Append, help_heading = "Build")]
    pub ignore_path: Vec<String>,

    /// Print the plan and do nothing: stages and steps, what is pulled, skipped, pushed and written.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Build")]
    pub dryrun: bool,

    /// With --force: allow own-root isolation in an image that has an operating system of its own.
    ///
    /// The image's files are moved aside while a RUN runs, and restored after it; nothing is deleted. The executor's
    /// own images do not need this permission. [default: $KANIKO_PRE_CLEANUP]
    #[arg(long, action = ArgAction::Set, help_heading = "Build")]
    pub pre_cleanup: Option<bool>,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// Changes of a RUN, deletions included, are found without reading every file.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = WITHOUT_EFFECT)]
    pub use_new_run: bool,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// Every stage has its own root directory, in which /var/run belongs to the image; what a RUN writes there is part
    /// of the image, as with BuildKit. To leave it out: --ignore-path /var/run.
    #[arg(long, action = ArgAction::Set, default_value_t = true, help_heading = WITHOUT_EFFECT)]
    pub ignore_var_run: bool,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// Layers are verified when they are fetched, and fetching is what is repeated.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true,
        help_heading = WITHOUT_EFFECT
    )]
    pub image_fs_extract_retry: u32,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// Files of the image never stay in this container, and those of the build are removed at its end.
    #[arg(long, action = ArgAction::Set, help_heading = WITHOUT_EFFECT)]
    pub cleanup: Option<bool>,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// The context is never changed.
    #[arg(long, action = ArgAction::Set, help_heading = WITHOUT_EFFECT)]
    pub preserve_context: Option<bool>,

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// The image's files are not unpacked over those of this container. --output type=local,dest=DIRECTORY writes them.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = WITHOUT_EFFECT)]
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
        hide = true,
        hide_possible_values = true,
        overrides_with = "snapshot_mode",
        value_parser = super::snapshot_mode::snapshot_modes()
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
        value_parser = super::flags::path()
    )]
    pub tar_path_camel: Option<std::path::PathBuf>,
}

/// A value of `--ignore-path` that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--ignore-path {text:?} cannot be used")]
pub struct IgnorePathError {
    /// As given.
    text: String,
    /// What is wrong with it.
    #[source]
    source: PatternError,
}

/// Variables of the environment that mean the same as a flag without effect: their value is checked all the same.
const BOOLEANS_WITHOUT_EFFECT: [&str; 2] = ["KANIKO_CLEANUP", "KANIKO_PRESERVE_CONTEXT"];

impl KanikoFlags {
    /// Warns of each deprecated flag that was given, once, and logs at debug level what has no effect.
    ///
    /// # Errors
    /// A variable of the environment is neither true nor false.
    pub(super) fn tell(&self, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<(), RequestError> {
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
            if boolean(name, environment)? == Some(true) {
                tracing::debug!("{name} has no effect: every stage has a root directory of its own");
            }
        }
        Ok(())
    }

    /// The paths of `--ignore-path`.
    ///
    /// # Errors
    /// One of them is not a pattern of an absolute path.
    pub(super) fn ignored_paths(&self) -> Result<IgnoredPaths, IgnorePathError> {
        let mut paths = IgnoredPaths::default();
        for text in self.ignore_path.iter().filter(|text| !text.is_empty()) {
            paths.add(text).map_err(|source| IgnorePathError { text: text.clone(), source })?;
        }
        Ok(paths)
    }
}
