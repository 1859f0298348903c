//! Implements Docker's build checks: code that is allowed in a Dockerfile but could be better.
//!
//! [`check`] visits a syntax tree once and returns every warning in the order of the file. [`Findings`] applies the
//! settings (`# check=…`). Rules about the text check the whole file, rules about the effect of instructions the stages
//! that are built. The names, texts and pages of the rules are Docker's, so that they can be looked up.
//!
//! Some rules need a base image's environment. Images come through [`Images`], as for a plan; those that are not
//! available are listed in [`Report::unchecked`].

mod casing;
mod findings;
mod form;
mod instructions;
mod naming;
mod platform;
pub mod report;
mod rule;
mod scope;
mod settings;
pub mod stages;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::HashMap;

use crate::context::IgnoreMatcher;
use crate::dockerfile::ast::{Dockerfile, SourceForm, Span};
use crate::image::ImageConfig;
use crate::plan::{ImageRequest, Images, Options};

use findings::Findings;
use settings::Settings;
use stages::{Base, Stages};

pub use findings::{Report, Unchecked, Violation, Warning};
pub use rule::Rule;
pub use scope::Scope;
pub use settings::{BUILD_ARGUMENT, SettingsError};

/// The stages to check if no target is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The stages that a build needs.
    Build,
    /// All stages.
    File,
}

/// Checks a file. `ignore` is the `.dockerignore` of its context, if it has one; without `images` no image is fetched.
///
/// # Errors
/// The settings are invalid.
pub fn check(
    dockerfile: &Dockerfile,
    options: &Options,
    extent: Extent,
    ignore: Option<&IgnoreMatcher>,
    images: Option<&mut dyn Images>,
) -> Result<Report, SettingsError> {
    let settings = Settings::of(dockerfile, options)?;
    let stages = Stages::new(dockerfile, options);
    let mut findings = Findings { settings: &settings, warnings: Vec::new() };
    file(&stages, &mut findings);
    let checked = match (extent, &options.target, stages.target()) {
        (Extent::File, None, _) => (0..stages.heads.len()).collect(),
        (_, _, Some(target)) => stages.needed(target),
        // The plan reports a target that does not exist.
        (_, _, None) => Vec::new(),
    };
    let mut bases = Bases::fetch(&stages, &checked, images);
    meaning(&stages, &checked, ignore, &bases, &mut findings);
    let mut warnings = findings.warnings;
    warnings.sort_by_key(|warning| warning.span.start);
    Ok(Report {
        warnings,
        unchecked: std::mem::take(&mut bases.unchecked),
        remarks: settings.unknown_rules(),
        warnings_are_errors: settings.error,
    })
}

/// Checks the rules about the text.
fn file(stages: &Stages<'_>, findings: &mut Findings<'_>) {
    let dockerfile = stages.dockerfile;
    let in_stages = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    let instructions = || dockerfile.global_args.iter().chain(in_stages.clone());
    let written = instructions().map(|instruction| (&instruction.written, &instruction.span));
    let froms = dockerfile.stages.iter().map(|stage| (&stage.from.written, &stage.from.span));
    let all: Vec<(&SourceForm, &Span)> = written.chain(froms).collect();
    casing::keywords(&all, findings);
    for (written, _) in &all {
        form::continuation(written, findings);
    }
    for instruction in instructions() {
        form::old_forms(instruction, findings);
        naming::argument(instruction, findings);
    }
    for instruction in &dockerfile.global_args {
        form::secrets(instruction, findings);
    }
    naming::stages(dockerfile, findings);
    for (stage, head) in dockerfile.stages.iter().zip(&stages.heads) {
        casing::stage(&stage.from, findings);
        platform::flag(&stage.from, head, dockerfile.escape, findings);
        variables::from_line(&stage.from, stages, findings);
    }
    variables::defaults(stages, findings);
}

/// Checks the rules about the effect of instructions.
fn meaning(
    stages: &Stages<'_>,
    checked: &[usize],
    ignore: Option<&IgnoreMatcher>,
    bases: &Bases,
    findings: &mut Findings<'_>,
) {
    let mut ends: HashMap<usize, Scope> = HashMap::new();
    for index in checked {
        let (stage, head) = (&stages.dockerfile.stages[*index], &stages.heads[*index]);
        let mut scope = match &head.base {
            Base::Scratch => Scope::scratch(),
            // A stage follows the one that it starts from.
            Base::Stage(parent) => ends.get(parent).cloned().unwrap_or_else(Scope::unknown),
            Base::Image(request) => match bases.config(request) {
                Some(config) => {
                    platform::base_image(&stage.from, head, &request.platform, &config.platform(), findings);
                    Scope::image(config)
                }
                None => Scope::unknown(),
            },
            Base::Unknown => Scope::unknown(),
        };
        if !head.replaced {
            form::repeated(&stage.instructions, findings);
            for instruction in &stage.instructions {
                form::secrets(instruction, findings);
                variables::undefined(instruction, &scope, &stages.globals, findings);
                instructions::instruction(instruction, &scope, ignore, findings);
                scope.apply(instruction, stages.options, &stages.globals);
            }
        }
        ends.insert(*index, scope);
    }
}

/// The configurations of base images.
struct Bases {
    known: Vec<(ImageRequest, ImageConfig)>,
    unchecked: Vec<Unchecked>,
}

impl Bases {
    /// Fetches the base images of the stages, all at once.
    fn fetch(stages: &Stages<'_>, checked: &[usize], images: Option<&mut dyn Images>) -> Self {
        let mut requests: Vec<ImageRequest> = Vec::new();
        for index in checked {
            if let Base::Image(request) = &stages.heads[*index].base
                && !requests.contains(request)
            {
                requests.push(ImageRequest::clone(request));
            }
        }
        let mut bases = Self { known: Vec::new(), unchecked: Vec::new() };
        let Some(images) = images.filter(|_| !requests.is_empty()) else {
            bases.unchecked = requests.into_iter().map(|request| Unchecked { request, cause: None }).collect();
            return bases;
        };
        let answers = images.resolve(&requests);
        for (request, answer) in requests.into_iter().zip(answers) {
            match answer {
                Ok(image) => bases.known.push((request, image.config)),
                Err(cause) => bases.unchecked.push(Unchecked { request, cause: Some(cause) }),
            }
        }
        bases
    }

    fn config(&self, request: &ImageRequest) -> Option<&ImageConfig> {
        self.known.iter().find(|(known, _)| known == request).map(|(_, config)| config)
    }
}
