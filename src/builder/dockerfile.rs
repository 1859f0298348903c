//! Finding and reading the Dockerfile of a request: a file, standard input, or a URL.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::dockerfile::ast::{Dockerfile, Source};
use crate::image::Platform;
use crate::location::HttpLocation;
use crate::plan::{self, PlanError};

use super::{BuildError, BuildRequest};

/// Bytes a Dockerfile may have; no sensible one comes near.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// The name that means standard input.
pub(super) const STANDARD_INPUT: &str = "-";

/// What the Dockerfile is called, wherever it lies.
pub(super) fn name(request: &BuildRequest) -> &str {
    Path::new(&request.dockerfile).file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Reads the Dockerfile, and sets the ignore file that goes with it. `fetch` gives one that is behind a URL as a file here.
pub(super) fn read(
    request: &BuildRequest,
    context: &mut Context,
    fetch: &mut dyn FnMut(&HttpLocation) -> Result<PathBuf, BuildError>,
) -> Result<Source, BuildError> {
    let remote = HttpLocation::parse(&request.dockerfile)
        .map_err(|source| BuildError::Location { flag: "--dockerfile", source })?;
    let (name, bytes) = if request.dockerfile == STANDARD_INPUT {
        context.load_own_ignore()?;
        ("Dockerfile from standard input".to_owned(), bounded(std::io::stdin().lock(), "standard input")?)
    } else if let Some(location) = remote {
        context.load_own_ignore()?;
        let name = location.to_string();
        let bytes = bounded(crate::fs::open(&fetch(&location)?)?, &name)?;
        (name, bytes)
    } else {
        let path = find(&request.dockerfile, context)?;
        context.load_ignore(&path)?;
        let name = path.display().to_string();
        let bytes = bounded(crate::fs::open(&path)?, &name)?;
        (name, bytes)
    };
    let text = String::from_utf8(bytes).map_err(|_| BuildError::NotText { path: PathBuf::from(&name) })?;
    Ok(Source { name, text })
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

/// The file: as named, else below the context (kaniko's order); a name in capitals may be in small letters.
fn find(name: &str, context: &Context) -> Result<PathBuf, BuildError> {
    let named = Path::new(name);
    let in_context = context.root.join(named);
    let lower = in_context.with_file_name("dockerfile");
    let mut candidates = vec![named.to_owned(), in_context];
    if named.file_name().is_some_and(|name| name == "Dockerfile") {
        candidates.push(lower);
    }
    candidates.dedup();
    let found = |path: &PathBuf| context.confined(path).filter(|path| path.is_file());
    match candidates.iter().find_map(found) {
        Some(path) => Ok(path),
        None => {
            let tried = candidates.iter().map(|path| path.display().to_string()).collect();
            Err(BuildError::NoDockerfile { tried })
        }
    }
}

/// The syntax tree, or everything that is wrong with the text and what could be read of it.
pub(super) fn parse(source: Source, options: &plan::Options) -> Result<Dockerfile, Vec<PlanError>> {
    crate::dockerfile::parse(source).map_err(|invalid| {
        let more = invalid.rest.map(|rest| plan::check_rest(&rest, options)).unwrap_or_default();
        let mut errors: Vec<PlanError> = invalid.errors.into_iter().map(PlanError::from).chain(more).collect();
        errors.sort_by_key(|error| error.place.as_ref().map_or(usize::MAX, |(_, span)| span.start));
        errors
    })
}

/// What the request says about the plan.
pub(super) fn options(request: &BuildRequest) -> plan::Options {
    plan::Options {
        build_args: request
            .build_args
            .iter()
            .filter_map(|(name, value)| value.clone().map(|value| (name.clone(), value)))
            .collect(),
        target: request.target.clone(),
        also_built: request.also_built.clone(),
        contexts: request.contexts.clone(),
        single_snapshot: request.single_snapshot,
        labels: request.labels.clone(),
        build_platform: Platform::host(),
        target_platform: request.platform.clone().unwrap_or_else(Platform::host),
    }
}
