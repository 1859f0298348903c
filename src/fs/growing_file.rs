//! A file that is read while it is being written: a download while it is unpacked, a layer while it is uploaded.
//!
//! A reader waits for content that is not there yet. It sees the end of the file only after the writer has verified the
//! whole, and an error if the writer gave up, or started again after some of the content could be read.
//!
//! If only this reader needs the content, the blocks it has read are freed ([`GrowingFile::reclaim_behind_reader`]): a
//! large file then takes only the disk space between reader and writer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::fs::FallocateFlags;

/// Bytes before the reader's position that stay readable: a reader that guesses where a part begins goes back this far.
const LOOK_BACK: u64 = 64 << 20;
/// Bytes whose blocks are freed at a time.
const RECLAIMED_AT_ONCE: u64 = 8 << 20;

/// Content that several threads may read at any offset.
pub trait ReadAt: Send + Sync {
    /// Reads bytes at `offset`; 0 bytes mean the end.
    ///
    /// # Errors
    /// The content cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

/// The writer's side of the file.
#[derive(Debug, Default)]
pub struct GrowingFile {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<File>>,
    /// Bytes that can be read.
    available: u64,
    /// How often readable content was discarded.
    discarded: u32,
    /// Set at the end: whether the whole file was written and verified.
    outcome: Option<Result<(), String>>,
    blocks: Blocks,
    /// The end of what has been read.
    read: u64,
}

/// What happens to blocks that have been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Blocks {
    /// They stay, until decided otherwise.
    #[default]
    Whole,
    /// They stay for good.
    Persistent,
    /// They are freed behind the reader. The first `freed` bytes of the file can no longer be read.
    Reclaimed { freed: u64 },
}

impl Blocks {
    fn freed(self) -> u64 {
        match self {
            Self::Whole | Self::Persistent => 0,
            Self::Reclaimed { freed } => freed,
        }
    }
}

/// How writing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// The whole file is there.
    Complete,
    /// All of it could be read, but some of it is no longer there.
    Reclaimed,
    /// The writer gave up, or the content is not what it should be.
    Failed,
}

