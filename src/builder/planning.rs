//! Makes the plan of a Dockerfile, and prints the warnings about it.

use tracing::Level;

use crate::context::Context;
use crate::diag::line::Style;
use crate::diag::progress::Progress;
use crate::dockerfile::ast::{Dockerfile, Source};
use crate::lint::{self, Extent, Report};
use crate::outline;
use crate::plan::{self, Plan};

use super::error::BuildError;
use super::images::{ImageMemo, Registry};
use super::request::OutputsRequest;

/// Returns the plan. Warnings about the Dockerfile are printed first, because they may explain why planning fails.
pub(super) fn plan(
    file: &Dockerfile,
    options: &plan::Options,
    context: &Context,
    registry: &mut Registry,
    progress: &Progress,
) -> Result<Plan, BuildError> {
    let mut images = ImageMemo::new(registry);
    let plan = plan::plan(file, options, &mut images);
    // Planning has resolved all images, so no registry is asked again.
    let report = lint::check(file, options, Extent::Build, Some(&context.ignore), Some(&mut images.resolved()))?;
    print_warnings(&report, &file.source, progress);
    let plan = plan.map_err(BuildError::Dockerfile)?;
    report.verdict()?;
    for warning in &plan.warnings {
        progress.line(format_args!("WARNING: {warning}"));
    }
    Ok(plan)
}

/// Returns the plan as text, with the outputs of the image.
pub(super) fn plan_text(plan: &Plan, file: &Dockerfile, outputs: &OutputsRequest) -> String {
    let mut text = outline::plan_text(plan, file);
    let pushed = outputs.destinations.iter().filter(|_| outputs.push).map(|name| format!("push    {name}"));
    let written = outputs.outputs.iter().map(|output| format!("write   {output}"));
    for line in pushed.chain(written) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Prints the warnings of a build, each once.
fn print_warnings(report: &Report, source: &Source, progress: &Progress) {
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
