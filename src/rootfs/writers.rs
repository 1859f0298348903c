//! Makes files in several threads.
//!
//! Making a file takes longer than unpacking its content, and most of that time is spent in system calls that can run
//! in parallel, or in waiting for the disk. So the content of small files is passed to a few threads, with the open
//! directory. The caller keeps the order: it waits for all pending files before it uses one of them.

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

/// The number of threads. It may exceed the number of processors, because threads also wait for the disk.
const THREADS: usize = 4;
/// The most files that wait for a thread.
const WAITING: usize = 16;
/// The largest content that is passed in memory: with the waiting files, 10 MiB at most.
pub(super) const LARGEST: usize = 512 << 10;

/// A file to make.
#[derive(Debug)]
pub(super) struct Job {
    /// Its path in the tree.
    pub(super) path: PathBuf,
    /// Its directory.
    pub(super) directory: Arc<OwnedFd>,
    /// Its name in the directory.
    pub(super) name: OsString,
    /// Its attributes in the image.
    pub(super) attributes: Attributes,
    /// Its mode on disk.
    pub(super) mode: u32,
    /// Its content.
    pub(super) content: Content,
}

/// The content of a file.
#[derive(Debug)]
pub(super) enum Content {
    /// These bytes, at most [`LARGEST`].
    Bytes(Vec<u8>),
    /// The content of a regular file.
    Of {
        /// The directory of that file.
        directory: Arc<OwnedFd>,
        /// Its name in the directory.
        name: OsString,
        /// Its path in messages.
        shown: PathBuf,
    },
}

/// The result for a file.
#[derive(Debug)]
pub(super) struct Written {
    /// Its path in the tree.
    pub(super) path: PathBuf,
    /// Its attributes in the image.
    pub(super) attributes: Attributes,
    /// The new file, or the error.
    pub(super) made: Result<MadeFile, WriteError>,
}

/// Why a file was not made.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The file with its content cannot be opened.
    Open {
        /// The path of that file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file cannot be written.
    Write(io::Error),
}

/// The threads, which start with the first file.
#[derive(Debug, Default)]
pub(super) struct Writers {
    running: Option<Running>,
    pending: HashSet<PathBuf>,
    /// Buffers of files that have been written.
    buffers: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Running {
    /// Taken when no more files follow.
    jobs: Option<SyncSender<Job>>,
    done: Receiver<(Written, Option<Vec<u8>>)>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Returns an empty buffer for content.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Reports whether the file at `path` is pending.
    pub(super) fn is_pending(&self, path: &Path) -> bool {
        self.pending.contains(path)
    }

    /// Passes on a file, after waiting if too many are pending, and returns those that have been finished since.
    ///
    /// # Errors
    /// No thread can be started, or all have ended.
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

    /// Waits for all pending files.
    ///
    /// # Errors
    /// The threads have ended.
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

    /// Stores a buffer for the next content.
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
        // The caller that waits for this file needs a result in any case.
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
            // Without NONBLOCK, opening a named pipe that replaced the file would wait for a writer.
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
