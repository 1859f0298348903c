//! File system access with errors that name the path, and system calls relative to open directories.
//!
//! Files of the build itself (spools, digest files, configurations) use thin wrappers, which only differ from `std::fs`
//! in that every error names the operation and the path. The trees that images are unpacked into are untrusted: the
//! image's author chose the symbolic links in them. They are only accessed through [`Root`], which no path can leave.
//! While own-root has an image's files in `/`, paths lead elsewhere; [`gate`] makes every use of a path wait until
//! then.

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
