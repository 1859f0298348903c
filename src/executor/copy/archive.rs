//! Telling archives from other files, by their content.
//!
//! A file is an archive when it can be decompressed and starts with a tar header; its name says nothing. Only as much as
//! that takes is read before the decision, and unpacking goes on from there.

use std::fs::File;
use std::io::{self, BufReader, Read};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

use crate::rootfs::archive::{Member, Reader};

/// Bytes of input read at a time.
const CHUNK: usize = 128 * 1024;
/// Bytes an xz decoder may use; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 256 * 1024 * 1024;
/// Largest zstd window as a power of two: 128 MiB, what `zstd --long` makes and what decoders take unasked.
const ZSTD_WINDOW_LOG: u32 = 27;

/// An archive whose first header is read already.
pub(super) struct Archive<R> {
    /// Goes on after the first header.
    pub(super) reader: Reader<R>,
    /// The first member.
    pub(super) first: Member,
}

/// Opens an archive; `None` for any other file. A file that cannot be read is none, either: copying it shows the error.
pub(super) fn open(file: File) -> Option<Archive<Box<dyn Read>>> {
    let mut reader = Reader::new(decompress(file).ok()?);
    let first = reader.next_member().ok().flatten()?;
    Some(Archive { reader, first })
}

/// The content of a file, decompressed if it starts as a compressed one does.
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

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Format {
    /// Tells from the first bytes.
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
