//! From syntax tree to plan: which stages are built, from what, and every step with its final words.
//!
//! A plan is known whole before anything runs: variables are expanded, `ONBUILD` triggers inserted, the image's
//! configuration and history written. It needs the base images' configurations for that, and nothing else of them; they
//! come through [`Images`], so that the plan itself knows no registry.

mod caches;
mod contexts;
mod environment;
mod epoch;
mod graph;
mod heredoc;
mod history;
mod host_name;
mod mount;
mod refuse;
mod remote;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diag::{BoxedError, Hint, redact};
use crate::dockerfile::ast::{Dockerfile, Source, Span, Word};
use crate::dockerfile::{ExpandError, ParseError};
use crate::image::{BaseImage, History, ImageConfig, Platform, Reference};

pub use contexts::{NamedContext, NamedSource};
pub use environment::{DEFAULT_PATH, Environment, PROXY_VARIABLES, platform_arguments};
pub use mount::{Mount, MountSource};
pub use remote::RemoteSource;

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

    fn origins_mut(&mut self) -> Vec<&mut CopyFrom> {
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

/// Where a `COPY` or a mount takes its files from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyFrom {
    /// The build context.
    #[default]
    Context,
    /// A directory given as `--build-context`, by its number.
    Directory(usize),
    /// An earlier entry of [`Plan::stages`].
    Stage(usize),
    /// An entry of [`Plan::images`].
    Image(usize),
}

/// A `WORKDIR` that has a directory to make.
#[derive(Debug, Clone)]
pub struct Workdir {
    /// Absolute, cleaned.
    pub path: String,
    /// Who owns the directories that are made; empty for root.
    pub user: String,
}

/// What the command line says about the plan.
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

/// An image the plan needs the configuration of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRequest {
    /// Which.
    pub reference: Reference,
    /// For what.
    pub platform: Platform,
}

/// An error of whoever fetches images; the plan adds where it was asked for.
pub type ImageError = BoxedError;

/// Where image configurations come from.
pub trait Images {
    /// Fetches manifests and configurations, all at once where that is faster; one answer for each request, in order.
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>>;
}

/// One reason why a Dockerfile cannot be planned.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// What is wrong, in one line.
    pub message: String,
    /// The likely remedy.
    pub hint: Option<String>,
    /// Where, if it is a place in a file.
    pub place: Option<(Arc<Source>, Span)>,
    /// What caused it, for images that could not be fetched.
    #[source]
    pub cause: Option<ImageError>,
    /// It is wrong whatever values variables have.
    whatever_values: bool,
}

impl Hint for PlanError {
    fn hint(&self) -> Option<String> {
        self.hint.clone().or_else(|| self.cause.as_ref()?.hint())
    }
}

impl PlanError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, place: None, cause: None, whatever_values: false }
    }

    /// A step that cannot be carried out where this build runs.
    #[must_use]
    pub fn impossible(step: &Step, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            place: Some((Arc::clone(&step.source), step.span.clone())),
            ..Self::new(message)
        }
    }

    /// A word that cannot be expanded.
    fn expansion(error: &ExpandError, word: &Word, source: &Arc<Source>) -> Self {
        Self { whatever_values: !error.about_value, ..error.at(word, source).into() }
    }

    /// Whether it is an error also where the values of variables are not known, in an instruction written as `text`.
    fn stands_alone(&self, text: &str) -> bool {
        self.whatever_values || !text.contains('$')
    }

    fn at(mut self, source: &Arc<Source>, span: &Span) -> Self {
        self.place = Some((Arc::clone(source), span.clone()));
        self
    }

    fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

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

impl From<ParseError> for PlanError {
    fn from(error: ParseError) -> Self {
        let place = Self::new(error.message).at(&error.source, &error.span);
        Self { hint: error.hint, ..place }
    }
}

/// A history entry as BuildKit writes it, without its time.
fn history_entry(created_by: &str, empty_layer: bool) -> History {
    History {
        // The image is for others than those who may read the Dockerfile.
        created_by: Some(redact::text(created_by)),
        comment: Some("buildkit.dockerfile.v0".to_owned()),
        empty_layer,
        ..History::default()
    }
}
