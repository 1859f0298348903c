//! Opens the contexts of a build, local and remote.
//!
//! A remote context is first downloaded to a directory; then it is a context like any other. Archives are unpacked
//! while they are downloaded, within the limits of the request. An ignore file in a remote named context is not used,
//! as in BuildKit.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::context::Context;
use crate::diag::interrupt;
use crate::diag::redact::Secret;
use crate::executor::copy::{CopySource, FetchedSource, UnpackLimits, copy, unpack_context};
use crate::location::{ContextLocation, GitContext, HttpLocation, Location};
use crate::plan;
use crate::remote::{CheckoutLimits, Downloaded, Incoming};
use crate::rootfs::Tree;

use super::error::BuildError;
use super::remotes::Remotes;
use super::request::BuildRequest;

/// The interval at which signals are checked while standard input has no data.
const INTERRUPT_POLL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The number of times that an archive is fetched from its start, if the server cannot continue a download.
const MAX_STARTS: u32 = 3;
/// The directory of the main context, below the build's directory.
const CONTEXT: &str = "context";

/// Returns the main context if it is a local directory.
pub(super) fn local_context(request: &BuildRequest) -> Result<Option<Context>, BuildError> {
    match &request.inputs.context {
        ContextLocation::Directory(path) => Ok(Some(Context::open(path, request.inputs.context_sub_path.as_deref())?)),
        _ => Ok(None),
    }
}

/// Fetches the main context below `directory`.
pub(super) fn fetched_context(
    request: &BuildRequest,
    remotes: &Remotes,
    directory: &Path,
) -> Result<Context, BuildError> {
    if request.inputs.context == ContextLocation::StandardInput
        && request.inputs.dockerfile == super::dockerfile::STANDARD_INPUT
    {
        return Err(BuildError::InputTwice);
    }
    let root = directory_of(&request.inputs.context, request, remotes, directory.join(CONTEXT))?;
    Ok(Context::fetched(root, &request.inputs.context.to_string(), request.inputs.context_sub_path.as_deref())?)
}

/// Fetches a context to `place`, or to the directory of repositories. Local directories stay where they are.
fn directory_of(
    location: &ContextLocation,
    request: &BuildRequest,
    remotes: &Remotes,
    place: PathBuf,
) -> Result<PathBuf, BuildError> {
    let archive = |input: &mut dyn Read| {
        let mut tree = Tree::create(&place).map_err(|error| BuildError::ContextArchive(error.into()))?;
        let described = location.to_string();
        unpack_context(input, &mut tree, request.inputs.context_limits, &described).map_err(BuildError::ContextArchive)
    };
    let incoming = |mut incoming: Incoming| {
        let unpacked = archive(&mut incoming);
        // The unpacking error is a consequence of the failed download.
        incoming.failure().map_or(unpacked, |failure| Err(failure.into()))
    };
    match location {
        ContextLocation::Directory(path) => return Ok(PathBuf::from(path)),
        ContextLocation::Git(location) => {
            return Ok(remotes.repository(location, checkout_limits(request))?.directory);
        }
        ContextLocation::Archive(path) => archive(&mut crate::fs::open(path)?)?,
        ContextLocation::StandardInput if io::stdin().is_terminal() => return Err(BuildError::Terminal),
        ContextLocation::StandardInput => archive(&mut StandardInput(io::stdin()))?,
        ContextLocation::Http(location) => {
            let mut again = MAX_STARTS - 1;
            loop {
                match incoming(remotes.archive(location)) {
                    Err(BuildError::Transfer(error)) if again > 0 && error.may_begin_again() => {
                        again -= 1;
                        tracing::warn!("{error}; starting again");
                        crate::fs::remove_dir_all(&place)?;
                    }
                    result => break result?,
                }
            }
        }
        ContextLocation::Bucket(location) => incoming(remotes.object(location))?,
    }
    Ok(place)
}

