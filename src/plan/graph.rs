//! Resolves the dependencies between stages, and plans those that the target needs.
//!
//! Names are resolved by the Dockerfile reference's rules: `FROM` finds earlier stages by name before images, `COPY
//! --from` finds earlier stages by name or number ([`origins()`]). So every dependency points backwards, and file order
//! is a possible order of execution. `ONBUILD` triggers add dependencies only once their image's configuration is
//! known, so stages are planned depth first from the target.

mod from;
mod origins;

use std::collections::HashMap;
use std::sync::Arc;

use crate::diag::{redact, suggest};
use crate::dockerfile::ast::{Dockerfile, Instruction, Kind, Source, Span, Word};
use crate::image::{BaseImage, Platform, Reference};

use super::caches;
use super::contexts::{self, NamedSource};
use super::environment::{Environment, expand_in, platform_arguments};
use super::stage::State;
use super::{
    Base, CopyFrom, ImageError, ImageRequest, Images, Options, Plan, PlanError, Stage, Step, epoch, host_name, refuse,
};
use from::origins;

/// A resolved `FROM` line.
struct Head {
    /// The stage's name in lower case; empty without a name.
    name: String,
    platform: Platform,
    base: HeadBase,
    /// True if a `--build-context` of the stage's name replaces the whole stage.
    replaced: bool,
    /// True if the line itself is invalid: consequences are not reported.
    wrong: bool,
}

enum HeadBase {
    Scratch,
    Stage(usize),
    Image(Reference),
    /// A directory of `--build-context`, by its number.
    Directory(usize),
}

/// A planned stage, with the state that its child stages start from.
struct Planned {
    base: Base,
    steps: Vec<Step>,
    state: State,
    /// True unless errors left values of the environment unknown.
    known: bool,
}

pub(super) struct Planner<'a> {
    dockerfile: &'a Dockerfile,
    options: &'a Options,
    globals: Environment,
    heads: Vec<Head>,
    /// Planned stages, by number in the file.
    planned: Vec<Option<Planned>>,
    images: Vec<BaseImage>,
    /// Resolved images by [`key`]; an error is kept until it is reported.
    resolved: HashMap<String, Result<usize, Option<ImageError>>>,
    errors: Vec<PlanError>,
    /// True if instructions of the file are missing, so that only self-contained errors are reported.
    partial: bool,
    source_date_epoch: Option<i64>,
}

impl<'a> Planner<'a> {
    /// Reads global arguments and every `FROM` line. `partial`: parts of the file could not be parsed.
    pub(super) fn new(dockerfile: &'a Dockerfile, options: &'a Options, partial: bool) -> Self {
        let target_name = match &options.target {
            Some(target) => target.to_lowercase(),
            None => dockerfile
                .stages
                .last()
                .and_then(|stage| stage.from.name.as_ref())
                .map_or_else(|| "default".to_owned(), |name| name.text.to_lowercase()),
        };
        let mut errors: Vec<PlanError> = refuse::directives(dockerfile).err().into_iter().collect();
        let (globals, wrong) = global_arguments(dockerfile, options, &target_name);
        let globals_known = wrong.is_empty() && !partial;
        errors.extend(wrong);
        errors.extend(host_name::check(options).err());
        let source_date_epoch = epoch::source_date_epoch(dockerfile, options, &globals).unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        let mut planner = Self {
            dockerfile,
            options,
            globals,
            heads: Vec::new(),
            planned: Vec::new(),
            images: Vec::new(),
            resolved: HashMap::new(),
            errors,
            partial,
            source_date_epoch,
        };
        for (index, stage) in dockerfile.stages.iter().enumerate() {
            let head = planner.head(index).unwrap_or_else(|error| {
                if globals_known || error.stands_alone(&stage.from.text) {
                    planner.errors.push(error);
                }
                Head {
                    name: stage.from.name.as_ref().map(|name| name.text.to_lowercase()).unwrap_or_default(),
                    platform: options.target_platform.clone(),
                    base: HeadBase::Scratch,
                    replaced: false,
                    wrong: true,
                }
            });
            planner.heads.push(head);
            planner.planned.push(None);
        }
        planner
    }

