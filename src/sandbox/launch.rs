//! Starts the second process for a command, forwards the output, and stops the command on request.

use std::io::BufReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::message::{self, Failure, INIT_COMMAND, Job, Report, RunSpec};
use super::stop::Stop;
use super::{SandboxError, Status, Stream, process_tree};
use crate::diag::interrupt;

/// The most bytes that are read from a pipe at a time.
const CHUNK: usize = 64 * 1024;
/// The most bytes that are read from the pipes after the second process has ended: the default limit of a pipe.
const MAX_LEFT_IN_PIPE: usize = 1024 * 1024;
/// How long the second process may take to stop the command, before it is killed itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

fn command(channel: OwnedFd) -> Command {
    // The link leads to this program even if its file was moved.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("crabwright").arg(INIT_COMMAND).env_clear().current_dir("/").stdin(Stdio::from(channel));
    command
}

/// Starts the second process without output. It waits for a job.
pub(super) fn spawn_init() -> std::io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = command(theirs.into()).stdout(Stdio::null()).spawn()?;
    Ok((child, ours))
}

/// Sends a job to a new second process and returns its only report, which may be a failure.
pub(super) fn run_job(job: &Job) -> Result<Report, SandboxError> {
    let start = |source| SandboxError::Setup { step: "start a process of this program".into(), source };
    let (mut child, channel) = spawn_init().map_err(start)?;
    let answer = message::send(&channel, job).and_then(|()| message::receive_report(&mut BufReader::new(&channel)));
    let status = child.wait().map_err(start)?;
    match answer {
        Ok(Some(report)) => Ok(report),
        Ok(None) | Err(_) => Err(SandboxError::InitDied { status: status.to_string() }),
    }
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Step { step, errno } => Self::Setup { step, source: std::io::Error::from_raw_os_error(errno) },
            Failure::Program { program, reason, exit_code } => Self::Program { program, reason, exit_code },
            Failure::WorkingDirectory { path, errno } => {
                Self::WorkingDirectory { path, source: std::io::Error::from_raw_os_error(errno) }
            }
            Failure::Ids { uid, gid, reason } => Self::Ids { uid, gid, isolation: "this", reason },
        }
    }
}

