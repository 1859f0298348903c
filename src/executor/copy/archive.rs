//! Recognizes archives by their content.
//!
//! A file is an archive if it can be decompressed and starts with a tar header; its name does not matter. Only the
//! first block is read for the decision, and unpacking continues from there.

use std::fs::File;
use std::io::{self, BufReader, Read};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

use crate::rootfs::archive::{Member, Reader};

/// Bytes of input that are read at a time.
const CHUNK: usize = 128 * 1024;
/// The memory limit of the xz decoder; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 256 * 1024 * 1024;
/// The largest zstd window as a power of two: 128 MiB, the window of `zstd --long` and the default limit of decoders.
const ZSTD_WINDOW_LOG: u32 = 27;

/// An archive whose first header has been read.
pub(super) struct Archive<R> {
    /// The reader, after the first header.
    pub(super) reader: Reader<R>,
    /// The first member.
    pub(super) first: Member,
}

/// Opens an archive. Returns `None` for any other file, and for one that cannot be read: copying it reports the error.
pub(super) fn open(file: File) -> Option<Archive<Box<dyn Read>>> {
    let mut reader = Reader::new(decompress(file).ok()?);
    let first = reader.next_member().ok().flatten()?;
    Some(Archive { reader, first })
}

/// Returns the content of a file, decompressed if its first bytes are those of a compression format.
pub(super) fn decompress<'a>(mut file: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = [0; 6];
    let mut filled = 0;
    while filled < head.len() {
        match file.read(&mut head[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    let head = head[..filled].to_vec();
    let format = Format::of(&head);
    let input = BufReader::with_capacity(CHUNK, io::Cursor::new(head).chain(file));
    Ok(match format {
        Format::Plain => Box::new(input),
        Format::Gzip => Box::new(MultiGzDecoder::new(input)),
        Format::Bzip2 => Box::new(MultiBzDecoder::new(input)),
        Format::Xz => Box::new(XzDecoder::new_stream(input, Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?)),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// The compression format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Format {
    /// Recognizes the format by the first bytes.
    fn of(head: &[u8]) -> Self {
        let starts: [(&[u8], Self); 4] = [
            (b"\x1f\x8b\x08", Self::Gzip),
            (b"BZh", Self::Bzip2),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
        ];
        starts.into_iter().find(|(magic, _)| head.starts_with(magic)).map_or(Self::Plain, |(_, format)| format)
    }
}
