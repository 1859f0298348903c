//! What a step left behind: the tree compared with its baseline.
//!
//! A snapshot is a compare, not a hash of everything. One walk looks at every inode; where number, change time, size and
//! attributes are what the baseline holds, nothing can have happened, because no program can set a change time. Content
//! is read only where attributes are equal and the change time is not, or where the baseline is so young that a change
//! could hide in the same tick of the clock.
//!
//! The answer is that of BuildKit's overlay differ: a directory's time alone is no change, a rewrite with equal content and
//! times is none, what is deleted gets a mark for the topmost path, and the directories on the way to a change are
//! listed before it.
//!
//! An overlay mounted for each command would name the changed files without a walk, where namespaces are allowed. It is not
//! used: its upper directory cannot lie on an overlay, which is where a pod without a volume works, so the walk would be
//! needed all the same, and two ways to the same answer would have to agree in every case. The walk of 53,000 files takes
//! 80 ms (docs/performance.md).
//!
//! Hard links follow from the same rule, name by name. A new name of an unchanged file is a new file, and the layer does
//! not link it to names that stand in layers below: a layer can only link names it holds itself, and writing the others
//! again would make it larger than BuildKit's, where copying a file up breaks its links too. New names of one file are
//! linked to each other. A write through one name changes the file under all its names, which are then all written, linked
//! as they are; an overlay would have broken that link.

mod compare;
mod error;
mod ignored;

pub use compare::{Options, compare};
pub use error::SnapshotError;
pub use ignored::{IgnoredPaths, PatternError};

pub use crate::rootfs::{Change, ChangeKind};
