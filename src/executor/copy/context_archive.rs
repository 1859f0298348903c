//! Unpacking an archive that is a whole build context.
//!
//! It is `ADD`'s unpacking, with bounds: a context comes from outside the build, and what it unpacks to is not known before.

use std::io::{self, Read};
use std::path::Path;

use crate::executor::users::Owner;
use crate::rootfs::Tree;
use crate::rootfs::archive::{ArchiveError, Reader};

use super::archive::{Archive, decompress};
use super::error::CopyError;
use super::unpack::{Limits, Unpacking};

/// Bytes of the first header.
const HEADER: u64 = 512;

/// Unpacks `input`, whatever it is compressed with, into an empty tree. Everything belongs to root, as files of a context do.
/// `describe` names the archive in errors.
///
/// # Errors
/// It is no archive or a damaged one, passes a limit, or cannot be written.
pub fn unpack_context(input: impl Read, into: &mut Tree, limits: Limits, describe: &str) -> Result<(), CopyError> {
    let archive_error = |source| CopyError::Archive { archive: describe.to_owned(), source: Box::new(source) };
    let not_one = |source| CopyError::NotArchive { archive: describe.to_owned(), source };
    // Headers and what is skipped count, too: a little input may be decompressed for hours.
    let mut passed = false;
    let input = decompress(input).map_err(not_one)?;
    let mut reader = Reader::new(Bounded { input, left: limits.bytes, passed: &mut passed });
    let result = match reader.next_member() {
        Ok(Some(first)) => {
            let owner = Some(Owner { uid: 0, gid: 0 });
            let unpacking = Unpacking::new(into, Path::new(""), owner, describe).limited(limits);
            // To the end, where checksums are, and what writes into a pipe expects to be read.
            unpacking.unpack(Archive { reader, first }).and_then(|reader| reader.finish().map_err(archive_error))
        }
        Ok(None) if reader.position() > 0 => Ok(()),
        Ok(None) => Err(not_one(io::Error::from(io::ErrorKind::UnexpectedEof))),
        // Not even one header.
        Err(error @ (ArchiveError::Checksum { position: 0 } | ArchiveError::Truncated { position: ..HEADER })) => {
            Err(not_one(io::Error::other(error.to_string())))
        }
        Err(error) => Err(archive_error(error)),
    };
    if passed { Err(CopyError::TooLarge { archive: describe.to_owned(), limit: limits.bytes }) } else { result }
}

/// Fails after so many bytes.
struct Bounded<'a, R> {
    input: R,
    left: u64,
    passed: &'a mut bool,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                *self.passed = true;
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
        }
        Ok(read)
    }
}
