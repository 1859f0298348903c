//! A change of a path between two layers.

use std::path::PathBuf;

/// A path that a layer contains.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The path, without a leading slash.
    pub path: PathBuf,
    /// The kind of change.
    pub kind: ChangeKind,
}

/// The kind of change of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// The path is new.
    Added,
    /// The path existed and differs in kind, attributes or content.
    Modified,
    /// The path was deleted.
    Removed,
    /// A parent directory of a different change.
    Parent,
}
