//! What a build reads: its Dockerfile, its context and the named ones, wherever they are.
//!
//! What is on the network comes to lie in a directory first; from there on it is a context like any other, except that an
//! ignore file in it is not looked at, as for BuildKit.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::context::{Context, IgnoreMatcher};
use crate::dockerfile::ast::{Dockerfile, Source};
use crate::executor::copy::{CopySource, Fetched, copy};
use crate::location::{HttpLocation, Location};
use crate::plan::{self, PlanError};
use crate::remote::Downloaded;
use crate::rootfs::Tree;

use super::remotes::Remotes;
use super::{BuildError, BuildRequest, plan_options};

/// Bytes a Dockerfile may have; no sensible one comes near.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// The name that means standard input.
const STANDARD_INPUT: &str = "-";

/// The Dockerfile's text, and where it is if it is a file here.
struct Text {
    name: String,
    path: Option<PathBuf>,
    bytes: Vec<u8>,
}

/// Reads and parses the Dockerfile, and sets the ignore file that goes with it.
pub(super) fn dockerfile(
    request: &BuildRequest,
    context: &mut Context,
    remotes: &Remotes,
) -> Result<Dockerfile, BuildError> {
    let Text { name, path, bytes } = text(request, context, remotes)?;
    let text = String::from_utf8(bytes).map_err(|_| BuildError::NotText { path: PathBuf::from(&name) })?;
    let parsed = crate::dockerfile::parse(Source { name, text }).map_err(|invalid| {
        let more = invalid.rest.map(|rest| plan::check_rest(&rest, &plan_options(request))).unwrap_or_default();
        let mut errors: Vec<PlanError> = invalid.errors.into_iter().map(PlanError::from).chain(more).collect();
        errors.sort_by_key(|error| error.place.as_ref().map_or(usize::MAX, |(_, span)| span.start));
        BuildError::Dockerfile(errors)
    })?;
    match path {
        Some(path) => context.load_ignore(&path)?,
        None => context.load_own_ignore()?,
    }
    Ok(parsed)
}

fn text(request: &BuildRequest, context: &Context, remotes: &Remotes) -> Result<Text, BuildError> {
    if request.dockerfile == STANDARD_INPUT {
        let bytes = bounded(std::io::stdin().lock(), "standard input")?;
        return Ok(Text { name: "Dockerfile from standard input".to_owned(), path: None, bytes });
    }
    let remote = HttpLocation::parse(&request.dockerfile)
        .map_err(|source| BuildError::Location { flag: "--dockerfile", source })?;
    if let Some(location) = remote {
        let Downloaded { path, .. } = remotes.file(&location, None)?;
        let bytes = bounded(crate::fs::open(&path)?, &location.to_string())?;
        return Ok(Text { name: location.to_string(), path: None, bytes });
    }
    let path = find(&request.dockerfile, context)?;
    let bytes = crate::fs::read(&path)?;
    Ok(Text { name: path.display().to_string(), path: Some(path), bytes })
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
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => {
            let tried = candidates.iter().map(|path| path.display().to_string()).collect();
            Err(BuildError::NoDockerfile { tried })
        }
    }
}

/// The contexts of `--build-context` that are files: a local directory has its own `.dockerignore`.
pub(super) fn named_contexts(
    request: &BuildRequest,
    remotes: &Remotes,
    directory: &Path,
) -> Result<Vec<Context>, BuildError> {
    let open = |(number, text): (usize, &String)| {
        let location =
            Location::parse(text).map_err(|source| BuildError::Location { flag: "--build-context", source })?;
        match location {
            Some(location) => fetched(&location, remotes, directory.join(format!("context-{}", number + 1))),
            None => {
                let mut context = Context::open(text, None)?;
                context.load_own_ignore()?;
                Ok(context)
            }
        }
    };
    request.context_directories.iter().enumerate().map(open).collect()
}

/// A context from the network: a repository's files, an archive's members, or a file that is no archive as the only one.
fn fetched(location: &Location, remotes: &Remotes, place: PathBuf) -> Result<Context, BuildError> {
    let root = match location {
        Location::Git(location) => remotes.repository(location)?.directory,
        Location::Http(location) => {
            unpack(&remotes.file(location, None)?, location, &place)?;
            place
        }
    };
    Ok(Context { root, ignore: IgnoreMatcher::default(), description: format!("build context {location}") })
}

/// Does what `ADD --unpack` of the file would do in an empty directory.
fn unpack(file: &Downloaded, location: &HttpLocation, place: &Path) -> Result<(), BuildError> {
    let failed = |source| BuildError::Unpack { location: location.to_string(), source };
    let open = |path: &Path| Tree::open(path).map_err(|error| failed(error.into()));
    let step = plan::Copy {
        add: true,
        sources: vec![file.file_name.clone()],
        destination: "/".to_owned(),
        working_directory: "/".to_owned(),
        ..plan::Copy::default()
    };
    let directory = file.path.parent().unwrap_or(Path::new("/"));
    let archive =
        Fetched { tree: open(directory)?, name: file.file_name.clone(), describe: location.to_string(), unpack: true };
    // The step has no other source than the one that was fetched.
    let nothing = open(directory)?;
    let source = CopySource { tree: &nothing, ignore: None, reset_owner: true, describe: "nothing" };
    let mut into = Tree::create(place).map_err(|error| failed(error.into()))?;
    copy(&step, &source, &BTreeMap::from([(0, archive)]), &mut into).map_err(failed)
}