    /// Plans the target and everything it needs.
    ///
    /// # Errors
    /// Every error that does not follow from a different one, in the order of the file.
    pub(super) fn plan(mut self, images: &mut dyn Images) -> Result<Plan, Vec<PlanError>> {
        let target = match self.target() {
            Ok(target) => target,
            Err(error) => {
                self.errors.push(error);
                self.heads.len() - 1
            }
        };
        let mut wanted = vec![target];
        for name in &self.options.also_built {
            match self.named(name) {
                Ok(stage) => wanted.push(stage),
                Err(error) => self.errors.push(error),
            }
        }
        self.fetch_ahead(&wanted, images);
        for stage in wanted {
            self.visit(stage, images);
        }
        if !self.errors.is_empty() {
            let position = |error: &PlanError| match &error.place {
                Some((source, span)) if Arc::ptr_eq(source, &self.dockerfile.source) => span.start,
                _ => usize::MAX,
            };
            self.errors.sort_by_key(position);
            return Err(self.errors);
        }
        let mut positions = HashMap::new();
        let mut stages = Vec::new();
        for (index, planned) in std::mem::take(&mut self.planned).into_iter().enumerate() {
            let Some(planned) = planned else { continue };
            positions.insert(index, stages.len());
            stages.push(self.finish(index, planned, target));
        }
        renumber(&mut stages, &positions);
        let used: Vec<&str> = stages.iter().flat_map(|(_, names)| names.iter().map(String::as_str)).collect();
        let warnings = self.unused_arguments(&used);
        let mut stages: Vec<Stage> = stages.into_iter().map(|(stage, _)| stage).collect();
        caches::distinguish(&mut stages, &self.images);
        let source_date_epoch = self.source_date_epoch;
        let directories = contexts::directories(&self.options.contexts);
        let target = positions[&target];
        Ok(Plan { stages, images: self.images, directories, target, warnings, source_date_epoch })
    }

    fn target(&self) -> Result<usize, PlanError> {
        match &self.options.target {
            Some(wanted) => self.named(wanted),
            None => Ok(self.heads.len() - 1),
        }
    }

    /// Returns the stage that `--target` names.
    fn named(&self, wanted: &str) -> Result<usize, PlanError> {
        let lower = wanted.to_lowercase();
        self.heads.iter().rposition(|head| !head.name.is_empty() && head.name == lower).ok_or_else(|| {
            let names = self.heads.iter().map(|head| head.name.as_str()).filter(|name| !name.is_empty());
            let error = PlanError::new(format!("target stage \"{wanted}\" could not be found"));
            match suggest(wanted, names.clone()) {
                Some(name) => error.with_hint(format!("did you mean {name}?")),
                None => {
                    let names: Vec<&str> = names.collect();
                    error.with_hint(match names.is_empty() {
                        true => "no stage of this Dockerfile has a name (FROM … AS name)".to_owned(),
                        false => format!("the stages are {}", names.join(", ")),
                    })
                }
            }
        })
    }

    fn head(&self, index: usize) -> Result<Head, PlanError> {
        let from = &self.dockerfile.stages[index].from;
        let source = &self.dockerfile.source;
        let platform = match &from.platform {
            None => self.options.target_platform.clone(),
            Some(word) => {
                let text = self.expand_global(word)?;
                text.parse().map_err(|error| {
                    PlanError::new(format!("failed to parse platform \"{text}\": {error}"))
                        .at(source, &word.span)
                        .with_hint("write it as os/architecture[/variant], for example linux/arm64")
                })?
            }
        };
        let name = from.name.as_ref().map(|name| name.text.to_lowercase()).unwrap_or_default();
        if let Some(context) = self.context(&name) {
            return Ok(Head { name, platform, base: head_base(context), replaced: true, wrong: false });
        }
        let text = self.expand_global(&from.image)?;
        if text.is_empty() {
            return Err(PlanError::new(format!("base name ({}) should not be blank", from.image.text))
                .at(source, &from.image.span)
                .with_hint("FROM sees only ARGs above the first FROM; give the ARG a default or pass --build-arg"));
        }
        let lower = text.to_lowercase();
        let base = if let Some(context) = self.context(&text) {
            head_base(context)
        } else if let Some(stage) = self.heads.iter().rposition(|head| !head.name.is_empty() && head.name == lower) {
            HeadBase::Stage(stage)
        } else if text == "scratch" {
            HeadBase::Scratch
        } else {
            HeadBase::Image(parse_reference(&text, source, &from.image.span)?)
        };
        Ok(Head { name, platform, base, replaced: false, wrong: false })
    }

