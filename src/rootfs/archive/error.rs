//! Errors of reading archives.

#![expect(missing_docs, reason = "`#[error]` says it")]

use std::io;

use crate::diag::Hint;

/// Why an archive cannot be read further. `position` is that of the invalid header, in bytes of the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("failed to read the archive at byte {position}")]
    Read {
        position: u64,
        #[source]
        source: io::Error,
    },
    #[error("archive ends early, at byte {position}")]
    Truncated { position: u64 },
    #[error("no tar header at byte {position}: wrong checksum")]
    Checksum { position: u64 },
    #[error("tar header at byte {position} has an invalid {field}")]
    Field { position: u64, field: &'static str },
    #[error("tar header at byte {position} has {size} bytes of {field}, the limit is {limit}")]
    TooLarge { position: u64, field: &'static str, size: u64, limit: u64 },
    #[error("tar header at byte {position} has the unknown type {:?}", char::from(*kind))]
    Kind { position: u64, kind: u8 },
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
