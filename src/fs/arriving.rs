//! A file that is read while it is still being written: a download by whoever unpacks it meanwhile, a layer by its upload.
//!
//! A reader waits for what has not come yet. The end of the file is told to it only when the writer has found the whole
//! right, and an error when the writer has given up, or has begun anew after some of the content was there to be read.
//!
//! Where it is known that nobody but this reader wants the content, what has been read gives its blocks back
//! ([`Arrival::let_go`]): neither disk nor memory holds more of a large file than what lies between writer and reader.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::FallocateFlags;

/// Bytes behind what was read last that stay readable: a reader that guessed where something begins goes back as far.
const STAYING: u64 = 64 << 20;
/// Bytes that give their blocks back at a time.
const GIVEN_BACK: u64 = 8 << 20;

/// Content that is read from anywhere, by several threads at once.
pub trait ReadAt: Send + Sync {
    /// Reads some of what stands at `offset`; nothing at the end.
    ///
    /// # Errors
    /// It cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

/// A file on its way.
#[derive(Debug, Default)]
pub struct Arrival {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<File>>,
    /// Bytes that can be read.
    available: u64,
    /// How often content that could be read was thrown away.
    discarded: u32,
    /// Whether the file is complete and right, once that is known.
    outcome: Option<Result<(), String>>,
    /// Whether what has been read may give its blocks back.
    let_go: bool,
    /// Whether it was decided that the file stays.
    is_kept: bool,
    /// Bytes that have been read.
    read: u64,
    /// Bytes that have given their blocks back: nothing is to be read of them.
    gone: u64,
}

/// How an arrival ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// The file is there.
    Kept,
    /// All of it was there to be read, and some of it no longer is.
    LetGo,
    /// It did not come, or not as it ought to be.
    Broken,
}

