//! Reading tar archives of any origin: layers, build contexts, what `ADD` unpacks.
//!
//! The format is three decades of extensions – ustar, GNU long names and sparse files, POSIX (PAX) records – and the input
//! is untrusted. Every number is bounded before anything is allocated: a header may not claim more memory than a constant,
//! whatever it says of its own size. Nothing here touches a file system.

mod error;
mod header;
mod pax;
mod reader;
mod sparse;

pub use error::ArchiveError;
pub use reader::{Member, MemberKind, Reader};
