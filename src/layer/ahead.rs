//! Reads a stream in a thread of its own, a bounded piece ahead of whoever uses it.
//!
//! Decompressing and verifying a layer costs about as much as writing its files: done at the same time, the two cost as
//! much as the slower one. No more than [`PIECES`] pieces wait in between.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes of a piece.
const PIECE: usize = 256 * 1024;
/// Pieces that may wait to be used: 4 MiB.
const PIECES: usize = 16;

/// The stream, as it comes out of the thread.
#[derive(Debug)]
pub(super) struct ReadAhead {
    /// Taken before the thread is waited for: it ends when nobody listens any more.
    pieces: Option<Receiver<io::Result<Vec<u8>>>>,
    thread: Option<JoinHandle<()>>,
    current: Vec<u8>,
    used: usize,
}

impl ReadAhead {
    /// Starts to read `input`. Nothing of it is read any more once the `ReadAhead` is dropped.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, pieces) = sync_channel(PIECES);
        let thread = std::thread::Builder::new().name("read-ahead".to_owned()).spawn(move || read(input, &sender))?;
        Ok(Self { pieces: Some(pieces), thread: Some(thread), current: Vec::new(), used: 0 })
    }

    /// The next piece; `None` at the end. A thread that died without a word is an error.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(pieces) = &self.pieces else { return Ok(None) };
        if let Ok(piece) = pieces.recv() {
            return piece.map(Some);
        }
        self.pieces = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(io::Error::other("the reading thread panicked")),
            _ => Ok(None),
        }
    }
}

fn read(mut input: impl Read, pieces: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let limit = u64::try_from(PIECE).unwrap_or(u64::MAX);
        let (message, last) = match input.by_ref().take(limit).read_to_end(&mut piece) {
            Ok(0) => return,
            Ok(_) => (Ok(piece), false),
            Err(error) => (Err(error), true),
        };
        // Nobody wants the rest when the other end is gone.
        if pieces.send(message).is_err() || last {
            return;
        }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.used == self.current.len() {
            match self.next()? {
                Some(piece) => (self.current, self.used) = (piece, 0),
                None => return Ok(0),
            }
        }
        let rest = &self.current[self.used..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.used += count;
        Ok(count)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.pieces = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a reading thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(usize);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.min(buffer.len());
            self.0 -= count;
            buffer[..count].fill(b'x');
            if count == 0 { Err(io::Error::other("torn")) } else { Ok(count) }
        }
    }

    #[test]
    fn the_stream_is_the_same() {
        let content: Vec<u8> = (0..3 * PIECE + 17).map(|number| number.to_le_bytes()[1]).collect();
        let mut found = Vec::new();
        ReadAhead::start(io::Cursor::new(content.clone())).unwrap().read_to_end(&mut found).unwrap();
        assert_eq!(found, content);
    }

    #[test]
    fn an_error_comes_after_what_was_read_before() {
        let mut stream = ReadAhead::start(Failing(PIECE + 5)).unwrap();
        let mut found = vec![0; PIECE];
        stream.read_exact(&mut found).unwrap();
        assert_eq!(stream.read_to_end(&mut found).unwrap_err().to_string(), "torn");
    }

    #[test]
    fn an_endless_stream_ends_when_nobody_reads_it() {
        let mut stream = ReadAhead::start(io::repeat(1)).unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
        drop(stream);
    }
}
