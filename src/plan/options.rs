//! The command line's settings for a plan.

use crate::image::Platform;

use super::contexts::{self, NamedContext, NamedSource};

/// The flags that a plan depends on.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--build-arg`; `None` for a name whose value the executor's environment does not have.
    pub build_args: Vec<(String, String)>,
    /// The first `--target`: the stage that becomes the image.
    pub target: Option<String>,
    /// The other `--target`s: stages to build as well.
    pub also_built: Vec<String>,
    /// `--build-context`.
    pub contexts: Vec<NamedContext>,
    /// `--single-snapshot`: a stage has one layer, made by its last instruction that changes files.
    pub single_snapshot: bool,
    /// `--label`, applied to the target stage last.
    pub labels: Vec<(String, String)>,
    /// The platform of the building machine.
    pub build_platform: Platform,
    /// The platform of the image.
    pub target_platform: Platform,
}

impl Options {
    /// Returns the defaults for a platform.
    #[cfg(test)]
    pub(crate) fn of_platform(platform: &str) -> Self {
        let platform: Platform = platform.parse().expect("a platform");
        Self {
            build_args: Vec::new(),
            target: None,
            also_built: Vec::new(),
            contexts: Vec::new(),
            single_snapshot: false,
            labels: Vec::new(),
            build_platform: platform.clone(),
            target_platform: platform,
        }
    }

    /// Returns the value of the last `--build-arg` of this name.
    pub fn build_arg(&self, name: &str) -> Option<&str> {
        self.build_args.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the `--build-context` that `name` in the Dockerfile refers to, if any.
    pub fn context(&self, name: &str) -> Option<&NamedSource> {
        contexts::find(&self.contexts, name)
    }
}
