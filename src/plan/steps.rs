//! The plan: its stages, their steps, and the effect of each step.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dockerfile::ast::{Source, Span};
use crate::image::{BaseImage, ImageConfig};

use super::copy_from::CopyFrom;
use super::error::PlanError;
use super::mount::{Mount, MountSource};
use super::remote::RemoteSource;

/// A step of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId {
    /// The stage's number in [`Plan::stages`].
    pub stage: usize,
    /// The step's number in [`Stage::steps`].
    pub step: usize,
}

/// The stages to build, in a possible order of execution.
#[derive(Debug)]
pub struct Plan {
    /// The needed stages, in file order: each depends on earlier ones only.
    pub stages: Vec<Stage>,
    /// Base images and `COPY --from` images, each once.
    pub images: Vec<BaseImage>,
    /// The names of the directories of `--build-context`, by their number.
    pub directories: Vec<String>,
    /// The number in [`Plan::stages`] of the stage that becomes the image.
    pub target: usize,
    /// Warnings for the user, ready to print.
    pub warnings: Vec<String>,
    /// The image's time, in seconds since 1970, if the Dockerfile sets it.
    pub source_date_epoch: Option<i64>,
}

impl Plan {
    /// Returns every step, stage by stage, in the order of the file.
    pub fn steps(&self) -> impl Iterator<Item = (StepId, &Step)> {
        self.stages.iter().enumerate().flat_map(|(stage, planned)| {
            let steps = planned.steps.iter().enumerate();
            steps.map(move |(step, planned)| (StepId { stage, step }, planned))
        })
    }

    /// Returns a step.
    pub fn step(&self, id: StepId) -> &Step {
        &self.stages[id.stage].steps[id.step]
    }

    /// Returns an error for each secret and SSH agent that a step requires and that is missing.
    pub fn missing(&self, has_secret: &dyn Fn(&str) -> bool, has_agent: &dyn Fn(&str) -> bool) -> Vec<PlanError> {
        let mut missing = Vec::new();
        for (_, step) in self.steps() {
            let Action::Run(run) = &step.action else { continue };
            for mount in &run.mounts {
                let (message, hint) = match &mount.source {
                    MountSource::Secret { id, required: true, .. } if !has_secret(id) => (
                        format!("secret {id}: not found"),
                        format!("pass it with --secret id={id},src=FILE or --secret id={id},env=VARIABLE"),
                    ),
                    MountSource::Agent { id, required: true, .. } if !has_agent(id) => (
                        format!("SSH agent {id}: not found"),
                        format!("pass it with --ssh {id}, for the agent at SSH_AUTH_SOCK, or --ssh {id}=KEY"),
                    ),
                    _ => continue,
                };
                missing.push(PlanError::new(message).at(&step.source, &mount.span).with_hint(hint));
            }
        }
        missing
    }

    /// Returns the stages whose layers the image has: the target, its base stage, and so on.
    pub fn image_stages(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(self.target), |stage| self.stages[*stage].parent())
    }
}

/// A resolved stage.
#[derive(Debug)]
pub struct Stage {
    /// Its name, or `stage-N` with its number in the file.
    pub name: String,
    /// The `FROM` line as written.
    pub from_text: String,
    /// Its base.
    pub base: Base,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The final configuration, complete except for `created`, `history` times and `rootfs`.
    pub config: ImageConfig,
}

impl Stage {
    /// Returns the stages that it starts from or reads files of, once for each use.
    pub fn stage_dependencies(&self) -> impl Iterator<Item = usize> {
        self.parent().into_iter().chain(self.steps.iter().flat_map(|step| step.action.stage_dependencies()))
    }

    /// Returns the stage that it starts from, if any.
    pub fn parent(&self) -> Option<usize> {
        match self.base {
            Base::Stage(stage) => Some(stage),
            Base::Scratch | Base::Image(_) => None,
        }
    }
}

/// The base of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// An empty root directory.
    Scratch,
    /// An entry of [`Plan::images`].
    Image(usize),
    /// An earlier entry of [`Plan::stages`].
    Stage(usize),
}

/// A resolved instruction.
#[derive(Debug)]
pub struct Step {
    /// The instruction as written, on one line, without the credentials in its URLs.
    pub text: String,
    /// The source of the instruction, for diagnostics.
    pub source: Arc<Source>,
    /// Its location in that source.
    pub span: Span,
    /// The step's effect.
    pub action: Action,
}

