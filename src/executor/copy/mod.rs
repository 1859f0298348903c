//! COPY and ADD: files from the build context, another stage or an image into the tree of a stage.
//!
//! What becomes of an instruction depends on what its words lead to, so it is done in this order: every source is found
//! (`source`: wildcards, links, ignored files), then each is placed (`place`) where the destination puts it
//! (`destination`), less what `--exclude` and `--parents` leave out (`selection`), archives that ADD unpacks by `unpack`. Owners and modes follow BuildKit: files of the context belong to
//! root, files of a stage keep their owner, `--chown` and `--chmod` (`mode`) go over both and over the directories made on
//! the way.

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

pub use contents::{KnownFiles, contents};
pub use context_archive::unpack_context;
pub use error::{CopyError, MemberError};
pub use mode::{ModeChange, ModeError};
pub use step::{CopySource, Fetched, copy};
pub use unpack::Limits;
