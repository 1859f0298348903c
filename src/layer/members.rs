//! Decompresses layers of many small gzip members in parallel; [`mod@super::compress`] writes such layers.
//!
//! gzip does not record where members start. We guess from the header that libdeflate writes, and confirm the guess by
//! decompressing: the bytes up to the next such header must be exactly one member, which ends with the size and
//! checksum of its content. From the first wrong guess on, and from a member that is too large for memory, the rest is
//! decompressed as a single stream, as any gzip file can be.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use flate2::bufread::MultiGzDecoder;
use libdeflater::Decompressor;
use memchr::memmem::Finder;
use parking_lot::Mutex;

use crate::fs::ReadAt;

/// The start of libdeflate's header: no name, no time. A byte for the level and one for an unknown system follow.
const HEADER: [u8; 8] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
/// Bytes of a header.
const HEADER_SIZE: usize = 10;
const NO_SYSTEM: u8 = 0xff;
/// Bytes of a header and of the trailer: checksum and size.
const MIN_SIZE: usize = 18;
/// The most bytes of a member, compressed or not: more than [`mod@super::compress`] writes.
const MAX_MEMBER: usize = 2 * 1024 * 1024;
/// Bytes that are read at a time.
const BUFFER: usize = 256 * 1024;
/// More threads only cost memory, because verifying the content is slower.
const MAX_THREADS: usize = 4;

/// Bytes that may be exactly one member.
struct Candidate {
    compressed: Vec<u8>,
    plain: SyncSender<Option<Vec<u8>>>,
}

/// The offset of a candidate in the file, and the receiver of its content: `None` if it is not such a member.
struct PendingMember {
    offset: u64,
    plain: Receiver<Option<Vec<u8>>>,
}

/// The content, in the order of the members.
pub(super) struct Members {
    file: Arc<dyn ReadAt>,
    /// Taken to end the threads, which end when there is no receiver.
    order: Option<Receiver<PendingMember>>,
    threads: Vec<JoinHandle<()>>,
    current: Vec<u8>,
    used: usize,
    /// The part that does not consist of small members.
    rest: Option<MultiGzDecoder<BufReader<Tail>>>,
}

impl Members {
    /// Starts to decompress `file` from its start. Returns `None` unless it starts with at least two small members.
    ///
    /// # Errors
    /// The file cannot be read, or no thread can be started.
    pub(super) fn start(file: &Arc<dyn ReadAt>) -> io::Result<Option<Self>> {
        let mut start = Vec::new();
        Tail::new(file, 0).take(2 * MAX_MEMBER as u64).read_to_end(&mut start)?;
        let finder = Finder::new(&HEADER);
        let second = start.get(HEADER_SIZE..).and_then(|start| find(&finder, start));
        if find(&finder, &start) != Some(0) || second.is_none_or(|second| second > MAX_MEMBER) {
            return Ok(None);
        }
        drop(start);
        let count = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let (work, candidates) = sync_channel(count);
        let (pending, order) = sync_channel(2 * count);
        let (current, threads) = (Vec::new(), Vec::new());
        let mut members = Self { file: Arc::clone(file), order: Some(order), threads, current, used: 0, rest: None };
        let input = Tail::new(file, 0);
        members.spawn(move || split(input, &work, &pending))?;
        let candidates = Arc::new(Mutex::new(candidates));
        for _ in 0..count {
            let candidates = Arc::clone(&candidates);
            members.spawn(move || decompress_candidates(&candidates))?;
        }
        Ok(Some(members))
    }

    fn spawn(&mut self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name("decompress".to_owned()).spawn(work)?);
        Ok(())
    }

    /// Advances to the next member; returns `false` at the end of the members.
    fn next(&mut self) -> io::Result<bool> {
        let Some(order) = &self.order else { return Ok(false) };
        let Ok(PendingMember { offset, plain }) = order.recv() else { return self.end().map(|()| false) };
        (self.current, self.used) = match plain.recv() {
            Ok(Some(content)) => (content, 0),
            _ => {
                self.end()?;
                let rest = BufReader::with_capacity(BUFFER, Tail::new(&self.file, offset));
                self.rest = Some(MultiGzDecoder::new(rest));
                (Vec::new(), 0)
            }
        };
        Ok(true)
    }

    fn end(&mut self) -> io::Result<()> {
        self.order = None;
        let panicked = self.threads.drain(..).map(JoinHandle::join).filter(Result::is_err).count();
        if panicked > 0 { Err(io::Error::other("a decompressing thread panicked")) } else { Ok(()) }
    }
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(rest) = &mut self.rest {
                return rest.read(buffer);
            }
            let left = &self.current[self.used..];
            if !left.is_empty() {
                let count = left.len().min(buffer.len());
                buffer[..count].copy_from_slice(&left[..count]);
                self.used += count;
                return Ok(count);
            }
            if !self.next()? {
                return Ok(0);
            }
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!("{error}");
        }
    }
}

/// The file from an offset on, independent of other readers.
pub(super) struct Tail {
    file: Arc<dyn ReadAt>,
    offset: u64,
}

