//! Finds the changes of a step by comparing the tree with its baseline.
//!
//! A snapshot is a comparison, not a hash of everything. One walk inspects every inode. If number, change time, size
//! and attributes are those of the baseline, the file is unchanged, because no program can set a change time. Content
//! is read only if the attributes are equal but the change time is not, or if the baseline is so recent that a change
//! could have happened in the same tick of the clock.
//!
//! The result is that of BuildKit's overlay differ: a directory's time alone is not a change, nor is a rewrite with
//! equal content and times; a deleted directory has one whiteout, for its topmost path; and parent directories are
//! listed before a change.
//!
//! An overlay mounted for each command would list the changed files without a walk, where namespaces are allowed. It is
//! not used, because its upper directory cannot be on an overlay, which is the file system of a pod without a volume.
//! So the walk would still be needed, and both methods would have to agree in every case. The walk of 53,000 files
//! takes 80 ms (docs/performance.md).
//!
//! Hard links follow the same rule, name by name. A new name of an unchanged file is a new file, and the layer does not
//! link it to names in lower layers: a layer can only link names of its own, and writing the others again would make it
//! larger than BuildKit's, where copying up a file breaks its links as well. New names of one file are linked to each
//! other. A write through one name changes the file under all its names; all of them are written, linked to each other.
//! An overlay would have broken that link.

mod compare;
mod error;
mod ignored;

pub use compare::{Options, compare};
pub use error::SnapshotError;
pub use ignored::{IgnoredPaths, PatternError};

pub use crate::rootfs::{Change, ChangeKind};
