//! What a request can ask for instead of a build: warnings, the outline of a target, the targets.

use std::path::Path;
use std::sync::Arc;

use tracing::Level;

use crate::context::{Context, IgnoreMatcher};
use crate::diag::line::Style;
use crate::diag::progress::Progress;
use crate::diag::with_causes;
use crate::dockerfile::ast::{Dockerfile, Source};
use crate::image::BaseImage;
use crate::lint::{self, Extent, Report};
use crate::outline;
use crate::plan::{self, ImageError, ImageRequest, Images, Options, Plan, PlanError};

use crate::secret::Secrets;

use super::images::{Registry, Remembering};
use super::remotes::Remotes;
use super::work_directory::WorkDirectory;
use super::{BuildError, BuildRequest, dockerfile, inputs};

/// What to do with the Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Call {
    /// Build it.
    #[default]
    Build,
    /// Tell what is wrong with it.
    Check,
    /// Tell what its target takes.
    Outline,
    /// Tell which targets it has.
    Targets,
    /// Tell what would be done (`--dryrun`).
    Plan,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For a person.
    #[default]
    Text,
    /// For a program: one object.
    Json,
}

/// The answer to a call that is no build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What belongs on standard output.
    pub text: String,
    /// A check found something.
    pub found_something: bool,
}

/// Answers [`BuildRequest::call`]. No step is run, and of images at most the configuration is asked for.
///
/// # Errors
/// The Dockerfile or its context cannot be read. What is wrong with the Dockerfile is an error only where that is not the
/// question.
pub fn call(request: &BuildRequest, progress: &Progress) -> Result<Answer, BuildError> {
    let mut work = None;
    let read = read(request, progress, &mut work);
    if let Some(work) = work {
        work.remove().map_err(BuildError::WorkDirectory)?;
    }
    let (context, source) = read?;
    let options = dockerfile::options(request);
    let parsed = dockerfile::parse(source.clone(), &options);
    match request.call {
        Call::Build | Call::Check => {
            let source = Arc::new(source);
            let (report, errors) = match parsed {
                Ok(file) => check(&file, &options, &context.ignore, request, progress)?,
                Err(errors) => (Report::default(), errors),
            };
            tell_unchecked(&report, request.offline);
            let text = match request.format {
                Format::Text => lint::report::text(&report, &errors, &source),
                Format::Json => lint::report::json(&report, &errors, &source).map_err(BuildError::Json)?,
            };
            Ok(Answer { text, found_something: !report.warnings.is_empty() || !errors.is_empty() })
        }
        Call::Outline => {
            let file = parsed.map_err(BuildError::Dockerfile)?;
            let stages = lint::stages::Stages::new(&file, &options);
            let Some(target) = stages.target() else {
                return Err(BuildError::Dockerfile(plan::check_rest(&file, &options)));
            };
            let outline = outline::outline(&stages, target);
            answer(request.format, &outline, outline::outline_text)
        }
        Call::Plan => {
            let file = parsed.map_err(BuildError::Dockerfile)?;
            let (runtime, client) = super::connect(&request.registries, progress)?;
            let mut registry = Registry::new(runtime.handle().clone(), client, request.warm_images.clone(), None);
            let plan = super::plan(&file, &options, &context, &mut registry, progress)?;
            Ok(Answer { text: plan_text(&plan, &file, request), found_something: false })
        }
        Call::Targets => {
            let file = parsed.map_err(BuildError::Dockerfile)?;
            let targets = outline::targets(&lint::stages::Stages::new(&file, &options));
            answer(request.format, &targets, outline::targets_text)
        }
    }
}