impl Tail {
    pub(super) fn new(file: &Arc<dyn ReadAt>, offset: u64) -> Self {
        Self { file: Arc::clone(file), offset }
    }
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Returns the offset of a possible member.
fn find(finder: &Finder<'_>, bytes: &[u8]) -> Option<usize> {
    finder.find_iter(bytes).find(|at| bytes.get(at + HEADER_SIZE - 1) == Some(&NO_SYSTEM))
}

/// Splits the input before every header. A candidate without a receiver means that the rest is a single stream.
fn split(mut input: Tail, work: &SyncSender<Candidate>, pending: &SyncSender<PendingMember>) {
    let finder = Finder::new(&HEADER);
    let send = |offset, compressed: Option<Vec<u8>>| {
        let (plain, result) = sync_channel(1);
        let is_sent = pending.send(PendingMember { offset, plain: result }).is_ok();
        is_sent && compressed.is_none_or(|compressed| work.send(Candidate { compressed, plain }).is_ok())
    };
    let (mut offset, mut candidate) = (0, Vec::new());
    loop {
        // A header may span two reads. The header at the start of the candidate is skipped.
        let mut searched = candidate.len().saturating_sub(HEADER_SIZE).max(1);
        match input.by_ref().take(BUFFER as u64).read_to_end(&mut candidate) {
            Ok(0) => break,
            Ok(_) => {}
            // The reader of the rest gets the same error.
            Err(_) => {
                send(offset, None);
                return;
            }
        }
        let mut start = 0;
        while let Some(at) = candidate.get(searched..).and_then(|bytes| find(&finder, bytes)) {
            let end = searched + at;
            if !send(offset, Some(candidate[start..end].to_vec())) {
                return;
            }
            offset += (end - start) as u64;
            (start, searched) = (end, end + 1);
        }
        candidate.drain(..start);
        if candidate.len() > MAX_MEMBER {
            send(offset, None);
            return;
        }
    }
    if !candidate.is_empty() {
        send(offset, Some(candidate));
    }
}

fn decompress_candidates(candidates: &Mutex<Receiver<Candidate>>) {
    let mut decompressor = Decompressor::new();
    loop {
        let candidate = candidates.lock().recv();
        let Ok(Candidate { compressed, plain }) = candidate else { return };
        // The receiver has ended.
        if plain.send(decompress(&mut decompressor, &compressed)).is_err() {
            return;
        }
    }
}

/// Returns the content if the bytes are exactly one member.
fn decompress(decompressor: &mut Decompressor, member: &[u8]) -> Option<Vec<u8>> {
    let (before, size) = member.split_last_chunk::<4>()?;
    let (_, checksum) = before.split_last_chunk::<4>().filter(|_| member.len() >= MIN_SIZE)?;
    let size = usize::try_from(u32::from_le_bytes(*size)).ok().filter(|size| *size <= MAX_MEMBER)?;
    let mut content = vec![0; size];
    let found = decompressor.gzip_decompress(member, &mut content).ok()?;
    // The member may have ended earlier, followed by other bytes.
    let is_complete = found == size && libdeflater::crc32(&content) == u32::from_le_bytes(*checksum);
    is_complete.then_some(content)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use libdeflater::{CompressionLvl, Compressor};

    use super::*;

    /// A member as libdeflate writes it.
    fn small(content: &[u8]) -> Vec<u8> {
        let mut compressor = Compressor::new(CompressionLvl::new(6).expect("level"));
        let mut member = vec![0; compressor.gzip_compress_bound(content.len())];
        let size = compressor.gzip_compress(content, &mut member).expect("room");
        member.truncate(size);
        member
    }

    fn other(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::GzBuilder::new().filename("name").write(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).expect("gzip");
        encoder.finish().expect("gzip")
    }

    fn noise(size: u32) -> Vec<u8> {
        (0..size).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
    }

    fn shared(file: std::fs::File) -> Arc<dyn ReadAt> {
        Arc::new(file)
    }

    fn read(bytes: &[u8]) -> Option<io::Result<Vec<u8>>> {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(bytes).expect("written");
        let mut content = Vec::new();
        let mut members = Members::start(&shared(file)).expect("started")?;
        Some(members.read_to_end(&mut content).map(|_| content))
    }

    #[test]
    fn members_are_read_in_order() {
        let contents: Vec<Vec<u8>> = (0..40).map(|number| noise(number * 7_919)).collect();
        let file: Vec<u8> = contents.iter().flat_map(|content| small(content)).collect();
        assert!(read(&file).expect("of the kind").expect("read") == contents.concat());
    }

    #[test]
    fn single_streams_are_not_members() {
        for file in [small(b"alone"), other(b"one"), [other(b"one"), small(b"two")].concat(), Vec::new()] {
            assert!(read(&file).is_none());
        }
    }

    #[test]
    fn other_members_between_small_ones_are_read() {
        let (first, second) = (noise(1_000_000), noise(300_000));
        let header = small(b"")[..HEADER_SIZE].to_vec();
        let large = noise(3 * 1024 * 1024);
        // A member of a different kind, one that is too large, one that contains bytes like a header, and an empty one.
        for (member, content) in [
            (other(b"other"), b"other".to_vec()),
            (small(&large), large),
            (other_stored(&header), header),
            (small(b""), Vec::new()),
        ] {
            let file = [small(&first), small(&second), member, small(&second)].concat();
            let found = read(&file).expect("of the kind").expect("read");
            assert!(found == [&first[..], &second, &content, &second].concat());
        }
    }

    /// Uncompressed content is in the file as it is.
    fn other_stored(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        encoder.write_all(content).expect("gzip");
        encoder.finish().expect("gzip")
    }

    #[test]
    fn damage_is_an_error() {
        let is_complete = [small(&noise(100_000)), small(&noise(200_000)), small(&noise(300_000))].concat();
        assert!(read(&is_complete[..is_complete.len() - 5]).expect("of the kind").is_err());
        let mut damaged = is_complete;
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x55;
        assert!(read(&damaged).expect("of the kind").is_err());
    }

    #[test]
    fn reading_may_stop_early() {
        let file: Vec<u8> = (0..100).flat_map(|_| small(&noise(900_000))).collect();
        let mut spool = tempfile::tempfile().expect("file");
        spool.write_all(&file).expect("written");
        let mut members = Members::start(&shared(spool)).expect("started").expect("of the kind");
        members.read_exact(&mut [0; 10]).expect("read");
    }
}
