//! Writes changes as compressed layers, and reads layers as tar streams.
//!
//! A layer is written in one pass: every changed file is read once, and its bytes go into the content hash of the next
//! baseline, the tar's digest (diffID), the compressed blob and the blob's digest. Memory is bounded by the number of
//! threads and the size of a block. The output depends on the changes alone: entries are sorted, times are whole
//! seconds (except for archives of cache mounts, which are not image layers), headers contain nothing of the machine,
//! and blocks compressed in parallel have a fixed size.

mod ahead;
mod compress;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod members;
mod options;
mod read;
mod tar;
mod write;

pub use error::{DiffIdMismatch, LayerError};
pub use options::{Compression, LayerOptions};
pub use read::{START_BYTES, VerifyingReader, media_type_of, read_ahead, reader};
pub use write::{Layer, compress, write, write_growing, write_tar};
