//! Why a repository could not be checked out.

use std::path::PathBuf;
use std::time::Duration;

use super::transport::TransportError;
use crate::diag::Hint;
use crate::fs;
use crate::http::{Interrupted, SetupError, Transient};

/// A checkout that failed.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The server cannot be reached, refuses, or sends something that makes no sense.
    #[error("fetch {url}")]
    Fetch {
        /// The repository, without credentials.
        url: String,
        /// What the git library says.
        #[source]
        source: git2::Error,
    },
    /// The server cannot be asked over HTTP, or what it answers is not what a git server would.
    #[error("fetch {url}")]
    Transport {
        /// The repository, without credentials.
        url: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// The HTTP client could not be made.
    #[error("failed to set up the HTTP client")]
    Setup(#[from] SetupError),
    /// Nothing came for too long.
    #[error("fetch {url}: nothing came for {} seconds", idle.as_secs())]
    Stalled {
        /// The repository, without credentials.
        url: String,
        /// How long.
        idle: Duration,
    },
    /// More came than a repository should have.
    #[error("fetch {url}: more than {limit} bytes")]
    TooLarge {
        /// The repository, without credentials.
        url: String,
        /// The limit.
        limit: usize,
    },
    /// There is no such branch, tag or commit.
    #[error("repository {url} does not contain ref {reference}")]
    Reference {
        /// The repository, without credentials.
        url: String,
        /// What was asked for.
        reference: String,
    },
    /// The commit is another one than was asked for. In BuildKit's words.
    #[error("expected checksum to match {expected}, got {found}")]
    Checksum {
        /// What the commit's hash should start with.
        expected: String,
        /// The commit's hash.
        found: String,
    },
    /// An object of the repository cannot be read.
    #[error("read {what} of commit {commit}")]
    Object {
        /// What was to be read.
        what: String,
        /// The commit.
        commit: String,
        /// What the git library says.
        #[source]
        source: git2::Error,
    },
    /// A name in a commit that no file system should get.
    #[error("commit {commit} has an entry {path:?}: {problem}")]
    Entry {
        /// The commit.
        commit: String,
        /// The entry's path, as far as it is text.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file or link of a commit is larger than one may be.
    #[error("commit {commit} has an entry {path:?} of {size} bytes, the limit is {limit}")]
    LargeEntry {
        /// The commit.
        commit: String,
        /// The entry's path, as far as it is text.
        path: String,
        /// How large it is.
        size: u64,
        /// How large it may be.
        limit: u64,
    },
    /// There is more in a commit than is wanted.
    #[error("commit {commit} has more than {limit} files and directories")]
    TooManyEntries {
        /// The commit.
        commit: String,
        /// The limit.
        limit: u64,
    },
    /// The files of a commit are larger than is wanted.
    #[error("the files of commit {commit} have more than {limit} bytes")]
    TooManyBytes {
        /// The commit.
        commit: String,
        /// The limit.
        limit: u64,
    },
    /// There is no such directory in the commit.
    #[error("commit {commit} has no directory {subdir:?}")]
    Subdir {
        /// The commit.
        commit: String,
        /// What was asked for.
        subdir: String,
    },
    /// A submodule could not be had.
    #[error("check out the submodule {path}")]
    Submodule {
        /// Where it belongs.
        path: String,
        /// Why.
        #[source]
        source: Box<GitError>,
    },
    /// A submodule that cannot be fetched from anywhere.
    #[error("commit {commit} has a submodule at {path:?}: {problem}")]
    SubmoduleUrl {
        /// The commit.
        commit: String,
        /// Where it belongs.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The repository that is kept could not be put in order.
    #[error("keep the repository in {}", path.display())]
    Keep {
        /// Where it is.
        path: PathBuf,
        /// What the git library says.
        #[source]
        source: git2::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// The thread that does the work could not be started, or ended without a word.
    #[error("start the checkout of {url}")]
    Thread {
        /// The repository, without credentials.
        url: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The build was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Transient for GitError {
    fn transient(&self) -> Option<Option<Duration>> {
        match self {
            // Asking again changes nothing, and a server may count failed logins.
            Self::Fetch { source, .. }
                if matches!(source.code(), git2::ErrorCode::Auth | git2::ErrorCode::Certificate) =>
            {
                None
            }
            Self::Fetch { source, .. } => {
                let network = matches!(source.class(), git2::ErrorClass::Net | git2::ErrorClass::Os);
                // The connection ended in the middle of an answer, or of the pack in it.
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
    /// Whether the server answered a question, and may have another answer for another one.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Transport { source, .. } if source.is_answer())
    }
}

impl Hint for GitError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Fetch { source, .. } => match (source.code(), source.class()) {
                (git2::ErrorCode::Auth, git2::ErrorClass::Ssh) => {
                    Some("give the build a key for this server: --ssh default=KEYFILE, or --ssh default for the agent at $SSH_AUTH_SOCK".to_owned())
                }
                (git2::ErrorCode::Certificate, git2::ErrorClass::Ssh) => Some(
                    "the server's key must be in ~/.ssh/known_hosts of the user who builds (ssh-keyscan HOST); it is not \
                     trusted unseen"
                        .to_owned(),
                ),
                _ => None,
            },
            Self::Transport { source, .. } => source.hint(),
            Self::LargeEntry { .. } => {
                Some("let the build fetch a file of that size itself, with ADD and its URL".to_owned())
            }
            Self::TooManyEntries { .. } => Some("--context-max-entries allows more".to_owned()),
            Self::TooManyBytes { .. } => {
                Some("--context-max-size allows more, as in --context-max-size=20GiB".to_owned())
            }
            Self::Submodule { source, .. } if matches!(&**source, Self::Transport { source, .. } if source.is_astray()) => Some(
                "a repository elsewhere must not lead to this machine or its metadata service: leave submodules out with ?submodules=false"
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
