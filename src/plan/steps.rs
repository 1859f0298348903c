//! The plan: its stages, their steps, and what each step does.

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
    /// Its stage's number in [`Plan::stages`].
    pub stage: usize,
    /// Its own in [`Stage::steps`].
    pub step: usize,
}

/// What is to be built, in the order in which it can be done.
#[derive(Debug)]
pub struct Plan {
    /// The stages that are needed, in file order: each depends on earlier ones only.
    pub stages: Vec<Stage>,
    /// Base images and `COPY --from` images, each once.
    pub images: Vec<BaseImage>,
    /// The names of the directories given as `--build-context`, by their number.
    pub directories: Vec<String>,
    /// Where in [`Plan::stages`] the stage stands that becomes the image.
    pub target: usize,
    /// Things accepted that the user should know of, ready to print.
    pub warnings: Vec<String>,
    /// The image's time, in seconds since 1970, where the Dockerfile says it.
    pub source_date_epoch: Option<i64>,
}

impl Plan {
    /// Every step, stage by stage, in the order of the file.
    pub fn steps(&self) -> impl Iterator<Item = (StepId, &Step)> {
        self.stages.iter().enumerate().flat_map(|(stage, planned)| {
            let steps = planned.steps.iter().enumerate();
            steps.map(move |(step, planned)| (StepId { stage, step }, planned))
        })
    }

    /// One step.
    pub fn step(&self, id: StepId) -> &Step {
        &self.stages[id.stage].steps[id.step]
    }

    /// An error for each secret and each SSH agent that a step requires and that is not given.
    pub fn missing(&self, has_secret: &dyn Fn(&str) -> bool, has_agent: &dyn Fn(&str) -> bool) -> Vec<PlanError> {
        let mut missing = Vec::new();
        for (_, step) in self.steps() {
            let Action::Run(run) = &step.action else { continue };
            for mount in &run.mounts {
                let (message, hint) = match &mount.source {
                    MountSource::Secret { id, required: true, .. } if !has_secret(id) => (
                        format!("secret {id}: not found"),
                        format!("give it with --secret id={id},src=FILE or --secret id={id},env=VARIABLE"),
                    ),
                    MountSource::Agent { id, required: true, .. } if !has_agent(id) => (
                        format!("SSH agent {id}: not found"),
                        format!("give it with --ssh {id}, for the agent at SSH_AUTH_SOCK, or --ssh {id}=KEY"),
                    ),
                    _ => continue,
                };
                missing.push(PlanError::new(message).at(&step.source, &mount.span).with_hint(hint));
            }
        }
        missing
    }

    /// The stages whose layers the image has: the target, what it starts from, and so on.
    pub fn image_stages(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(self.target), |stage| self.stages[*stage].parent())
    }
}

/// One stage, resolved.
#[derive(Debug)]
pub struct Stage {
    /// Its name, or `stage-N` with its number in the file.
    pub name: String,
    /// The `FROM` line as written.
    pub from_text: String,
    /// What it starts from.
    pub base: Base,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// The configuration the stage ends with: complete but for `created`, `history` times and `rootfs`.
    pub config: ImageConfig,
}

impl Stage {
    /// The stages whose files it reads or starts from, once for each time it does.
    pub fn stage_dependencies(&self) -> impl Iterator<Item = usize> {
        self.parent().into_iter().chain(self.steps.iter().flat_map(|step| step.action.stage_dependencies()))
    }

    /// The stage it starts from, if it is one.
    pub fn parent(&self) -> Option<usize> {
        match self.base {
            Base::Stage(stage) => Some(stage),
            Base::Scratch | Base::Image(_) => None,
        }
    }
}

/// What a stage starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// An empty root directory.
    Scratch,
    /// An entry of [`Plan::images`].
    Image(usize),
    /// An earlier entry of [`Plan::stages`].
    Stage(usize),
}

/// One instruction, resolved.
#[derive(Debug)]
pub struct Step {
    /// The instruction as written, on one line, without the credentials in its URLs.
    pub text: String,
    /// Where it stands, for diagnostics.
    pub source: Arc<Source>,
    /// Where it stands in that source.
    pub span: Span,
    /// What there is to do.
    pub action: Action,
}