    fn context(&self, name: &str) -> Option<&'a NamedSource> {
        contexts::find(&self.options.contexts, name)
    }

    /// Returns the effective instructions of a stage.
    fn instructions(&self, index: usize) -> &'a [Instruction] {
        if self.heads[index].replaced { &[] } else { &self.dockerfile.stages[index].instructions }
    }

    fn expand_global(&self, word: &Word) -> Result<String, PlanError> {
        expand_in(&self.globals, word, self.dockerfile.escape, &self.dockerfile.source)
    }

    /// Fetches all images that are needed independent of triggers at once. Errors are kept until an instruction needs
    /// the image, which gives their location.
    fn fetch_ahead(&mut self, targets: &[usize], images: &mut dyn Images) {
        if self.partial {
            return;
        }
        let mut wanted: Vec<ImageRequest> = Vec::new();
        let mut seen = vec![false; self.heads.len()];
        let mut open = targets.to_vec();
        while let Some(index) = open.pop() {
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            let head = &self.heads[index];
            match &head.base {
                HeadBase::Scratch | HeadBase::Directory(_) => {}
                HeadBase::Stage(stage) => open.push(*stage),
                HeadBase::Image(reference) => {
                    wanted.push(ImageRequest { reference: reference.clone(), platform: head.platform.clone() });
                }
            }
            for instruction in self.instructions(index) {
                for from in origins(instruction) {
                    let platform = head.platform.clone();
                    match self.context(&from.word.text) {
                        Some(NamedSource::Image(reference)) => {
                            wanted.push(ImageRequest { reference: reference.clone(), platform });
                            continue;
                        }
                        Some(NamedSource::Directory(_)) => continue,
                        None => {}
                    }
                    match self.find_stage(index, from) {
                        Some(stage) if stage < index => open.push(stage),
                        Some(_) => {}
                        None => {
                            if let Ok(reference) = Reference::parse(&from.word.text) {
                                wanted.push(ImageRequest { reference, platform });
                            }
                        }
                    }
                }
            }
        }
        let mut requests: Vec<ImageRequest> = Vec::new();
        for request in wanted {
            if !requests.contains(&request) {
                requests.push(request);
            }
        }
        if !requests.is_empty() {
            let answers = images.resolve(&requests);
            for (request, answer) in requests.iter().zip(answers) {
                self.keep(request, answer);
            }
        }
    }

    fn keep(&mut self, request: &ImageRequest, answer: Result<BaseImage, ImageError>) {
        let answer = answer.map(|image| {
            self.images.push(image);
            self.images.len() - 1
        });
        let answer = answer.map_err(Some);
        self.resolved.insert(key(request), answer);
    }

    /// Returns the number in [`Plan::images`] of an image that is needed at `span`; an error is reported once.
    fn image(
        &mut self,
        request: &ImageRequest,
        (source, span): (&Arc<Source>, &Span),
        images: &mut dyn Images,
    ) -> Option<usize> {
        if self.partial {
            return None;
        }
        let name = key(request);
        if !self.resolved.contains_key(&name) {
            for answer in images.resolve(std::slice::from_ref(request)) {
                self.keep(request, answer);
            }
        }
        match self.resolved.get(&name)? {
            Ok(index) => return Some(*index),
            Err(None) => return None,
            Err(Some(_)) => {}
        }
        let reference = &request.reference;
        let mut error = PlanError::new(format!("failed to resolve the image {reference}")).at(source, span);
        let text = source.text.get(span.clone()).unwrap_or_default();
        let stages = || self.heads.iter().map(|head| head.name.as_str()).filter(|name| !name.is_empty());
        if stages().any(|name| name == text.to_lowercase()) {
            error =
                error.with_hint(format!("a stage named `{text}` follows later; FROM sees only the stages above it"));
        } else if let Some(stage) = suggest(text, stages()) {
            error = error.with_hint(format!("did you mean the stage {stage}?"));
        }
        if let Some(Err(cause)) = self.resolved.get_mut(&name) {
            error.cause = cause.take();
        }
        self.errors.push(error);
        None
    }

    /// Plans a stage and its dependencies; errors are added to `errors`.
    fn visit(&mut self, index: usize, images: &mut dyn Images) {
        if self.planned[index].is_some() {
            return;
        }
        let dockerfile = self.dockerfile;
        let stage = &dockerfile.stages[index];
        let platform = self.heads[index].platform.clone();
        let (base, mut state) = self.start(index, images);
        let mut known = state.is_some() && !self.heads[index].wrong && !self.partial;
        let mut state = state.take().unwrap_or_else(|| State::scratch(&platform));
        let (triggers, wrong) = state.take_triggers(&stage.from.image.text);
        self.errors.extend(wrong);
        let mut steps: Vec<Step> = self.import(index, &mut state).into_iter().collect();
        for instruction in triggers.iter().chain(self.instructions(index)) {
            let action = refuse::instruction(instruction).and_then(|()| {
                let mut found = Vec::new();
                for from in origins(instruction) {
                    found.push(self.find_origin(index, from, instruction, &platform, images)?);
                }
                // Without an image the rest of the instruction is still checked.
                let complete = found.iter().all(Option::is_some);
                let found: Vec<CopyFrom> = found.into_iter().map(Option::unwrap_or_default).collect();
                let action = state.apply(instruction, &found, self.options, &self.globals)?;
                Ok(complete.then_some(action))
            });
            match action {
                Ok(Some(action)) => steps.push(Step {
                    text: on_one_line(&instruction.text),
                    source: Arc::clone(&instruction.source),
                    span: instruction.span.clone(),
                    action,
                }),
                Ok(None) => {}
                Err(error) => {
                    if known || error.stands_alone(&instruction.text) {
                        self.errors.push(error);
                    }
                    // The value that it would have set is unknown to the following instructions.
                    known &= !matches!(instruction.kind, Kind::Arg(_) | Kind::Env(_));
                }
            }
        }
        self.planned[index] = Some(Planned { base, steps, state, known });
    }

    /// Returns the step that copies a directory's files into a stage that starts from it.
    fn import(&self, index: usize, state: &mut State) -> Option<Step> {
        let HeadBase::Directory(number) = self.heads[index].base else { return None };
        let from = &self.dockerfile.stages[index].from;
        let text = on_one_line(&from.text);
        state.record_import(&text);
        let copy = super::Copy {
            from: CopyFrom::Directory(number),
            sources: vec![".".to_owned()],
            destination: "/".to_owned(),
            working_directory: "/".to_owned(),
            ..super::Copy::default()
        };
        let (source, span) = (Arc::clone(&self.dockerfile.source), from.image.span.clone());
        Some(Step { text, source, span, action: super::Action::Copy(copy) })
    }

    /// Returns the base of a stage; without a state if it is unknown.
    fn start(&mut self, index: usize, images: &mut dyn Images) -> (Base, Option<State>) {
        let dockerfile = self.dockerfile;
        let stage = &dockerfile.stages[index];
        let platform = self.heads[index].platform.clone();
        match &self.heads[index].base {
            HeadBase::Scratch | HeadBase::Directory(_) => (Base::Scratch, Some(State::scratch(&platform))),
            HeadBase::Stage(parent) => {
                let parent = *parent;
                self.visit(parent, images);
                let planned = self.planned[parent].as_ref().filter(|planned| planned.known);
                (Base::Stage(parent), planned.map(|planned| planned.state.child()))
            }
            HeadBase::Image(reference) => {
                let request = ImageRequest { reference: reference.clone(), platform };
                match self.image(&request, (&dockerfile.source, &stage.from.image.span), images) {
                    Some(image) => (Base::Image(image), Some(State::image(&self.images[image].config))),
                    None => (Base::Scratch, None),
                }
            }
        }
    }

    fn stage_name(&self, index: usize) -> String {
        match &self.heads[index].name {
            name if name.is_empty() => format!("stage-{index}"),
            name => name.clone(),
        }
    }

    fn finish(&self, index: usize, planned: Planned, target: usize) -> (Stage, Vec<String>) {
        let Planned { base, steps, state, known: _ } = planned;
        let (mut config, used) = state.finish();
        if index == target {
            for (key, value) in &self.options.labels {
                config.config.labels.insert(key.clone(), value.clone());
            }
        }
        let from_text = on_one_line(&self.dockerfile.stages[index].from.text);
        (Stage { name: self.stage_name(index), from_text, base, steps, config }, used)
    }

    /// Returns warnings for undeclared build arguments, which are usually misspelt.
    fn unused_arguments(&self, declared: &[&str]) -> Vec<String> {
        let global = |name: &str| {
            self.dockerfile.global_args.iter().any(|instruction| match &instruction.kind {
                Kind::Arg(definitions) => definitions.iter().any(|definition| definition.name.text == name),
                _ => false,
            })
        };
        self.options
            .build_args
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !declared.contains(name) && !global(name) && self.globals.get(name).is_none())
            .filter(|name| !super::PROXY_VARIABLES.contains(name) && *name != "SOURCE_DATE_EPOCH")
            .filter(|name| !name.starts_with("BUILDKIT_"))
            .map(|name| format!("--build-arg {name} was not used: no stage that is built declares ARG {name}"))
            .collect()
    }
}

