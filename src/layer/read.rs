//! Reads layers as tar streams.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use crate::fs::ReadAt;
use crate::image::{Digest, HashingReader, media_type};

use super::ahead::ReadAhead;
use super::error::{DiffIdMismatch, LayerError};
use super::members::{Members, Tail};

/// The first bytes of a layer that [`media_type_of`] looks at, at most.
pub const START_BYTES: usize = 4;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes of the compressed stream that are read at a time.
const BUFFER: usize = 128 * 1024;
/// The largest zstd window as a power of two: 128 MiB, the decoder's own limit.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Returns the media type of a layer that starts with these bytes.
#[must_use]
pub fn media_type_of(start: &[u8]) -> &'static str {
    match start {
        start if start.starts_with(&GZIP) => media_type::OCI_LAYER_GZIP,
        start if start.starts_with(&ZSTD) => media_type::OCI_LAYER_ZSTD,
        _ => media_type::OCI_LAYER,
    }
}

/// Decompresses a layer. The first bytes determine the compression, as in other builders, because media types are
/// sometimes wrong. `media_type` is only for the error.
///
/// # Errors
/// The first bytes cannot be read.
pub fn reader<'a>(mut input: impl Read + Send + 'a, media_type: &str) -> Result<Box<dyn Read + Send + 'a>, LayerError> {
    let failed = |source| LayerError::Read { media_type: media_type.to_owned(), source };
    let mut start = [0; START_BYTES];
    let mut filled = 0;
    while filled < start.len() {
        match input.read(&mut start[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let start = start[..filled].to_vec();
    let found = media_type_of(&start);
    let all = io::Cursor::new(start).chain(input);
    match found {
        // A gzip file may have many members; the plain decoder would stop after the first.
        media_type::OCI_LAYER_GZIP => {
            Ok(Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, all))))
        }
        media_type::OCI_LAYER_ZSTD => {
            let mut decoder = zstd::Decoder::new(all).map_err(failed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(failed)?;
            Ok(Box::new(decoder))
        }
        _ => Ok(Box::new(all)),
    }
}

/// Decompresses and verifies a layer's file, which may still be growing, in separate threads. Small gzip members are
/// decompressed in parallel. Without a `diff_id` the content is not verified beyond the blob's own digest.
///
/// # Errors
/// The first bytes cannot be read, or no thread can be started.
pub fn read_ahead(
    file: &Arc<dyn ReadAt>,
    media_type: &str,
    diff_id: Option<&Digest>,
) -> Result<Box<dyn Read + Send>, LayerError> {
    let unreadable = |source| LayerError::Read { media_type: media_type.to_owned(), source };
    let content: Box<dyn Read + Send> = match Members::start(file).map_err(unreadable)? {
        Some(members) => Box::new(members),
        None => Box::new(ReadAhead::start(reader(Tail::new(file, 0), media_type)?).map_err(LayerError::Thread)?),
    };
    match diff_id {
        Some(diff_id) => {
            let verified = ReadAhead::start(VerifyingReader::new(content, diff_id)).map_err(LayerError::Thread)?;
            Ok(Box::new(verified))
        }
        None => Ok(content),
    }
}

/// Passes content through and, at its end, fails if the digest is not the expected diffID.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    /// `None` once the end was reached and verified.
    inner: Option<HashingReader<R>>,
    expected: Digest,
}

impl<R: Read> VerifyingReader<R> {
    /// Expects content with the digest `diff_id` from `inner`.
    pub fn new(inner: R, diff_id: &Digest) -> Self {
        Self { inner: Some(HashingReader::verifying(inner, diff_id)), expected: diff_id.clone() }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.inner else { return Ok(0) };
        let read = inner.read(buffer)?;
        if read == 0
            && !buffer.is_empty()
            && let Some(inner) = self.inner.take()
        {
            let (_, found, _) = inner.finish();
            if found != self.expected {
                let mismatch = DiffIdMismatch { expected: self.expected.clone(), found };
                return Err(io::Error::new(io::ErrorKind::InvalidData, mismatch));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("gzip");
        encoder.finish().expect("gzip")
    }

    #[test]
    fn compressions_are_recognized_by_their_first_bytes() {
        let text = b"some content, long enough".repeat(100);
        let members = [gzip(&text[..100]), gzip(&text[100..])].concat();
        let zstd = zstd::encode_all(text.as_slice(), 3).expect("zstd");
        for (stored, expected) in
            [(members.as_slice(), &text[..]), (&zstd, &text), (&text, &text), (b"", b""), (b"ab", b"ab")]
        {
            let mut found = Vec::new();
            reader(stored, "x").expect("reader").read_to_end(&mut found).expect("read");
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_truncated_layer_is_an_error() {
        let all = gzip(&b"content".repeat(1000));
        let mut found = Vec::new();
        assert!(reader(&all[..all.len() - 9], "x").expect("reader").read_to_end(&mut found).is_err());
    }

    #[test]
    fn content_is_verified_at_its_end() {
        let digest = Digest::sha256_of(b"right");
        let mut found = Vec::new();
        VerifyingReader::new(&b"right"[..], &digest).read_to_end(&mut found).expect("verified");
        assert_eq!(found, b"right");
        let error = VerifyingReader::new(&b"wrong"[..], &digest).read_to_end(&mut found).expect_err("not verified");
        assert!(error.to_string().contains("image's config says sha256:"), "{error}");
    }
}
