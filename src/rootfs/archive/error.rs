//! Why an archive cannot be read.

use std::io;

use crate::diag::Hint;

/// An archive that cannot be read further. The position is that of the header at fault, in bytes of the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes could not be read.
    #[error("failed to read the archive at byte {position}")]
    Read {
        /// Where.
        position: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive ends within a member.
    #[error("archive ends early, at byte {position}")]
    Truncated {
        /// Where.
        position: u64,
    },
    /// A header's checksum is wrong: this is no tar archive, or a damaged one.
    #[error("no tar header at byte {position}: wrong checksum")]
    Checksum {
        /// Where.
        position: u64,
    },
    /// A field cannot be understood.
    #[error("tar header at byte {position} has an invalid {field}")]
    Field {
        /// Where.
        position: u64,
        /// Which field.
        field: &'static str,
    },
    /// Something is larger than any honest archive makes it.
    #[error("tar header at byte {position} has {size} bytes of {field}, the limit is {limit}")]
    TooLarge {
        /// Where.
        position: u64,
        /// What.
        field: &'static str,
        /// How large it says it is.
        size: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A kind of member that has no meaning in an image.
    #[error("tar header at byte {position} has the unknown type {:?}", char::from(*kind))]
    Kind {
        /// Where.
        position: u64,
        /// The type flag.
        kind: u8,
    },
}

impl Hint for ArchiveError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } => source.hint(),
            Self::Truncated { .. }
            | Self::Checksum { .. }
            | Self::Field { .. }
            | Self::TooLarge { .. }
            | Self::Kind { .. } => None,
        }
    }
}
