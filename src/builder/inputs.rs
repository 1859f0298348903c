//! The named contexts of a build, wherever they are.
//!
//! What is on the network comes to lie in a directory first; from there on it is a context like any other, except that an
//! ignore file in it is not looked at, as for BuildKit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::context::{Context, IgnoreMatcher};
use crate::executor::copy::{CopySource, Fetched, copy};
use crate::location::{HttpLocation, Location};
use crate::plan;
use crate::remote::Downloaded;
use crate::rootfs::Tree;

use super::remotes::Remotes;
use super::{BuildError, BuildRequest};

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
