//! Resolves the sources of `ADD` that are fetched over the network.

use std::fmt;
use std::sync::Arc;

use crate::dockerfile::ast::{self, Source, Word};
use crate::image::Digest;
use crate::location::{GitLocation, HttpLocation, Location};

use super::PlanError;

/// A source to fetch, with the instruction's flags for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteSource {
    /// A file.
    File {
        /// The URL.
        location: HttpLocation,
        /// `--checksum`.
        checksum: Option<Digest>,
        /// `--unpack`: true to unpack an archive, which is not the default.
        unpack: bool,
    },
    /// A directory of a commit; `--checksum` and `--keep-git-dir` are part of the location.
    Repository(GitLocation),
}

/// The location, without credentials.
impl fmt::Display for RemoteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { location, .. } => location.fmt(f),
            Self::Repository(location) => location.fmt(f),
        }
    }
}

/// Returns the remote source that `text`, the expanded `word`, names; `None` for a path. `checksum` is the flag's
/// expanded value.
pub(super) fn source(
    text: &str,
    step: &ast::Copy,
    checksum: Option<&str>,
    (word, file): (&Word, &Arc<Source>),
) -> Result<Option<RemoteSource>, PlanError> {
    let location = match Location::parse(text) {
        Ok(Some(location)) => location,
        // COPY accepts any file name; only a definite URL is an error there.
        Ok(None) => return Ok(None),
        Err(_) if !step.add && !text.contains("://") => return Ok(None),
        Err(error) => return Err(PlanError::new(error.to_string()).at(file, &word.span)),
    };
    if !step.add {
        if !text.contains("://") {
            return Ok(None);
        }
        let error = PlanError::new(format!("source can't be a URL for COPY: {location}"));
        return Err(error.at(file, &word.span).with_hint("use ADD"));
    }
    match location {
        Location::Http(location) => {
            if let Some(flag) = step.keep_git_dir.as_ref().filter(|flag| flag.value) {
                return Err(PlanError::new("--keep-git-dir requires a git source")
                    .at(file, &flag.span)
                    .with_hint("the URL of a git repository over http ends with .git"));
            }
            let checksum = checksum.map(|text| digest(text, step, file)).transpose()?;
            Ok(Some(RemoteSource::File {
                location,
                checksum,
                unpack: step.unpack.as_ref().is_some_and(|flag| flag.value),
            }))
        }
        Location::Git(location) => repository(location, step, checksum, file).map(Some),
    }
}

fn repository(
    mut location: GitLocation,
    step: &ast::Copy,
    checksum: Option<&str>,
    file: &Arc<Source>,
) -> Result<RemoteSource, PlanError> {
    if let Some(flag) = &step.keep_git_dir {
        location.keep_git_dir(flag.value).map_err(|error| PlanError::new(error.to_string()).at(file, &flag.span))?;
    }
    if let (Some(text), Some(word)) = (checksum, &step.checksum) {
        location.require(text).map_err(|error| {
            let error = PlanError::new(error.to_string()).at(file, &word.span);
            error.with_hint("for a git source it is the commit's hash, or the start of it")
        })?;
    }
    Ok(RemoteSource::Repository(location))
}

fn digest(text: &str, step: &ast::Copy, file: &Arc<Source>) -> Result<Digest, PlanError> {
    text.parse().map_err(|error| {
        let error = PlanError::new(format!("invalid checksum \"{text}\": {error}"));
        let error = match &step.checksum {
            Some(word) => error.at(file, &word.span),
            None => error,
        };
        error.with_hint("write it as sha256: and 64 hexadecimal digits")
    })
}
