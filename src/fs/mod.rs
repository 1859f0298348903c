//! File system access whose errors name the path, and the descriptor-relative calls that cannot be led astray.
//!
//! Two needs meet here. Ordinary files of the build (spools, digest files, configurations) go through the thin wrappers,
//! which differ from `std::fs` only in that every error says what was done to which path. The trees that images are
//! unpacked into are hostile: whoever made the image chose the symbolic links in it. They are only ever reached through
//! [`Root`], which no path can leave. And a path may lead elsewhere for a while: [`gate`] says when, and keeps everything that goes
//! by one waiting then.

#![allow(clippy::disallowed_methods, reason = "the gate is here")]

mod descent;
mod error;
mod files;
pub mod gate;
pub mod gated;
mod growing_file;
mod removals;
mod remove;
mod root;
mod status;
pub mod sys;
mod walk;
pub mod xattr;

pub use descent::Descent;
pub use error::{Error, failed_to};
pub use files::{
    create, create_dir_all, metadata, open, read, read_to_string, remove_file, rename, symlink_metadata, write,
    write_atomic,
};
pub use growing_file::{Completion, GrowingFile, GrowingFileReader, ReadAt};
pub use removals::{OwnedDirectory, Removals};
pub use remove::{remove_at, remove_dir_all};
pub use root::Root;
pub use status::{FileKind, Status, Timestamp};
pub use walk::{Step, Walk};
