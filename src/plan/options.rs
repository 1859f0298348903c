//! What the command line says about the plan.

use crate::image::Platform;

use super::contexts::{self, NamedContext, NamedSource};

/// The flags that a plan depends on.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--build-arg`; `None` for a name whose value the executor's environment does not have.
    pub build_args: Vec<(String, String)>,
    /// `--target`, the first one: what becomes the image.
    pub target: Option<String>,
    /// `--target`, the others: what is built besides.
    pub also_built: Vec<String>,
    /// `--build-context`.
    pub contexts: Vec<NamedContext>,
    /// `--single-snapshot`: a stage makes one layer, with its last instruction that changes files.
    pub single_snapshot: bool,
    /// `--label`, applied to the target stage last.
    pub labels: Vec<(String, String)>,
    /// The platform of the machine that builds.
    pub build_platform: Platform,
    /// The platform of the image.
    pub target_platform: Platform,
}

impl Options {
    /// Nothing said but the platform.
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

    /// The value given with `--build-arg`, the last one if there are several.
    pub fn build_arg(&self, name: &str) -> Option<&str> {
        self.build_args.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What the Dockerfile's word `name` means by `--build-context`, if anything.
    pub fn context(&self, name: &str) -> Option<&NamedSource> {
        contexts::find(&self.contexts, name)
    }
}
