//! Finds and reads the Dockerfile of a request: a file, standard input, or a URL.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::context::{Context, InputFile};
use crate::dockerfile::ast::{Dockerfile, Source};
use crate::image::Platform;
use crate::location::HttpLocation;
use crate::plan::{self, PlanError};

use super::error::BuildError;
use super::request::BuildRequest;

/// The most bytes of a Dockerfile; real ones are much smaller.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// The name that means standard input.
pub(super) const STANDARD_INPUT: &str = "-";

/// Returns the name of the Dockerfile as the request has it.
pub(super) fn name(request: &BuildRequest) -> &str {
    Path::new(&request.inputs.dockerfile).file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Reads the Dockerfile, and sets the ignore file that belongs to it. `fetch` downloads one with a URL.
pub(super) fn read(
    request: &BuildRequest,
    context: &mut Context,
    fetch: &mut dyn FnMut(&HttpLocation) -> Result<PathBuf, BuildError>,
) -> Result<Source, BuildError> {
    let remote = HttpLocation::parse(&request.inputs.dockerfile)
        .map_err(|source| BuildError::Location { flag: "--dockerfile", source })?;
    let (name, bytes) = if request.inputs.dockerfile == STANDARD_INPUT {
        context.load_own_ignore()?;
        ("Dockerfile from standard input".to_owned(), bounded(std::io::stdin().lock(), "standard input")?)
    } else if let Some(location) = remote {
        context.load_own_ignore()?;
        let name = location.to_string();
        let bytes = bounded(crate::fs::open(&fetch(&location)?)?, &name)?;
        (name, bytes)
    } else {
        let InputFile { path, content, may_be_quoted } = find(request, context)?;
        context.load_ignore(&path)?;
        let name = path.display().to_string();
        if !may_be_quoted {
            check_unquoted(&name, &content)?;
        }
        (name, content)
    };
    let text = String::from_utf8(bytes).map_err(|_| BuildError::NotText { path: PathBuf::from(&name) })?;
    Ok(Source { name, text })
}

/// Fails, without quoting the text, if a file that may hold anything is not a Dockerfile.
fn check_unquoted(name: &str, content: &[u8]) -> Result<(), BuildError> {
    let Ok(text) = std::str::from_utf8(content) else { return Ok(()) };
    let source = Source { name: name.to_owned(), text: text.to_owned() };
    match crate::dockerfile::parse(source) {
        Ok(_) => Ok(()),
        Err(invalid) => Err(BuildError::UnquotedDockerfile { path: PathBuf::from(name), errors: invalid.errors.len() }),
    }
}

fn bounded(input: impl std::io::Read, name: &str) -> Result<Vec<u8>, BuildError> {
    let failed = |error| crate::fs::Error::new("read", name, error);
    let mut bytes = Vec::new();
    input.take(MAX_DOCKERFILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_DOCKERFILE {
        return Err(failed(std::io::Error::from(std::io::ErrorKind::FileTooLarge)).into());
    }
    Ok(bytes)
}

/// Finds the file: first at the path of the command line, then below the context (kaniko's order). A capitalized name
/// also matches a lower-case one. A file outside of the context must be named on the command line; links in the context
/// cannot lead there.
fn find(request: &BuildRequest, context: &Context) -> Result<InputFile, BuildError> {
    let named = Path::new(&request.inputs.dockerfile);
    let mut candidates: Vec<PathBuf> =
        request.inputs.dockerfile_is_named.then(|| named.to_owned()).into_iter().collect();
    if !request.inputs.dockerfile_is_named || context.inside(named)?.is_none() {
        candidates.push(context.root.join(named.strip_prefix("/").unwrap_or(named)));
    }
    if named.file_name().is_some_and(|name| name == "Dockerfile") {
        candidates.extend(candidates.last().map(|path| path.with_file_name("dockerfile")));
    }
    for path in &candidates {
        if !crate::fs::gated::is_dir(path)
            && let Some(file) = context.named_file(path)?
        {
            return Ok(file);
        }
    }
    for path in &candidates {
        if let Some(target) = context.inside(path)?.and_then(|inside| context.lost_link(&inside)) {
            return Err(BuildError::DockerfileLink { path: path.clone(), target });
        }
    }
    Err(BuildError::NoDockerfile { tried: candidates.iter().map(|path| path.display().to_string()).collect() })
}

/// Returns the syntax tree, or all errors of the text and of the part that could be parsed.
pub(super) fn parse(source: Source, options: &plan::Options) -> Result<Dockerfile, Vec<PlanError>> {
    crate::dockerfile::parse(source).map_err(|invalid| {
        let more = invalid.rest.map(|rest| plan::check_rest(&rest, options)).unwrap_or_default();
        let mut errors: Vec<PlanError> = invalid.errors.into_iter().map(PlanError::from).chain(more).collect();
        errors.sort_by_key(|error| error.place.as_ref().map_or(usize::MAX, |(_, span)| span.start));
        errors
    })
}

/// Returns the request's options for the plan.
pub(super) fn options(request: &BuildRequest) -> plan::Options {
    plan::Options {
        build_args: request
            .target
            .build_args
            .iter()
            .filter_map(|(name, value)| value.clone().map(|value| (name.clone(), value)))
            .collect(),
        target: request.target.stage.clone(),
        also_built: request.target.also_built.clone(),
        contexts: request.inputs.contexts.clone(),
        single_snapshot: request.layers.single_snapshot,
        labels: request.target.labels.clone(),
        build_platform: Platform::host(),
        target_platform: request.target.platform.clone().unwrap_or_else(Platform::host),
    }
}
