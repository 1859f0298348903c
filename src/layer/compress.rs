//! Compresses with gzip or zstd on all cores. The output does not depend on the number of threads.
//!
//! The stream is divided into blocks of a fixed size. Each becomes a gzip member or zstd frame, written in the order of
//! the blocks. Both formats allow any number of them in a file (RFC 1952, 2.2; RFC 8878, 3.1), and all readers of
//! layers support that. Queues are short, so that a slow disk slows down the reading of files.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use libdeflater::{CompressionLvl, Compressor};
use parking_lot::Mutex;

use super::error::LayerError;
use super::options::Compression;

/// Bytes of a block. Part of the format of our layers: a different size results in different digests.
const BLOCK: usize = 1024 * 1024;
/// More threads only cost memory, because reading and hashing are slower.
const MAX_THREADS: usize = 32;

struct Block {
    plain: Vec<u8>,
    compressed: SyncSender<Compressed>,
}

/// The result for a block.
type Compressed = io::Result<Vec<u8>>;

/// The receiver of uncompressed bytes.
#[derive(Debug)]
pub(super) struct Blocks {
    current: Vec<u8>,
    blocks: SyncSender<Block>,
    order: SyncSender<Receiver<Compressed>>,
}

impl Blocks {
    fn send(&mut self) -> io::Result<()> {
        // Fails only if the receiving thread has ended; that thread has the error.
        let ended = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (compressed, result) = sync_channel(1);
        let plain = std::mem::replace(&mut self.current, Vec::with_capacity(BLOCK));
        self.order.send(result).map_err(|_| ended())?;
        self.blocks.send(Block { plain, compressed }).map_err(|_| ended())
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.current.len());
        self.current.extend_from_slice(&bytes[..count]);
        if self.current.len() == BLOCK {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `fill`, and writes its output to `sink`, compressed by `threads` threads (0: one for each core).
pub(super) fn compress<T>(
    compression: Compression,
    level: u8,
    threads: usize,
    mut sink: impl Write + Send,
    fill: impl FnOnce(&mut Blocks) -> Result<T, LayerError>,
) -> Result<T, LayerError> {
    let available = || thread::available_parallelism().map_or(1, usize::from);
    let threads = if threads == 0 { available() } else { threads }.min(MAX_THREADS);
    let failed = |source| LayerError::Compress { source };
    let (blocks, work) = sync_channel::<Block>(threads);
    let (order, results) = sync_channel::<Receiver<Compressed>>(threads * 2);
    // Declared outside of the scope, because its threads borrow it.
    let work = Mutex::new(work);
    thread::scope(|scope| {
        // Dropped at the end of this closure even if an error occurs, so that no thread waits for ever.
        let mut input = Blocks { current: Vec::with_capacity(BLOCK), blocks, order };
        let work = &work;
        for _ in 0..threads {
            let encoder = Encoder::new(compression, level).map_err(failed)?;
            thread::Builder::new()
                .name("compress".to_owned())
                .spawn_scoped(scope, move || compress_blocks(work, encoder))
                .map_err(failed)?;
        }
        let writer = thread::Builder::new()
            .name("layer-writer".to_owned())
            .spawn_scoped(scope, move || {
                for result in results {
                    let compressed = result.recv().map_err(|_| io::Error::other("a compressing thread ended early"))?;
                    sink.write_all(&compressed?)?;
                }
                sink.flush()
            })
            .map_err(failed)?;
        let filled = fill(&mut input).and_then(|filled| {
            if !input.current.is_empty() {
                input.send().map_err(failed)?;
            }
            Ok(filled)
        });
        drop(input);
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread ended early")));
        // If writing fails, filling fails as well, but without the reason.
        written.map_err(failed)?;
        filled
    })
}

/// Compresses blocks independently of each other.
enum Encoder {
    Gzip(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    fn new(compression: Compression, level: u8) -> io::Result<Self> {
        match compression {
            Compression::Gzip => match CompressionLvl::new(level.into()) {
                Ok(level) => Ok(Self::Gzip(Compressor::new(level))),
                Err(_) => Err(io::Error::from(io::ErrorKind::InvalidInput)),
            },
            Compression::Zstd => zstd::bulk::Compressor::new(level.into()).map(Self::Zstd),
        }
    }

    fn block(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(compressor) => {
                let mut output = vec![0; compressor.gzip_compress_bound(plain.len())];
                let size = compressor.gzip_compress(plain, &mut output).map_err(io::Error::other)?;
                output.truncate(size);
                Ok(output)
            }
            Self::Zstd(compressor) => compressor.compress(plain),
        }
    }
}

fn compress_blocks(work: &Mutex<Receiver<Block>>, mut encoder: Encoder) {
    loop {
        let block = work.lock().recv();
        let Ok(Block { plain, compressed }) = block else { return };
        if compressed.send(encoder.block(&plain)).is_err() {
            tracing::debug!("the receiver of a compressed block has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::diag::interrupt::Interrupted;

    fn compressed(compression: Compression, threads: usize, bytes: &[u8]) -> Vec<u8> {
        let mut sink = Vec::new();
        let level = compression.default_level();
        compress(compression, level, threads, &mut sink, |blocks| {
            blocks.write_all(bytes).map_err(|source| LayerError::Compress { source })
        })
        .expect("compressed");
        sink
    }

    #[test]
    fn the_output_does_not_depend_on_the_number_of_threads() {
        let bytes: Vec<u8> =
            (0..3_500_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
        for compression in Compression::ALL {
            let one = compressed(compression, 1, &bytes);
            assert_eq!(one, compressed(compression, 3, &bytes));
            assert_eq!(super::super::media_type_of(&one), compression.media_type());
            let mut plain = Vec::new();
            super::super::reader(one.as_slice(), "").expect("reader").read_to_end(&mut plain).expect("readable");
            assert!(plain == bytes, "{compression:?}");
        }
    }

    #[test]
    fn a_full_disk_is_reported_and_nothing_hangs() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let result = compress(Compression::Gzip, 1, 2, Full, |blocks| {
            blocks.write_all(&vec![1; 64 * BLOCK]).map_err(|source| LayerError::Compress { source })
        });
        let Err(LayerError::Compress { source }) = result else { panic!("expected an error") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn an_error_while_filling_ends_all_threads() {
        let mut sink = Vec::new();
        let result: Result<(), _> =
            compress(Compression::Zstd, 1, 2, &mut sink, |_| Err(Interrupted { signal: 15 }.into()));
        assert!(matches!(result, Err(LayerError::Interrupted(Interrupted { signal: 15 }))));
    }
}
