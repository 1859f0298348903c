//! The flags that say where and how steps execute.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ArgAction;

use crate::builder::SandboxRequest;
use crate::cli::env::{Env, EnvError};
use crate::cli::values::{isolation, non_empty, path};
use crate::sandbox::{Isolation, OwnRootConsent};

/// The directory in which kaniko stores its files.
const DEFAULT_WORK_DIR: &str = "/kaniko";

/// Isolation, work directory and parallelism.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Build")]
pub struct SandboxFlags {
    /// How RUN is isolated: auto, namespace or own-root.
    ///
    /// namespace uses Linux namespaces; own-root puts the image's files in place of this container's own, for a pod
    /// that may neither unshare nor mount; auto takes the first that works.
    #[arg(
        long,
        value_name = "KIND",
        default_value = "auto",
        hide_possible_values = true,
        value_parser = isolation()
    )]
    pub isolation: Isolation,

    /// The work directory.
    #[command(flatten)]
    pub work_dir: WorkDirFlags,

    /// How many stages are built in parallel [default: twice the processors, at least 4].
    ///
    /// Independent stages are built in parallel, and their RUNs, too, with namespace isolation.
    #[arg(long, value_name = "STAGES")]
    pub parallel: Option<NonZeroUsize>,

    /// Build even though this does not look like a container.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub force: bool,

    /// With --force: allow own-root isolation in an image that has an operating system of its own.
    ///
    /// The image's files are moved aside while a RUN runs, and restored after it; nothing is deleted. The executor's
    /// own images do not need this permission. [default: $KANIKO_PRE_CLEANUP]
    #[arg(long, action = ArgAction::Set)]
    pub pre_cleanup: Option<bool>,
}

/// The work directory: that of a build and of `push`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Build")]
pub struct WorkDirFlags {
    /// The directory for everything except outputs during the build [default: $KANIKO_DIR, or /kaniko].
    #[arg(long, visible_alias = "kaniko-dir", value_name = "DIRECTORY", value_parser = path())]
    pub work_dir: Option<PathBuf>,
}

impl SandboxFlags {
    /// Returns the request of the flags.
    ///
    /// # Errors
    /// A variable of the environment is neither true nor false.
    pub(crate) fn request(self, env: Env<'_>) -> Result<SandboxRequest, EnvError> {
        let pre_cleanup = match self.pre_cleanup {
            Some(given) => given,
            None => env.boolean("KANIKO_PRE_CLEANUP")?.unwrap_or(false),
        };
        Ok(SandboxRequest {
            isolation: self.isolation,
            own_root: OwnRootConsent { outside_container: self.force, own_system: self.force && pre_cleanup },
            work_dir: self.work_dir.directory(env),
            parallel: self.parallel.map(NonZeroUsize::get),
        })
    }
}

impl WorkDirFlags {
    /// Returns the work directory.
    pub(crate) fn directory(self, env: Env<'_>) -> PathBuf {
        non_empty(self.work_dir).or_else(|| env.path("KANIKO_DIR")).unwrap_or_else(|| PathBuf::from(DEFAULT_WORK_DIR))
    }
}
