//! Changes become a blob, and blobs become tar streams again.
//!
//! Writing is one pass: every changed file is read once, and on the way to the spool file its bytes make the content hash of
//! the next baseline, the tar's digest (diffID), the compressed blob and that blob's digest. Memory is bounded by the
//! number of threads and the size of a block. The output depends on the changes alone: entries are sorted, times are
//! whole seconds (but for caches, which are no layers), headers hold nothing of the machine, and the blocks that are
//! compressed in parallel have a fixed size.

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
pub use read::{VerifyingReader, media_type_of, read_ahead, reader};
pub use write::{Layer, compress, write, write_growing, write_tar};
