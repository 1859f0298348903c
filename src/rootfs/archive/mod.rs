//! Reads tar archives from any source: layers, build contexts, archives of `ADD`.
//!
//! The format has three decades of extensions (ustar, GNU long names and sparse files, POSIX (PAX) records), and the
//! input is untrusted. Every number is checked before memory is allocated: a header cannot claim more than a constant
//! amount of memory, whatever size it states. Nothing here accesses a file system.

mod error;
mod header;
mod pax;
mod reader;
mod sparse;

pub use error::ArchiveError;
pub use reader::{Member, MemberKind, Reader};
