//! What happened to a path between two layers.

use std::path::PathBuf;

/// A path that a layer has to mention.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The path, without a leading slash.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// Why a layer mentions a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It was there and differs in kind, attributes or content.
    Modified,
    /// It is gone.
    Removed,
    /// A directory on the way to another change.
    Parent,
}