impl GrowingFile {
    /// A file that is complete and verified.
    pub fn of_file(file: File, size: u64) -> Self {
        let state = State { file: Some(Arc::new(file)), available: size, outcome: Some(Ok(())), ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Starts writing to `file`, which is empty. Content written before is discarded.
    pub fn begin(&self, file: File) {
        let mut state = self.state.lock();
        if state.available > 0 {
            state.discarded += 1;
            state.available = 0;
        }
        state.read = 0;
        if let Blocks::Reclaimed { freed } = &mut state.blocks {
            *freed = 0;
        }
        state.file = Some(Arc::new(file));
        self.changed.notify_all();
    }

    /// Makes the first `size` bytes readable.
    pub fn advance_to(&self, size: u64) {
        self.state.lock().available = size;
        self.changed.notify_all();
    }

    /// Ends writing. `outcome` is `Ok` if the content is whole and verified, else the reason. Later calls have no
    /// effect.
    pub fn end(&self, outcome: Result<(), String>) {
        self.state.lock().outcome.get_or_insert(outcome);
        self.changed.notify_all();
    }

    /// Frees blocks behind the reader from now on, unless the file is persistent or complete.
    pub fn reclaim_behind_reader(&self) {
        let mut state = self.state.lock();
        if state.blocks == Blocks::Whole && state.outcome.is_none() {
            state.blocks = Blocks::Reclaimed { freed: 0 };
        }
    }

    /// Makes the file persistent if no block of it has been freed, and returns whether it is.
    pub fn try_persist(&self) -> bool {
        let mut state = self.state.lock();
        if state.blocks.freed() > 0 {
            return false;
        }
        state.blocks = Blocks::Persistent;
        true
    }

    /// Reports whether writing has ended.
    pub fn is_over(&self) -> bool {
        self.state.lock().outcome.is_some()
    }
}

/// One reader of a [`GrowingFile`].
#[derive(Debug)]
pub struct GrowingFileReader {
    growing: Arc<GrowingFile>,
    discarded: u32,
}

impl GrowingFileReader {
    /// Reads the content written so far, and waits for the rest.
    pub fn new(growing: Arc<GrowingFile>) -> Self {
        let discarded = growing.state.lock().discarded;
        Self { growing, discarded }
    }

    /// Waits for the end, and returns whether what this reader has seen is the whole and verified content.
    pub fn wait(&self) -> Completion {
        let mut state = self.growing.state.lock();
        loop {
            match &state.outcome {
                Some(Ok(())) if state.discarded == self.discarded && state.blocks.freed() > 0 => {
                    return Completion::Reclaimed;
                }
                Some(Ok(())) if state.discarded == self.discarded => return Completion::Complete,
                Some(_) => return Completion::Failed,
                None => self.growing.changed.wait(&mut state),
            }
        }
    }
}

impl State {
    /// Notes that bytes up to `end` were read, and frees blocks before that.
    fn has_read(&mut self, end: u64) {
        self.read = self.read.max(end);
        let (Some(file), Blocks::Reclaimed { freed }) = (&self.file, self.blocks) else { return };
        let size = self.read.saturating_sub(freed.saturating_add(LOOK_BACK)) / RECLAIMED_AT_ONCE * RECLAIMED_AT_ONCE;
        if size == 0 {
            return;
        }
        match rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, freed, size) {
            Ok(()) => self.blocks = Blocks::Reclaimed { freed: freed + size },
            // The file system has no holes: the file stays whole.
            Err(errno) => {
                tracing::debug!("blocks of a download cannot be freed: {errno}");
                if freed == 0 {
                    self.blocks = Blocks::Whole;
                }
            }
        }
    }
}

impl ReadAt for GrowingFileReader {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.growing.state.lock();
        loop {
            if state.discarded != self.discarded {
                return Err(io::Error::other("the download started again"));
            }
            if offset < state.blocks.freed() {
                return Err(io::Error::other("the content was freed after it was read"));
            }
            if let Some(file) = state.file.clone().filter(|_| offset < state.available) {
                let here = usize::try_from(state.available - offset).unwrap_or(usize::MAX).min(buffer.len());
                drop(state);
                let read = FileExt::read_at(&*file, &mut buffer[..here], offset)?;
                state = self.growing.state.lock();
                if read > 0 || buffer.is_empty() {
                    state.has_read(offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX)));
                    return Ok(read);
                }
                // It was discarded a moment ago.
                if state.discarded == self.discarded {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            match &state.outcome {
                Some(Ok(())) => return Ok(0),
                Some(Err(reason)) => return Err(io::Error::other(reason.clone())),
                None => self.growing.changed.wait(&mut state),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    fn read_all(reader: &GrowingFileReader) -> io::Result<Vec<u8>> {
        let (mut all, mut buffer) = (Vec::new(), [0; 7]);
        loop {
            match reader.read_at(&mut buffer, all.len() as u64)? {
                0 => return Ok(all),
                read => all.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// A file to write to, for the readers of `growing`.
    fn begun(growing: &GrowingFile) -> File {
        let file = tempfile::tempfile().unwrap();
        growing.begin(file.try_clone().unwrap());
        file
    }

    #[test]
    fn content_is_read_to_its_end() {
        let growing = Arc::new(GrowingFile::default());
        let reader = GrowingFileReader::new(Arc::clone(&growing));
        let reading = thread::spawn(move || read_all(&reader));
        let mut file = begun(&growing);
        for number in 0..100_u64 {
            file.write_all(b"0123456789").unwrap();
            growing.advance_to(10 * (number + 1));
        }
        growing.end(Ok(()));
        assert_eq!(reading.join().unwrap().unwrap(), b"0123456789".repeat(100));
    }

    #[test]
    fn readers_see_no_end_before_the_content_is_verified() {
        let growing = Arc::new(GrowingFile::default());
        begun(&growing).write_all(b"wrong").unwrap();
        growing.advance_to(5);
        let reader = GrowingFileReader::new(Arc::clone(&growing));
        let reading = thread::spawn(move || read_all(&reader));
        growing.end(Err("it is not what its digest says".to_owned()));
        growing.end(Ok(()));
        assert_eq!(reading.join().unwrap().unwrap_err().to_string(), "it is not what its digest says");
    }

    #[test]
    fn a_new_start_is_an_error_for_readers_of_the_old_content() {
        let growing = Arc::new(GrowingFile::default());
        let early = GrowingFileReader::new(Arc::clone(&growing));
        // Nothing could be read of the first.
        drop(begun(&growing));
        begun(&growing).write_all(b"first").unwrap();
        growing.advance_to(5);
        assert_eq!(early.read_at(&mut [0; 9], 0).unwrap(), 5);
        begun(&growing).write_all(b"second").unwrap();
        growing.advance_to(6);
        growing.end(Ok(()));
        assert_eq!(early.read_at(&mut [0; 9], 5).unwrap_err().to_string(), "the download started again");
        assert_eq!(read_all(&GrowingFileReader::new(growing)).unwrap(), b"second");
    }

    /// Blocks of 512 bytes.
    fn blocks(file: &File) -> u64 {
        std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap())
    }

    /// Reads a byte of each piece.
    fn skim(reader: &GrowingFileReader, end: u64) {
        for offset in (0..end).step_by(1 << 20) {
            assert_eq!(reader.read_at(&mut [0], offset).unwrap(), 1);
        }
    }

    #[test]
    fn blocks_are_freed_behind_the_only_reader() {
        let size = LOOK_BACK + 4 * RECLAIMED_AT_ONCE;
        let growing = Arc::new(GrowingFile::default());
        let mut file = begun(&growing);
        file.write_all(&vec![1; usize::try_from(size).unwrap()]).unwrap();
        growing.advance_to(size);
        let whole = blocks(&file);
        let reader = GrowingFileReader::new(Arc::clone(&growing));
        skim(&reader, size - RECLAIMED_AT_ONCE);
        assert_eq!(blocks(&file), whole, "it may be needed");
        growing.reclaim_behind_reader();
        assert_eq!(reader.read_at(&mut [0], size - RECLAIMED_AT_ONCE - 1).unwrap(), 1);
        assert!(blocks(&file) < whole, "{} of {whole}", blocks(&file));
        assert_eq!(reader.read_at(&mut [0], 0).unwrap_err().to_string(), "the content was freed after it was read");
        assert_eq!(reader.read_at(&mut [0], size - LOOK_BACK - RECLAIMED_AT_ONCE).unwrap(), 1, "a reader may go back");
        assert!(!growing.try_persist());
        growing.end(Ok(()));
        assert_eq!(reader.wait(), Completion::Reclaimed);
    }

    #[test]
    fn a_persistent_file_stays_whole() {
        let size = LOOK_BACK + 2 * RECLAIMED_AT_ONCE;
        let growing = Arc::new(GrowingFile::default());
        let file = begun(&growing);
        file.set_len(size).unwrap();
        growing.advance_to(size);
        let reader = GrowingFileReader::new(Arc::clone(&growing));
        assert!(growing.try_persist());
        growing.reclaim_behind_reader();
        skim(&reader, size);
        assert_eq!(reader.read_at(&mut [0], 0).unwrap(), 1);
        growing.end(Ok(()));
        assert_eq!(reader.wait(), Completion::Complete);
    }
}
