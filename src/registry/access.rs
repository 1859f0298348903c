//! Defines the purpose of a request, and the access that it needs.

use std::collections::BTreeSet;

/// The direction of a request. Plain http may be allowed for each separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Pull,
    Push,
}

/// The access that a request needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Access {
    /// The repository of the request, which determines the credentials.
    pub(super) repository: String,
    /// `repository:a/b:pull,push` …
    pub(super) scopes: BTreeSet<String>,
}

impl Access {
    pub(super) fn pull(repository: &str) -> Self {
        Self { repository: repository.to_owned(), scopes: BTreeSet::from([format!("repository:{repository}:pull")]) }
    }

    pub(super) fn push(repository: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            scopes: BTreeSet::from([format!("repository:{repository}:pull,push")]),
        }
    }

    pub(super) fn delete(repository: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            scopes: BTreeSet::from([format!("repository:{repository}:delete,pull")]),
        }
    }

    /// Adds read access to a second repository, for a cross-repository mount.
    pub(super) fn and_pull(mut self, source: &str) -> Self {
        self.scopes.insert(format!("repository:{source}:pull"));
        self
    }
}