/// The effect of a step on the root file system.
#[derive(Debug)]
pub enum Action {
    /// None: the instruction only changed the configuration.
    Configure,
    /// `RUN`.
    Run(Run),
    /// `COPY` and `ADD`.
    Copy(Copy),
    /// `WORKDIR`: creates the directory.
    Workdir(Workdir),
}

impl Action {
    /// Reports whether the step makes a layer.
    pub fn makes_layer(&self) -> bool {
        !matches!(self, Self::Configure)
    }

    /// Returns the stages that it reads files of, once for each use.
    pub fn stage_dependencies(&self) -> impl Iterator<Item = usize> {
        self.origins().into_iter().filter_map(|from| match from {
            CopyFrom::Stage(stage) => Some(stage),
            CopyFrom::Context | CopyFrom::Directory(_) | CopyFrom::Image(_) => None,
        })
    }

    /// Returns the sources of its files: one for each `COPY`, `ADD` and mount.
    pub fn origins(&self) -> Vec<CopyFrom> {
        match self {
            Self::Copy(copy) => vec![copy.from],
            Self::Run(run) => run.mounts.iter().filter_map(Mount::origin).collect(),
            Self::Configure | Self::Workdir(_) => Vec::new(),
        }
    }

    pub(super) fn origins_mut(&mut self) -> Vec<&mut CopyFrom> {
        match self {
            Self::Copy(copy) => vec![&mut copy.from],
            Self::Run(run) => run.mounts.iter_mut().filter_map(Mount::origin_mut).collect(),
            Self::Configure | Self::Workdir(_) => Vec::new(),
        }
    }
}

/// A `RUN` with expanded words.
#[derive(Debug, Clone)]
pub struct Run {
    /// Program and arguments, the shell included.
    pub arguments: Vec<String>,
    /// The environment, in order: the image's, the arguments in scope, and the build's proxies in both spellings.
    pub environment: Vec<(String, String)>,
    /// The proxy variables in the environment that neither the image nor an `ENV` or `ARG` sets: they depend on where
    /// the build runs and do not affect its result.
    pub proxies: Vec<&'static str>,
    /// The absolute working directory.
    pub working_directory: String,
    /// `USER` as the configuration has it; empty for root.
    pub user: String,
    /// A here-document that is a program (`RUN <<EOF` and a `#!` line); `arguments` name it below [`SCRIPT_DIRECTORY`].
    pub script: Option<TextFile>,
    /// `--network=none`: true for a loopback device only.
    pub offline: bool,
    /// The host name of the build argument `BUILDKIT_SANDBOX_HOSTNAME`.
    pub host_name: Option<String>,
    /// `--mount`, in order.
    pub mounts: Vec<Mount>,
}

/// The directory of a here-document's program while it runs, as in BuildKit.
pub const SCRIPT_DIRECTORY: &str = "/dev/pipes";

/// A file whose content is in the Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextFile {
    /// Its name: one path component.
    pub name: String,
    /// Its content, with variables expanded if they are.
    pub content: String,
}

/// A `COPY` or `ADD` with expanded words.
#[derive(Debug, Clone, Default)]
pub struct Copy {
    /// True for `ADD`.
    pub add: bool,
    /// The source of the files.
    pub from: CopyFrom,
    /// Sources, expanded: paths, and URLs as written.
    pub sources: Vec<String>,
    /// The remote ones among [`Copy::sources`], by their position.
    pub remotes: BTreeMap<usize, RemoteSource>,
    /// Here-documents, copied after the sources.
    pub texts: Vec<TextFile>,
    /// Destination, expanded: a trailing slash has a meaning.
    pub destination: String,
    /// The directory for a relative destination.
    pub working_directory: String,
    /// `--chown`, expanded.
    pub chown: Option<String>,
    /// `--chmod`, expanded.
    pub chmod: Option<String>,
    /// True if archives among the sources are unpacked: `ADD` without `--unpack=false`.
    pub unpack: bool,
    /// `--exclude`, never expanded.
    pub excludes: Vec<String>,
    /// `--parents`: true to create the parent directories of a source.
    pub parents: bool,
    /// `--link`: true to make the layer without reading existing files. Never with `--chmod`, which BuildKit cannot
    /// separate from the destination.
    pub link: bool,
}

/// A `WORKDIR` that creates a directory.
#[derive(Debug, Clone)]
pub struct Workdir {
    /// Absolute, cleaned.
    pub path: String,
    /// The owner of created directories; empty for root.
    pub user: String,
}

impl PlanError {
    /// Returns the error of a step that cannot be executed in this environment.
    #[must_use]
    pub fn impossible(step: &Step, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            place: Some((Arc::clone(&step.source), step.span.clone())),
            ..Self::new(message)
        }
    }
}