/// What a step does to the root file system.
#[derive(Debug)]
pub enum Action {
    /// Nothing: the instruction only changed the configuration.
    Configure,
    /// `RUN`.
    Run(Run),
    /// `COPY` and `ADD`.
    Copy(Copy),
    /// `WORKDIR`: make the directory.
    Workdir(Workdir),
}

impl Action {
    /// Whether the step makes a layer.
    pub fn makes_layer(&self) -> bool {
        !matches!(self, Self::Configure)
    }

    /// The stages whose files it reads, once for each time it does.
    pub fn stage_dependencies(&self) -> impl Iterator<Item = usize> {
        self.origins().into_iter().filter_map(|from| match from {
            CopyFrom::Stage(stage) => Some(stage),
            CopyFrom::Context | CopyFrom::Directory(_) | CopyFrom::Image(_) => None,
        })
    }

    /// Where it takes files from: once for each `COPY`, `ADD` and mount.
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

/// A `RUN` with its final words.
#[derive(Debug, Clone)]
pub struct Run {
    /// Program and arguments, the shell included.
    pub arguments: Vec<String>,
    /// The environment, in order: the image's, the arguments in scope, and the proxies given to the build in both spellings.
    pub environment: Vec<(String, String)>,
    /// Those of the environment that name a proxy and are neither the image's nor set by an `ENV` or an `ARG`: they say where
    /// the build runs, and nothing about what it makes.
    pub proxies: Vec<&'static str>,
    /// Absolute.
    pub working_directory: String,
    /// `USER` as the configuration has it; empty for root.
    pub user: String,
    /// The here-document that is a program of its own (`RUN <<EOF` and a `#!` line); `arguments` name it by
    /// [`SCRIPT_DIRECTORY`].
    pub script: Option<TextFile>,
    /// `--network=none`: nothing but a loopback device.
    pub offline: bool,
    /// The host name of the build argument `BUILDKIT_SANDBOX_HOSTNAME`.
    pub host_name: Option<String>,
    /// `--mount`, in order.
    pub mounts: Vec<Mount>,
}

/// Where the here-document that is a program lies while it runs, as in BuildKit.
pub const SCRIPT_DIRECTORY: &str = "/dev/pipes";

/// A file whose content stands in the Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextFile {
    /// Its name: one path component.
    pub name: String,
    /// Its content, variables expanded where they are.
    pub content: String,
}

/// A `COPY` or `ADD` with its final words.
#[derive(Debug, Clone, Default)]
pub struct Copy {
    /// `ADD`.
    pub add: bool,
    /// Where the sources are.
    pub from: CopyFrom,
    /// Sources, expanded: paths, and URLs as written.
    pub sources: Vec<String>,
    /// Those of [`Copy::sources`] that are fetched, by their position.
    pub remotes: BTreeMap<usize, RemoteSource>,
    /// Here-documents, copied after the sources.
    pub texts: Vec<TextFile>,
    /// Destination as written, expanded: a trailing slash has a meaning.
    pub destination: String,
    /// What a relative destination is relative to.
    pub working_directory: String,
    /// `--chown`, expanded.
    pub chown: Option<String>,
    /// `--chmod`, expanded.
    pub chmod: Option<String>,
    /// Archives among the sources are unpacked: `ADD` without `--unpack=false`.
    pub unpack: bool,
    /// `--exclude`, never expanded.
    pub excludes: Vec<String>,
    /// `--parents`: the directories of a source come along.
    pub parents: bool,
    /// `--link`: the layer is made without looking at the files that are there, and laid over them. Never with
    /// `--chmod`, which BuildKit does not do apart from the destination.
    pub link: bool,
}

/// A `WORKDIR` that has a directory to make.
#[derive(Debug, Clone)]
pub struct Workdir {
    /// Absolute, cleaned.
    pub path: String,
    /// Who owns the directories that are made; empty for root.
    pub user: String,
}

impl PlanError {
    /// A step that cannot be carried out where this build runs.
    #[must_use]
    pub fn impossible(step: &Step, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            place: Some((Arc::clone(&step.source), step.span.clone())),
            ..Self::new(message)
        }
    }
}