/// The limits of archives apply to repositories as well.
fn checkout_limits(request: &BuildRequest) -> CheckoutLimits {
    let UnpackLimits { entries, bytes } = request.inputs.context_limits;
    CheckoutLimits { entries, bytes, ..CheckoutLimits::DEFAULT }
}

/// Standard input whose reads end at a signal: the writer may never write.
struct StandardInput(io::Stdin);

impl Read for StandardInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            interrupt::check()?;
            let mut files = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut files, Some(&INTERRUPT_POLL)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(rustix::io::read(&self.0, buffer)?),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Returns the login for the server of a repository that is the context, from kaniko's variables: the id of a secret
/// and its content. It also applies to other repositories of the server, such as submodules, over the same scheme and
/// port.
pub(super) fn git_login(request: &BuildRequest) -> Option<(String, Secret<String>)> {
    let (ContextLocation::Git(location), Some((user, password))) = (&request.inputs.context, &request.inputs.git_login)
    else {
        return None;
    };
    let scheme = location.remote.split_once("://").map(|(scheme, _)| scheme).filter(|_| !location.is_ssh())?;
    let header = format!("basic {}", STANDARD.encode(format!("{user}:{}", password.reveal())));
    Some((format!("GIT_AUTH_HEADER.{scheme}://{}", location.host()), Secret::new(header)))
}

/// Opens the contexts of `--build-context` that are files. A local directory has its own `.dockerignore`.
pub(super) fn named_contexts(
    request: &BuildRequest,
    remotes: &Remotes,
    directory: &Path,
) -> Result<Vec<Context>, BuildError> {
    let open = |(number, text): (usize, &String)| {
        let place = directory.join(format!("context-{}", number + 1));
        if let Some(location) = archive_location(text)? {
            let root = directory_of(&location, request, remotes, place)?;
            return Ok(Context::fetched(root, &location.to_string(), None)?);
        }
        let location =
            Location::parse(text).map_err(|source| BuildError::Location { flag: "--build-context", source })?;
        match location {
            Some(location) => fetched(&location, request, remotes, place),
            None => {
                let mut context = Context::open(text, None)?;
                context.load_own_ignore()?;
                Ok(context)
            }
        }
    };
    request.inputs.context_directories.iter().enumerate().map(open).collect()
}

/// Parses the location of a local archive or one in a bucket, which kaniko knows and BuildKit does not.
fn archive_location(text: &str) -> Result<Option<ContextLocation>, BuildError> {
    let location = ContextLocation::parse(text, &GitContext::default())
        .map_err(|source| BuildError::Location { flag: "--build-context", source });
    match location {
        Ok(location @ (ContextLocation::Archive(_) | ContextLocation::Bucket(_))) => Ok(Some(location)),
        // BuildKit's rules apply, including their errors.
        Ok(_) => Ok(None),
        Err(_) if !text.starts_with("tar://") && !text.starts_with("s3://") && !text.starts_with("gs://") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Fetches a remote context: the files of a repository, the members of an archive, or a single file of any other kind.
fn fetched(
    location: &Location,
    request: &BuildRequest,
    remotes: &Remotes,
    place: PathBuf,
) -> Result<Context, BuildError> {
    let root = match location {
        Location::Git(location) => remotes.repository(location, checkout_limits(request))?.directory,
        Location::Http(location) => {
            unpack(&remotes.file(location, None)?, location, &place)?;
            place
        }
    };
    Ok(Context::fetched(root, &location.to_string(), None)?)
}

/// Does what `ADD --unpack` of the file does in an empty directory.
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
    let archive = FetchedSource {
        tree: open(directory)?,
        name: file.file_name.clone(),
        describe: location.to_string(),
        unpack: true,
    };
    // The fetched file is the only source of the step.
    let nothing = open(directory)?;
    let source = CopySource { tree: &nothing, ignore: None, reset_owner: true, describe: "nothing" };
    let mut into = Tree::create(place).map_err(|error| failed(error.into()))?;
    copy(&step, &source, &BTreeMap::from([(0, archive)]), &mut into).map_err(failed)
}