/// The plan of a build, and where its image goes.
pub(super) fn plan_text(plan: &Plan, file: &Dockerfile, request: &BuildRequest) -> String {
    let mut text = outline::plan_text(plan, file);
    let pushed = request.destinations.iter().filter(|_| request.push).map(|name| format!("push    {name}"));
    let written = request.outputs.iter().map(|output| format!("write   {output}"));
    for line in pushed.chain(written) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The context with its ignore file, and the Dockerfile.
pub(super) fn read(
    request: &BuildRequest,
    progress: &Progress,
    work: &mut Option<WorkDirectory>,
) -> Result<(Context, Source), BuildError> {
    let mut context = match inputs::local_context(request)? {
        Some(context) => context,
        None => with_remotes(request, progress, work, |remotes, directory| {
            inputs::fetched_context(request, remotes, directory)
        })?,
    };
    let source = dockerfile::read(request, &mut context, &mut |location| {
        with_remotes(request, progress, work, |remotes, _directory| Ok(remotes.file(location, None)?.path))
    })?;
    Ok((context, source))
}

/// What is fetched comes to lie in a work directory like a build's.
fn with_remotes<T>(
    request: &BuildRequest,
    progress: &Progress,
    work: &mut Option<WorkDirectory>,
    fetch: impl FnOnce(&Remotes, &Path) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let directory = match work {
        Some(work) => work.path().to_owned(),
        None => {
            let created = WorkDirectory::create(&request.work_dir).map_err(BuildError::WorkDirectory)?;
            work.insert(created).path().to_owned()
        }
    };
    let (runtime, _client) = super::connect(&request.registries, progress)?;
    let logins = super::server_logins(&Secrets::new(request.secrets.clone())?, inputs::git_login(request))?;
    let remotes = Remotes::new(runtime.handle().clone(), directory.join("remote"), logins, Vec::new(), progress)?;
    fetch(&remotes, &directory)
}

fn answer<T: serde::Serialize>(format: Format, value: &T, table: impl Fn(&T) -> String) -> Result<Answer, BuildError> {
    let text = match format {
        Format::Text => table(value),
        Format::Json => serde_json::to_string_pretty(value).map_err(BuildError::Json)? + "\n",
    };
    Ok(Answer { text, found_something: false })
}

/// Warnings, and what keeps the file from being built. An image that cannot be had is neither.
fn check(
    file: &Dockerfile,
    options: &Options,
    ignore: &IgnoreMatcher,
    request: &BuildRequest,
    progress: &Progress,
) -> Result<(Report, Vec<PlanError>), BuildError> {
    if request.offline {
        let report = lint::check(file, options, Extent::File, Some(ignore), None)?;
        return Ok((report, obstacles(file, options, &mut NoRegistry)));
    }
    let (runtime, client) = super::connect(&request.registries, progress)?;
    let mut registry = Registry::new(runtime.handle().clone(), client, request.warm_images.clone(), None);
    let mut images = Remembering::new(&mut registry);
    let errors = obstacles(file, options, &mut images);
    let report = lint::check(file, options, Extent::File, Some(ignore), Some(&mut images))?;
    Ok((report, errors))
}

/// What keeps the file from being built, except that an image cannot be had.
fn obstacles(file: &Dockerfile, options: &Options, images: &mut dyn Images) -> Vec<PlanError> {
    let errors = plan::plan(file, options, images).err().unwrap_or_default();
    errors.into_iter().filter(|error| error.cause.is_none()).collect()
}

/// For a check that asks no registry.
struct NoRegistry;

impl Images for NoRegistry {
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        requests.iter().map(|_| Err("no registry is asked".into())).collect()
    }
}

/// Says once what was not checked, because an image was not looked at, and which settings have no effect.
fn tell_unchecked(report: &Report, offline: bool) {
    for remark in &report.remarks {
        tracing::warn!("{remark}");
    }
    let consequence = "undefined variables and the platform were not checked in stages from";
    if offline {
        let names: Vec<String> = report.unchecked.iter().map(|image| image.request.reference.to_string()).collect();
        if !names.is_empty() {
            tracing::warn!("{consequence} {}: --offline asks no registry", names.join(", "));
        }
        return;
    }
    for image in &report.unchecked {
        let ImageRequest { reference, platform } = &image.request;
        let cause = image.cause.as_ref().map(|cause| with_causes(cause)).unwrap_or_default();
        tracing::warn!("{consequence} {reference} ({platform}): {cause}");
    }
}

/// Prints the warnings of a build, each once.
pub(super) fn tell_warnings(report: &Report, source: &Source, progress: &Progress) {
    for remark in &report.remarks {
        tracing::warn!("{remark}");
    }
    if !tracing::enabled!(Level::WARN) {
        return;
    }
    for warning in &report.warnings {
        if progress.format().style != Style::Json {
            progress.text(&lint::report::warning_text(warning, source));
            continue;
        }
        let (line, column) = source.location(warning.span.start);
        let mut fields = vec![("rule".to_owned(), warning.rule.name().to_owned())];
        fields.extend(warning.rule.url().map(|url| ("url".to_owned(), url)));
        fields.push(("location".to_owned(), format!("{}:{line}:{column}", source.name)));
        progress.log(Level::WARN, &warning.detail, &fields);
    }
}
