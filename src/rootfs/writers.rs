//! Files that several threads make at once.
//!
//! Making a file costs the kernel more than finding out what is to be in it, and what it costs is spent in system calls that
//! can go on side by side, or in waiting for the disk to read what is copied. So the content of small files is handed over
//! to a few threads, together with the open directory that the file goes into. Whoever hands it over keeps the order: it
//! waits for all that is on its way before it touches what may be among it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::fs::{FileKind, Status, sys};

use super::attributes::Attributes;
use super::file::{CHUNK, MadeFile, NewFile};

/// Threads that make files. More than there may be processors, as they also wait for the disk.
const THREADS: usize = 4;
/// Files that may wait for a thread.
const WAITING: usize = 16;
/// Largest content that is handed over in memory: with those that wait, 10 MiB at most.
pub(super) const LARGEST: usize = 512 << 10;

/// A file on its way.
#[derive(Debug)]
pub(super) struct Job {
    /// Where it will be in the tree.
    pub(super) path: PathBuf,
    /// The directory it goes into.
    pub(super) directory: Arc<OwnedFd>,
    /// Its name there.
    pub(super) name: OsString,
    /// What the image says of it.
    pub(super) attributes: Attributes,
    /// The mode it gets on the disk.
    pub(super) mode: u32,
    /// What is to be in it.
    pub(super) content: Content,
}

/// What is to be in a file.
#[derive(Debug)]
pub(super) enum Content {
    /// These bytes, [`LARGEST`] at most.
    Bytes(Vec<u8>),
    /// What is in a regular file.
    Of {
        /// The directory it is in.
        directory: Arc<OwnedFd>,
        /// Its name there.
        name: OsString,
        /// As messages call it.
        shown: PathBuf,
    },
}

/// A file that is there now, or why it is not.
#[derive(Debug)]
pub(super) struct Written {
    /// Where it is in the tree.
    pub(super) path: PathBuf,
    /// What the image says of it.
    pub(super) attributes: Attributes,
    /// What became of it.
    pub(super) made: Result<MadeFile, WriteError>,
}

/// Why a file was not made.
#[derive(Debug)]
pub(super) enum WriteError {
    /// What is to be in it cannot be opened.
    Open {
        /// The file that has it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be written.
    Write(io::Error),
}

/// The threads, which start with the first file.
#[derive(Debug, Default)]
pub(super) struct Writers {
    running: Option<Running>,
    pending: HashSet<PathBuf>,
    /// Memory of files that are written.
    buffers: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Running {
    /// Taken when no more will come.
    jobs: Option<SyncSender<Job>>,
    done: Receiver<(Written, Option<Vec<u8>>)>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// An empty buffer for content.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Whether the file at `path` is on its way.
    pub(super) fn is_pending(&self, path: &Path) -> bool {
        self.pending.contains(path)
    }

    /// Hands a file over, waiting while too many are on their way, and gives those that have been finished since.
    ///
    /// # Errors
    /// No thread can be started, or all of them ended.
    pub(super) fn write(&mut self, job: Job) -> io::Result<Vec<Written>> {
        let running = match &mut self.running {
            Some(running) => running,
            None => self.running.insert(Running::start()?),
        };
        let path = job.path.clone();
        let sent = running.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            return Err(ended());
        }
        self.pending.insert(path);
        let mut finished = Vec::new();
        while let Ok(done) = running.done.try_recv() {
            finished.push(done);
        }
        Ok(finished.into_iter().map(|done| self.take(done)).collect())
    }

    /// Waits for all that is on its way.
    ///
    /// # Errors
    /// The threads ended.
    pub(super) fn wait(&mut self) -> io::Result<Vec<Written>> {
        let mut finished = Vec::with_capacity(self.pending.len());
        while !self.pending.is_empty() {
            let done = self.running.as_ref().and_then(|running| running.done.recv().ok()).ok_or_else(ended)?;
            finished.push(self.take(done));
        }
        Ok(finished)
    }

    fn take(&mut self, (written, buffer): (Written, Option<Vec<u8>>)) -> Written {
        self.pending.remove(&written.path);
        if let Some(buffer) = buffer {
            self.give_back(buffer);
        }
        written
    }

    /// Keeps a buffer for the next content.
    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.buffers.push(buffer);
    }
}

impl Running {
    fn start() -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(WAITING);
        let (finished, done) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let mut running = Self { jobs: Some(jobs), done, threads: Vec::with_capacity(THREADS) };
        for _ in 0..THREADS {
            let (waiting, finished) = (Arc::clone(&waiting), finished.clone());
            let thread = std::thread::Builder::new().name("write".to_owned());
            running.threads.push(thread.spawn(move || work(&waiting, &finished))?);
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that writes files panicked");
            }
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("the threads that write files ended early")
}

fn work(waiting: &Mutex<Receiver<Job>>, finished: &Sender<(Written, Option<Vec<u8>>)>) {
    let mut buffer = Vec::new();
    loop {
        let job = waiting.lock().recv();
        let Ok(job) = job else { return };
        // Whoever waits for this file must hear of it in any case.
        let made = catch_unwind(AssertUnwindSafe(|| make(&job, &mut buffer)))
            .unwrap_or_else(|_panic| Err(WriteError::Write(io::Error::other("the thread that wrote it panicked"))));
        let Job { path, attributes, content, .. } = job;
        let memory = match content {
            Content::Bytes(bytes) => Some(bytes),
            Content::Of { .. } => None,
        };
        if finished.send((Written { path, attributes, made }, memory)).is_err() {
            return;
        }
    }
}

fn make(job: &Job, buffer: &mut Vec<u8>) -> Result<MadeFile, WriteError> {
    let Job { directory, name, attributes, mode, .. } = job;
    let new = NewFile { directory: directory.as_fd(), name, attributes, mode: *mode };
    match &job.content {
        Content::Bytes(bytes) => new.make_of(bytes),
        Content::Of { directory, name, shown } => {
            // Without NONBLOCK, opening a named pipe that took the file's place would wait for a writer.
            let opened = sys::open_at(directory, name, OFlags::RDONLY | OFlags::NONBLOCK, 0);
            let opened = opened.and_then(|file| match Status::of(&file)?.kind {
                FileKind::File => Ok(file),
                _ => Err(Errno::INVAL),
            });
            let mut content = std::fs::File::from(
                opened.map_err(|errno| WriteError::Open { path: shown.clone(), source: errno.into() })?,
            );
            buffer.resize(CHUNK, 0);
            new.make(&mut content, buffer)
        }
    }
    .map_err(WriteError::Write)
}
