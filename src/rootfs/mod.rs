//! The tree being built: a directory, what its files ought to be, and what they were when last looked at.
//!
//! Three things make up a [`Tree`]. The directory holds the files. The *record* holds what the file system below could
//! not take – an owner the user namespace does not map, a device node, a file capability – together with what the disk
//! showed at that moment, so that a later change by a program wins over the record. The *index* holds, for every path of
//! the layers so far, how the file looked and a hash of its content; [`crate::snapshot`] compares the directory with it
//! instead of walking it once more before every step.
//!
//! Images are hostile input. Paths are only looked up through [`crate::fs::Root`], every change is made to a name in an open
//! directory, and nothing is held in memory in proportion to a file's size; what is held of names and attributes has a limit
//! ([`metadata_limit`]).

pub mod archive;
mod attributes;
mod baseline;
mod budget;
mod change;
mod copy;
mod directory;
mod error;
mod extract;
mod file;
mod file_copies;
mod index;
mod make;
mod metadata_only;
mod record;
mod tree;
mod writers;

pub use attributes::{Attributes, Node};
pub use budget::metadata_limit;
pub use change::{Change, ChangeKind};
pub use directory::Directory;
pub use error::{MemberError, RootfsError};
pub use extract::LayerSummary;
pub use file_copies::{FileCopies, NotCopied};
pub use index::{ContentHash, ContentHasher, Entries, Entry, Index};
pub use tree::Tree;

pub use crate::fs::xattr::Xattrs;
pub use crate::fs::{FileKind, Timestamp};
