//! `COPY` and `ADD`: copies files from the build context, a stage or an image into the tree of a stage.
//!
//! The effect of an instruction depends on what its words name, so the order is:
//!
//! 1. `source` finds every source: wildcards, links, ignored files.
//! 2. `place` copies each source to the path that `destination` determines, without the files that `--exclude` and
//!    `--parents` leave out (`selection`). `unpack` unpacks the archives of `ADD`.
//!
//! Owners and modes follow BuildKit: files of the context belong to root, files of a stage keep their owner. `--chown`
//! and `--chmod` (`mode`) override both, also for directories that are made for the destination.

mod archive;
mod contents;
mod context_archive;
mod destination;
mod error;
mod mode;
mod place;
mod selection;
mod source;
mod step;
#[cfg(test)]
mod tests;
mod unpack;

pub use contents::{FileDigests, contents};
pub use context_archive::unpack_context;
pub use error::{CopyError, MemberError};
pub use mode::{ModeChange, ModeError};
pub use source::CopySource;
pub use step::{FetchedSource, copy};
pub use unpack::UnpackLimits;