/// Returns an instruction for display, without the credentials in its URLs.
fn on_one_line(text: &str) -> String {
    redact::text(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn head_base(context: &NamedSource) -> HeadBase {
    match context {
        NamedSource::Image(reference) => HeadBase::Image(reference.clone()),
        NamedSource::Directory(number) => HeadBase::Directory(*number),
    }
}

fn key(request: &ImageRequest) -> String {
    format!("{} {}", request.reference, request.platform)
}

fn parse_reference(text: &str, source: &Arc<Source>, span: &Span) -> Result<Reference, PlanError> {
    Reference::parse(text).map_err(|error| PlanError::new(error.to_string()).at(source, span))
}

/// Returns the global arguments, and the errors in them.
fn global_arguments(dockerfile: &Dockerfile, options: &Options, target: &str) -> (Environment, Vec<PlanError>) {
    let mut globals = platform_arguments(options, target);
    let mut errors = Vec::new();
    for instruction in &dockerfile.global_args {
        let Kind::Arg(definitions) = &instruction.kind else { continue };
        for definition in definitions {
            let name = &definition.name.text;
            if let Some(value) = options.build_arg(name) {
                globals.set(name, value);
            } else if let Some(default) = &definition.default {
                match expand_in(&globals, default, dockerfile.escape, &dockerfile.source) {
                    Ok(value) => globals.set(name, &value),
                    Err(error) => errors.push(error),
                }
            }
        }
    }
    (globals, errors)
}

/// Converts stage numbers of the file to numbers of the plan.
fn renumber(stages: &mut [(Stage, Vec<String>)], positions: &HashMap<usize, usize>) {
    for (stage, _) in stages {
        if let Base::Stage(index) = &mut stage.base {
            *index = positions[index];
        }
        for step in &mut stage.steps {
            for from in step.action.origins_mut() {
                if let CopyFrom::Stage(index) = from {
                    *index = positions[index];
                }
            }
        }
    }
}
