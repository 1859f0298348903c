//! Errors of git checkouts.

#![expect(missing_docs, reason = "`#[error]` says it")]

use std::path::PathBuf;
use std::time::Duration;

use super::transport::TransportError;
use crate::diag::Hint;
use crate::fs;
use crate::http::{Interrupted, SetupError, Transient};

/// Why a checkout failed.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("failed to fetch {url}")]
    Fetch {
        url: String,
        #[source]
        source: git2::Error,
    },
    #[error("failed to fetch {url}")]
    Transport {
        url: String,
        #[source]
        source: TransportError,
    },
    #[error("failed to set up the HTTP client")]
    Setup(#[from] SetupError),
    #[error("failed to fetch {url}: the server sent nothing for {} seconds", idle.as_secs())]
    Stalled { url: String, idle: Duration },
    #[error("failed to fetch {url}: more than {limit} bytes")]
    TooLarge { url: String, limit: usize },
    #[error("repository {url} does not contain ref {reference}")]
    Reference { url: String, reference: String },
    #[error("expected checksum to match {expected}, got {found}")]
    Checksum { expected: String, found: String },
    #[error("failed to read {what} of commit {commit}")]
    Object {
        what: String,
        commit: String,
        #[source]
        source: git2::Error,
    },
    #[error("commit {commit} has an entry {path:?}: {problem}")]
    Entry { commit: String, path: String, problem: &'static str },
    #[error("commit {commit} has an entry {path:?} of {size} bytes, the limit is {limit}")]
    LargeEntry { commit: String, path: String, size: u64, limit: u64 },
    #[error("commit {commit} has more than {limit} files and directories")]
    TooManyEntries { commit: String, limit: u64 },
    #[error("the files of commit {commit} have more than {limit} bytes")]
    TooManyBytes { commit: String, limit: u64 },
    #[error("commit {commit} has no directory {subdir:?}")]
    Subdir { commit: String, subdir: String },
    #[error("failed to check out the submodule {path}")]
    Submodule {
        path: String,
        #[source]
        source: Box<GitError>,
    },
    #[error("commit {commit} has a submodule at {path:?}: {problem}")]
    SubmoduleUrl { commit: String, path: String, problem: String },
    #[error("failed to set up the repository in {}", path.display())]
    Keep {
        path: PathBuf,
        #[source]
        source: git2::Error,
    },
    #[error(transparent)]
    File(#[from] fs::Error),
    #[error("failed to run the checkout of {url}")]
    Thread {
        url: String,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Transient for GitError {
    fn transient(&self) -> Option<Option<Duration>> {
        match self {
            // A retry would not help, and a server may count failed logins.
            Self::Fetch { source, .. }
                if matches!(source.code(), git2::ErrorCode::Auth | git2::ErrorCode::Certificate) =>
            {
                None
            }
            Self::Fetch { source, .. } => {
                let network = matches!(source.class(), git2::ErrorClass::Net | git2::ErrorClass::Os);
                // The connection ended within a response, or within the pack in it.
                let broken = source.message().contains("EOF") || source.class() == git2::ErrorClass::Indexer;
                (network || broken).then_some(None)
            }
            Self::Transport { source, .. } => source.transient(),
            Self::Submodule { source, .. } => source.transient(),
            _ => None,
        }
    }
}

impl GitError {
    /// Reports whether the server answered, so that a different request may succeed.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Transport { source, .. } if source.is_answer())
    }
}

impl Hint for GitError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Fetch { source, .. } => match (source.code(), source.class()) {
                (git2::ErrorCode::Auth, git2::ErrorClass::Ssh) => {
                    Some("pass a key for this server: --ssh default=KEYFILE, or --ssh default for the agent at $SSH_AUTH_SOCK".to_owned())
                }
                (git2::ErrorCode::Certificate, git2::ErrorClass::Ssh) => Some(
                    "add the server's key to ~/.ssh/known_hosts of the user who runs the build (ssh-keyscan HOST); an \
                     unknown key is not trusted"
                        .to_owned(),
                ),
                _ => None,
            },
            Self::Transport { source, .. } => source.hint(),
            Self::LargeEntry { .. } => {
                Some("fetch a file of this size with ADD and its URL".to_owned())
            }
            Self::TooManyEntries { .. } => Some("--context-max-entries allows more".to_owned()),
            Self::TooManyBytes { .. } => {
                Some("--context-max-size allows more, as in --context-max-size=20GiB".to_owned())
            }
            Self::Submodule { source, .. } if matches!(&**source, Self::Transport { source, .. } if source.is_astray()) => Some(
                "a remote repository must not refer to this machine or its metadata service: leave submodules out with ?submodules=false"
                    .to_owned(),
            ),
            Self::Submodule { source, .. } => source.hint(),
            Self::SubmoduleUrl { .. } => Some("leave submodules out with ?submodules=false".to_owned()),
            Self::File(error) => error.hint(),
            Self::Thread { source, .. } => source.hint(),
            Self::Setup(_)
            | Self::Stalled { .. }
            | Self::TooLarge { .. }
            | Self::Reference { .. }
            | Self::Checksum { .. }
            | Self::Object { .. }
            | Self::Entry { .. }
            | Self::Subdir { .. }
            | Self::Keep { .. }
            | Self::Interrupted(_) => None,
        }
    }
}