impl Arrival {
    /// A file that is there already, and right.
    pub fn of_file(file: File, size: u64) -> Self {
        let state = State { file: Some(Arc::new(file)), available: size, outcome: Some(Ok(())), ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The content begins to come into `file`, which is empty. What came before is not part of it.
    pub fn begin(&self, file: File) {
        let mut state = self.lock();
        if state.available > 0 {
            state.discarded += 1;
            state.available = 0;
        }
        (state.read, state.gone) = (0, 0);
        state.file = Some(Arc::new(file));
        self.changed.notify_all();
    }

    /// The first `size` bytes can be read.
    pub fn reach(&self, size: u64) {
        self.lock().available = size;
        self.changed.notify_all();
    }

    /// Nothing more will come. `outcome` says whether that is the whole and right content, or why it is not.
    pub fn end(&self, outcome: Result<(), String>) {
        self.lock().outcome.get_or_insert(outcome);
        self.changed.notify_all();
    }

    /// Nobody wants the file but the one who reads it now.
    pub fn let_go(&self) {
        let mut state = self.lock();
        state.let_go = !state.is_kept && state.outcome.is_none();
    }

    /// Whether the file is whole; then it stays so.
    pub fn keep(&self) -> bool {
        let mut state = self.lock();
        state.is_kept = state.gone == 0;
        state.let_go &= !state.is_kept;
        state.is_kept
    }

    /// Whether it is known how it ended.
    pub fn is_over(&self) -> bool {
        self.lock().outcome.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader of an [`Arrival`].
#[derive(Debug)]
pub struct ArrivingFile {
    arrival: Arc<Arrival>,
    discarded: u32,
}

impl ArrivingFile {
    /// Reads what arrives from now on, and what has arrived.
    pub fn new(arrival: Arc<Arrival>) -> Self {
        let discarded = arrival.lock().discarded;
        Self { arrival, discarded }
    }

    /// Waits for the end, and says whether what was read is the whole and right content.
    pub fn wait(&self) -> Arrived {
        let mut state = self.arrival.lock();
        loop {
            match &state.outcome {
                Some(Ok(())) if state.discarded == self.discarded && state.gone > 0 => return Arrived::LetGo,
                Some(Ok(())) if state.discarded == self.discarded => return Arrived::Kept,
                Some(_) => return Arrived::Broken,
                None => state = self.arrival.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl State {
    /// Something was read up to `end`.
    fn has_read(&mut self, end: u64) {
        self.read = self.read.max(end);
        let Some(file) = self.file.as_ref().filter(|_| self.let_go) else { return };
        let size = self.read.saturating_sub(self.gone.saturating_add(STAYING)) / GIVEN_BACK * GIVEN_BACK;
        if size == 0 {
            return;
        }
        match rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, self.gone, size) {
            Ok(()) => self.gone += size,
            // The file system cannot, or the file is not ours to change: it stays.
            Err(errno) => {
                tracing::debug!("a download keeps what has been read of it: {errno}");
                self.let_go = false;
            }
        }
    }
}

impl ReadAt for ArrivingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.arrival.lock();
        loop {
            if state.discarded != self.discarded {
                return Err(io::Error::other("the download was begun anew"));
            }
            if offset < state.gone {
                return Err(io::Error::other("it was read before, and is no longer there"));
            }
            if let Some(file) = state.file.clone().filter(|_| offset < state.available) {
                let here = usize::try_from(state.available - offset).unwrap_or(usize::MAX).min(buffer.len());
                drop(state);
                let read = FileExt::read_at(&*file, &mut buffer[..here], offset)?;
                if read > 0 || buffer.is_empty() {
                    self.arrival.lock().has_read(offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX)));
                    return Ok(read);
                }
                // It was thrown away a moment ago.
                state = self.arrival.lock();
                if state.discarded == self.discarded {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            match &state.outcome {
                Some(Ok(())) => return Ok(0),
                Some(Err(reason)) => return Err(io::Error::other(reason.clone())),
                None => state = self.arrival.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    fn read_all(reader: &ArrivingFile) -> io::Result<Vec<u8>> {
        let (mut all, mut buffer) = (Vec::new(), [0; 7]);
        loop {
            match reader.read_at(&mut buffer, all.len() as u64)? {
                0 => return Ok(all),
                read => all.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// A file to write into, known to the arrival.
    fn begun(arrival: &Arrival) -> File {
        let file = tempfile::tempfile().unwrap();
        arrival.begin(file.try_clone().unwrap());
        file
    }

    #[test]
    fn what_comes_is_read_to_its_end() {
        let arrival = Arc::new(Arrival::default());
        let reader = ArrivingFile::new(Arc::clone(&arrival));
        let reading = thread::spawn(move || read_all(&reader));
        let mut file = begun(&arrival);
        for number in 0..100_u64 {
            file.write_all(b"0123456789").unwrap();
            arrival.reach(10 * (number + 1));
        }
        arrival.end(Ok(()));
        assert_eq!(reading.join().unwrap().unwrap(), b"0123456789".repeat(100));
    }

    #[test]
    fn the_end_is_not_told_before_the_whole_is_found_right() {
        let arrival = Arc::new(Arrival::default());
        begun(&arrival).write_all(b"wrong").unwrap();
        arrival.reach(5);
        let reader = ArrivingFile::new(Arc::clone(&arrival));
        let reading = thread::spawn(move || read_all(&reader));
        arrival.end(Err("it is not what its digest says".to_owned()));
        arrival.end(Ok(()));
        assert_eq!(reading.join().unwrap().unwrap_err().to_string(), "it is not what its digest says");
    }

    #[test]
    fn a_new_beginning_is_an_error_for_those_who_may_have_read() {
        let arrival = Arc::new(Arrival::default());
        let early = ArrivingFile::new(Arc::clone(&arrival));
        // Nothing could be read of the first.
        drop(begun(&arrival));
        begun(&arrival).write_all(b"first").unwrap();
        arrival.reach(5);
        assert_eq!(early.read_at(&mut [0; 9], 0).unwrap(), 5);
        begun(&arrival).write_all(b"second").unwrap();
        arrival.reach(6);
        arrival.end(Ok(()));
        assert_eq!(early.read_at(&mut [0; 9], 5).unwrap_err().to_string(), "the download was begun anew");
        assert_eq!(read_all(&ArrivingFile::new(arrival)).unwrap(), b"second");
    }

    /// Blocks of 512 bytes.
    fn blocks(file: &File) -> u64 {
        std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap())
    }

    /// Reads a byte of each piece.
    fn skim(reader: &ArrivingFile, end: u64) {
        for offset in (0..end).step_by(1 << 20) {
            assert_eq!(reader.read_at(&mut [0], offset).unwrap(), 1);
        }
    }

    #[test]
    fn what_was_read_gives_its_blocks_back_when_nobody_else_wants_it() {
        let size = STAYING + 4 * GIVEN_BACK;
        let arrival = Arc::new(Arrival::default());
        let mut file = begun(&arrival);
        file.write_all(&vec![1; usize::try_from(size).unwrap()]).unwrap();
        arrival.reach(size);
        let whole = blocks(&file);
        let reader = ArrivingFile::new(Arc::clone(&arrival));
        skim(&reader, size - GIVEN_BACK);
        assert_eq!(blocks(&file), whole, "somebody may want it");
        arrival.let_go();
        assert_eq!(reader.read_at(&mut [0], size - GIVEN_BACK - 1).unwrap(), 1);
        assert!(blocks(&file) < whole, "{} of {whole}", blocks(&file));
        assert_eq!(reader.read_at(&mut [0], 0).unwrap_err().to_string(), "it was read before, and is no longer there");
        assert_eq!(reader.read_at(&mut [0], size - STAYING - GIVEN_BACK).unwrap(), 1, "a reader may go back");
        assert!(!arrival.keep());
        arrival.end(Ok(()));
        assert_eq!(reader.wait(), Arrived::LetGo);
    }

    #[test]
    fn a_file_that_is_kept_stays_whole() {
        let size = STAYING + 2 * GIVEN_BACK;
        let arrival = Arc::new(Arrival::default());
        let file = begun(&arrival);
        file.set_len(size).unwrap();
        arrival.reach(size);
        let reader = ArrivingFile::new(Arc::clone(&arrival));
        assert!(arrival.keep());
        arrival.let_go();
        skim(&reader, size);
        assert_eq!(reader.read_at(&mut [0], 0).unwrap(), 1);
        arrival.end(Ok(()));
        assert_eq!(reader.wait(), Arrived::Kept);
    }
}
