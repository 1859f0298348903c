//! What a request is for, and what it must be allowed to do.

use std::collections::BTreeSet;

/// Whether a request reads or writes; they may be allowed plain http independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Pull,
    Push,
}

/// What a request needs to be allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Access {
    /// The repository the request is about; it decides which credentials are used.
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

    /// Also reading another repository, which a cross-repository mount needs.
    pub(super) fn and_pull(mut self, source: &str) -> Self {
        self.scopes.insert(format!("repository:{source}:pull"));
        self
    }
}