/// Runs a command until it ends or `stop` is requested, and forwards its output.
pub(super) fn run(
    spec: RunSpec,
    stop: Option<&Stop>,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Status, SandboxError> {
    if interrupt::requested().is_some() {
        return Err(SandboxError::Interrupted);
    }
    let start = |source| SandboxError::Setup { step: "start the sandbox process".into(), source };
    let (channel, theirs) = UnixStream::pair().map_err(start)?;
    let own_processes = spec.namespace.as_ref().is_some_and(|namespace| namespace.processes);
    if !own_processes {
        // If the second process is killed, the processes that it supervised become children of this one.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(|errno| start(errno.into()))?;
    }
    let child = command(theirs.into()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
    let mut child = Running { child, own_processes, ended: false };
    let mut watch = OutputWatch {
        stdout: child.child.stdout.take().map(OwnedFd::from),
        stderr: child.child.stderr.take().map(OwnedFd::from),
        channel: BufReader::new(channel),
        channel_open: true,
        stop_requested: None,
        status: None,
        failure: None,
        buffer: vec![0; CHUNK],
    };
    let pid = Pid::from_child(&child.child);
    // If the process died before it read its job, the channel ends without a report.
    let sent = message::send(watch.channel.get_ref(), &Job::Run(Box::new(spec)));
    watch.until_ended(pid, stop, output)?;
    let OutputWatch { stop_requested, status, failure, .. } = watch;
    let ended = child.end().map_err(start)?;
    match (stop_requested, failure, status) {
        (Some(_), _, _) => Err(SandboxError::Interrupted),
        (None, Some(failure), _) => Err(failure.into()),
        (None, None, Some(status)) => Ok(status),
        (None, None, None) => match sent {
            Err(source) if ended.success() => Err(start(source)),
            _ => Err(SandboxError::InitDied { status: ended.to_string() }),
        },
    }
}

/// The second process while a command runs. Dropping it stops the command first.
struct Running {
    child: Child,
    own_processes: bool,
    ended: bool,
}

impl Running {
    /// Waits for it. If it did not exit by itself, the command's processes may still run and are killed.
    fn end(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.ended = true;
        if !status.success() && !self.own_processes {
            process_tree::end_other_sessions()?;
        }
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let ended = signal(Pid::from_child(&self.child), Signal::TERM).and_then(|()| self.end());
        if let Err(error) = ended {
            tracing::error!("a command may still be running: {error}");
        }
    }
}

struct OutputWatch {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    channel: BufReader<UnixStream>,
    channel_open: bool,
    stop_requested: Option<Instant>,
    status: Option<Status>,
    failure: Option<Failure>,
    buffer: Vec<u8>,
}

/// The polled descriptors that are ready.
#[derive(Default, Clone, Copy)]
struct Ready {
    stdout: bool,
    stderr: bool,
    channel: bool,
    wake: bool,
}

impl OutputWatch {
    /// Forwards output until the second process has ended, then what is left in the pipes.
    fn until_ended(
        &mut self,
        pid: Pid,
        stop: Option<&Stop>,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), SandboxError> {
        let failed = |source: std::io::Error| SandboxError::Setup { step: "read the command's output".into(), source };
        while self.channel_open {
            let wake = match self.stop_requested {
                None => [interrupt::wake_fd(), stop.map(Stop::descriptor)],
                Some(_) => [None; 2],
            };
            let timeout = self.stop_requested.map(|asked| STOP_TIMEOUT.saturating_sub(asked.elapsed()));
            let ready = self.poll(wake, timeout).map_err(failed)?;
            // Output first: a command's output precedes the report of its failure.
            self.pass_on(ready, output).map_err(failed)?;
            if ready.channel {
                self.take_report().map_err(failed)?;
            }
            if ready.wake {
                self.stop_requested = Some(Instant::now());
                signal(pid, Signal::TERM).map_err(failed)?;
            }
            if self.stop_requested.is_some_and(|asked| asked.elapsed() >= STOP_TIMEOUT) {
                signal(pid, Signal::KILL).map_err(failed)?;
            }
        }
        let mut left = MAX_LEFT_IN_PIPE;
        while left > 0 {
            let ready = self.poll([None; 2], Some(Duration::ZERO)).map_err(failed)?;
            if !ready.stdout && !ready.stderr {
                break;
            }
            left = left.saturating_sub(self.pass_on(ready, output).map_err(failed)?.max(1));
        }
        Ok(())
    }

    fn poll(&self, wake: [Option<BorrowedFd<'_>>; 2], timeout: Option<Duration>) -> std::io::Result<Ready> {
        let channel = self.channel_open.then(|| self.channel.get_ref().as_fd());
        let [signal, stop] = wake;
        let (stdout, stderr) = (self.stdout.as_ref().map(AsFd::as_fd), self.stderr.as_ref().map(AsFd::as_fd));
        let descriptors = [stdout, stderr, channel, signal, stop];
        let mut polled: Vec<PollFd<'_>> = descriptors
            .iter()
            .flatten()
            .map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN))
            .collect();
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
            Err(errno) => return Err(errno.into()),
        }
        let mut events = polled.iter().map(|entry| !entry.revents().is_empty());
        let mut next = |present: bool| present && events.next().unwrap_or(false);
        let [stdout, stderr, channel, signal, stop] = descriptors.map(|descriptor| next(descriptor.is_some()));
        Ok(Ready { stdout, stderr, channel, wake: signal || stop })
    }

    /// Reads once from each ready pipe and returns the number of bytes.
    fn pass_on(&mut self, ready: Ready, output: &mut dyn FnMut(Stream, &[u8])) -> std::io::Result<usize> {
        let mut total = 0;
        let pipes = [(ready.stdout, &mut self.stdout, Stream::Output), (ready.stderr, &mut self.stderr, Stream::Error)];
        for (is_ready, slot, stream) in pipes {
            let Some(descriptor) = slot.as_ref().filter(|_| is_ready) else { continue };
            let count = match rustix::io::read(descriptor, &mut self.buffer) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if count == 0 {
                *slot = None;
            } else {
                output(stream, self.buffer.get(..count).unwrap_or_default());
                total += count;
            }
        }
        Ok(total)
    }

    fn take_report(&mut self) -> std::io::Result<()> {
        loop {
            match message::receive_report(&mut self.channel)? {
                Some(Report::Note(text)) => tracing::debug!("sandbox: {text}"),
                Some(Report::Finished(status)) => self.status = Some(status),
                Some(Report::Failed(failure)) => {
                    self.failure.get_or_insert(failure);
                }
                Some(Report::Probed { .. } | Report::Mapped) => {}
                None => self.channel_open = false,
            }
            // Reports that arrived together are already in the buffer, where poll does not see them.
            if !self.channel_open || self.channel.buffer().is_empty() {
                return Ok(());
            }
        }
    }
}

fn signal(pid: Pid, signal: Signal) -> std::io::Result<()> {
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
