//! Unpacks an archive that holds a build context.
//!
//! It works as unpacking by `ADD` does, but with limits: a context comes from outside the build, and its unpacked size
//! is not known in advance.

use std::io::{self, Read};
use std::path::Path;

use crate::executor::users::Owner;
use crate::rootfs::Tree;
use crate::rootfs::archive::{ArchiveError, Reader};

use super::archive::{Archive, decompress};
use super::error::CopyError;
use super::unpack::{ArchiveUnpacking, UnpackLimits};

/// Bytes of a tar header.
const HEADER: u64 = 512;

/// Unpacks `input`, compressed or not, into an empty tree. All files belong to root, as files of a build context do.
/// `describe` names the archive in errors.
///
/// # Errors
/// The input is not an archive, is damaged or exceeds a limit, or the files cannot be written.
pub fn unpack_context(
    input: impl Read,
    into: &mut Tree,
    limits: UnpackLimits,
    describe: &str,
) -> Result<(), CopyError> {
    let archive_error = |source| CopyError::Archive { archive: describe.to_owned(), source: Box::new(source) };
    let not_an_archive = |source| CopyError::NotArchive { archive: describe.to_owned(), source };
    // Headers and skipped bytes count as well: a few bytes of input may be decompressed for hours.
    let mut exceeded = false;
    let input = decompress(input).map_err(not_an_archive)?;
    let mut reader = Reader::new(Bounded { input, left: limits.bytes, exceeded: &mut exceeded });
    let result = match reader.next_member() {
        Ok(Some(first)) => {
            let owner = Some(Owner { uid: 0, gid: 0 });
            let unpacking = ArchiveUnpacking::new(into, Path::new(""), owner, describe).limited(limits);
            // Read to the end: checksums are there, and a program that writes to a pipe expects all of it to be read.
            unpacking.unpack(Archive { reader, first }).and_then(|reader| reader.finish().map_err(archive_error))
        }
        Ok(None) if reader.position() > 0 => Ok(()),
        Ok(None) => Err(not_an_archive(io::Error::from(io::ErrorKind::UnexpectedEof))),
        // Not even one header.
        Err(error @ (ArchiveError::Checksum { position: 0 } | ArchiveError::Truncated { position: ..HEADER })) => {
            Err(not_an_archive(io::Error::other(error.to_string())))
        }
        Err(error) => Err(archive_error(error)),
    };
    if exceeded { Err(CopyError::TooLarge { archive: describe.to_owned(), limit: limits.bytes }) } else { result }
}

/// A reader that fails after a number of bytes.
struct Bounded<'a, R> {
    input: R,
    left: u64,
    exceeded: &'a mut bool,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                *self.exceeded = true;
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
        }
        Ok(read)
    }
}
