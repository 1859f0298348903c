//! Reads a stream in a thread, a bounded number of bytes ahead of its user.
//!
//! Decompressing and verifying a layer takes about as long as writing its files; in parallel, both take as long as the
//! slower one. At most [`BLOCKS`] blocks wait in between.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes of a block.
const BLOCK_SIZE: usize = 256 * 1024;
/// The most blocks that wait to be used: 4 MiB.
const BLOCKS: usize = 16;

/// A stream that a thread reads.
#[derive(Debug)]
pub(super) struct ReadAhead {
    /// Taken before waiting for the thread, which ends when there is no receiver.
    blocks: Option<Receiver<io::Result<Vec<u8>>>>,
    thread: Option<JoinHandle<()>>,
    current: Vec<u8>,
    used: usize,
}

impl ReadAhead {
    /// Starts to read `input`. Reading stops when the `ReadAhead` is dropped.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, blocks) = sync_channel(BLOCKS);
        let thread = std::thread::Builder::new().name("read-ahead".to_owned()).spawn(move || read(input, &sender))?;
        Ok(Self { blocks: Some(blocks), thread: Some(thread), current: Vec::new(), used: 0 })
    }

    /// Returns the next block; `None` at the end. A panic of the thread is an error.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(blocks) = &self.blocks else { return Ok(None) };
        if let Ok(block) = blocks.recv() {
            return block.map(Some);
        }
        self.blocks = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(io::Error::other("the reading thread panicked")),
            _ => Ok(None),
        }
    }
}

fn read(mut input: impl Read, blocks: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut block = Vec::with_capacity(BLOCK_SIZE);
        let limit = u64::try_from(BLOCK_SIZE).unwrap_or(u64::MAX);
        let (message, last) = match input.by_ref().take(limit).read_to_end(&mut block) {
            Ok(0) => return,
            Ok(_) => (Ok(block), false),
            Err(error) => (Err(error), true),
        };
        // There is no receiver any more.
        if blocks.send(message).is_err() || last {
            return;
        }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.used == self.current.len() {
            match self.next()? {
                Some(block) => (self.current, self.used) = (block, 0),
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
        self.blocks = None;
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
    fn the_stream_is_unchanged() {
        let content: Vec<u8> = (0..3 * BLOCK_SIZE + 17).map(|number| number.to_le_bytes()[1]).collect();
        let mut found = Vec::new();
        ReadAhead::start(io::Cursor::new(content.clone())).unwrap().read_to_end(&mut found).unwrap();
        assert_eq!(found, content);
    }

    #[test]
    fn an_error_follows_the_bytes_read_before_it() {
        let mut stream = ReadAhead::start(Failing(BLOCK_SIZE + 5)).unwrap();
        let mut found = vec![0; BLOCK_SIZE];
        stream.read_exact(&mut found).unwrap();
        assert_eq!(stream.read_to_end(&mut found).unwrap_err().to_string(), "torn");
    }

    #[test]
    fn an_endless_stream_ends_when_its_reader_is_dropped() {
        let mut stream = ReadAhead::start(io::repeat(1)).unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
        drop(stream);
    }
}
