//! Answers questions about a Dockerfile: its warnings, the outline of a target, its targets, its plan.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::context::{Context, IgnoreMatcher};
use crate::diag::progress::Progress;
use crate::diag::with_causes;
use crate::dockerfile::ast::{Dockerfile, Source};
use crate::image::BaseImage;
use crate::lint::{self, Extent, Report};
use crate::outline;
use crate::plan::{self, ImageError, ImageRequest, Images, Options, PlanError};
use crate::secret::Secrets;

use super::error::BuildError;
use super::images::{ImageMemo, Registry};
use super::logins::server_logins;
use super::planning::{plan, plan_text};
use super::remotes::Remotes;
use super::request::{BuildRequest, Format, Question, QuestionRequest};
use super::session::{Session, connect};
use super::{dockerfile, inputs};

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionAnswer {
    /// The text for standard output.
    pub text: String,
    /// Whether a check has findings.
    pub has_findings: bool,
}

/// Answers a question. Nothing is executed, and of images at most the configuration is read.
///
/// # Errors
/// The Dockerfile or its context cannot be read. Errors in the Dockerfile are errors here unless the question asks for
/// them.
pub fn answer(request: &QuestionRequest, progress: &Progress) -> Result<QuestionAnswer, BuildError> {
    let build = &request.build;
    let mut session = None;
    let read = read(build, progress, &mut session);
    drop(session.map(Session::close));
    let (context, source) = read?;
    let options = dockerfile::options(build);
    let parsed = dockerfile::parse(source.clone(), &options);
    match request.question {
        Question::Check => {
            let source = Arc::new(source);
            let (report, errors) = match parsed {
                Ok(file) => check(&file, &options, &context.ignore, request, progress)?,
                Err(errors) => (Report::default(), errors),
            };
            warn_of_unchecked(&report, request.offline);
            let text = match request.format {
                Format::Text => lint::report::text(&report, &errors, &source),
                Format::Json => lint::report::json(&report, &errors, &source).map_err(BuildError::Json)?,
            };
            Ok(QuestionAnswer { text, has_findings: !report.warnings.is_empty() || !errors.is_empty() })
        }
        Question::Outline => {
            let file = parsed.map_err(BuildError::Dockerfile)?;
            let stages = lint::stages::Stages::new(&file, &options);
            let Some(target) = stages.target() else {
                return Err(BuildError::Dockerfile(plan::check_rest(&file, &options)));
            };
            let outline = outline::outline(&stages, target);
            written(request.format, &outline, outline::outline_text)
        }
        Question::Plan => {
            let file = parsed.map_err(BuildError::Dockerfile)?;
            let (_runtime, mut registry) = registry(build, progress)?;
            let plan = plan(&file, &options, &context, &mut registry, progress)?;
            Ok(QuestionAnswer { text: plan_text(&plan, &file, &build.outputs), has_findings: false })
        }
        Question::Targets => {
            let file = parsed.map_err(BuildError::Dockerfile)?;
            let targets = outline::targets(&lint::stages::Stages::new(&file, &options));
            written(request.format, &targets, outline::targets_text)
        }
    }
}

/// Returns the context with its ignore file, and the Dockerfile. If something has to be fetched, a session is opened
/// for it.
pub(super) fn read(
    request: &BuildRequest,
    progress: &Progress,
    session: &mut Option<Session>,
) -> Result<(Context, Source), BuildError> {
    let mut context = match inputs::local_context(request)? {
        Some(context) => context,
        None => with_remotes(request, progress, session, |remotes, directory| {
            inputs::fetched_context(request, remotes, directory)
        })?,
    };
    let source = dockerfile::read(request, &mut context, &mut |location| {
        with_remotes(request, progress, session, |remotes, _directory| Ok(remotes.file(location, None)?.path))
    })?;
    Ok((context, source))
}

fn with_remotes<T>(
    request: &BuildRequest,
    progress: &Progress,
    session: &mut Option<Session>,
    fetch: impl FnOnce(&Remotes, &Path) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let session = match session {
        Some(session) => session,
        None => session.insert(Session::open(&request.sandbox.work_dir, &request.registries, progress)?),
    };
    let (runtime, directory) = (session.runtime.handle().clone(), session.directory());
    let logins = server_logins(&Secrets::new(request.inputs.secrets.clone())?, inputs::git_login(request))?;
    let remotes = Remotes::new(runtime, directory.join("remote"), logins, Vec::new(), progress)?;
    fetch(&remotes, directory)
}

/// Returns the access to images, and its runtime.
fn registry(request: &BuildRequest, progress: &Progress) -> Result<(Runtime, Registry), BuildError> {
    let (runtime, client) = connect(&request.registries, progress)?;
    let registry = Registry::new(runtime.handle().clone(), client, request.cache.warm_images.clone(), None);
    Ok((runtime, registry))
}

fn written<T: serde::Serialize>(
    format: Format,
    value: &T,
    table: impl Fn(&T) -> String,
) -> Result<QuestionAnswer, BuildError> {
    let text = match format {
        Format::Text => table(value),
        Format::Json => serde_json::to_string_pretty(value).map_err(BuildError::Json)? + "\n",
    };
    Ok(QuestionAnswer { text, has_findings: false })
}

/// Returns the warnings and the errors that prevent a build. An unavailable image is neither.
fn check(
    file: &Dockerfile,
    options: &Options,
    ignore: &IgnoreMatcher,
    request: &QuestionRequest,
    progress: &Progress,
) -> Result<(Report, Vec<PlanError>), BuildError> {
    if request.offline {
        let report = lint::check(file, options, Extent::File, Some(ignore), None)?;
        return Ok((report, obstacles(file, options, &mut NoRegistry)));
    }
    let (_runtime, mut registry) = registry(&request.build, progress)?;
    let mut images = ImageMemo::new(&mut registry);
    let errors = obstacles(file, options, &mut images);
    let report = lint::check(file, options, Extent::File, Some(ignore), Some(&mut images))?;
    Ok((report, errors))
}

/// Returns the errors that prevent a build, except unavailable images.
fn obstacles(file: &Dockerfile, options: &Options, images: &mut dyn Images) -> Vec<PlanError> {
    let errors = plan::plan(file, options, images).err().unwrap_or_default();
    errors.into_iter().filter(|error| error.cause.is_none()).collect()
}

/// A registry for offline checks.
struct NoRegistry;

impl Images for NoRegistry {
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        requests.iter().map(|_| Err("registries are not used".into())).collect()
    }
}

/// Warns once about checks that were skipped because an image is unknown, and about settings without effect.
fn warn_of_unchecked(report: &Report, offline: bool) {
    for remark in &report.remarks {
        tracing::warn!("{remark}");
    }
    let consequence = "undefined variables and the platform were not checked in stages from";
    if offline {
        let names: Vec<String> = report.unchecked.iter().map(|image| image.request.reference.to_string()).collect();
        if !names.is_empty() {
            tracing::warn!("{consequence} {}: registries are not used with --offline", names.join(", "));
        }
        return;
    }
    for image in &report.unchecked {
        let ImageRequest { reference, platform } = &image.request;
        let cause = image.cause.as_ref().map(|cause| with_causes(cause)).unwrap_or_default();
        tracing::warn!("{consequence} {reference} ({platform}): {cause}");
    }
}
