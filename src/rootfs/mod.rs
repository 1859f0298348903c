//! The root file system of a stage: a directory, its files' attributes, and their state when last inspected.
//!
//! A [`Tree`] has three parts. The directory holds the files. The *record* holds attributes that the file system does
//! not accept (an owner that the user namespace does not map, a device node, a file capability), with the status on
//! disk at that time, so that a later change by a program takes precedence. The *index* holds the state of every path
//! of the layers, with a hash of its content. [`crate::snapshot`] compares the directory with it, so that no additional
//! walk is needed before every step.
//!
//! Images are untrusted input. Paths are only resolved through [`crate::fs::Root`], every change is made to a name in
//! an open directory, and no buffer depends on a file's size. Memory for names and attributes has a limit
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
