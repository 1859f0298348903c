//! The first process's side of a command: start the second process, pass its output on, end it when asked to stop.

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

/// How much of a pipe is read at a time.
const CHUNK: usize = 64 * 1024;
/// A pipe holds no more than this by default limits; what is left in it when everything has ended is read up to here.
const MOST_LEFT_IN_PIPE: usize = 1024 * 1024;
/// How long the second process may take to end the command after it was asked to, before it is killed itself.
const PATIENCE: Duration = Duration::from_secs(10);

fn command(channel: OwnedFd) -> Command {
    // The link leads to this very program, wherever its file has been moved to.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("crabwright").arg(INIT_COMMAND).env_clear().current_dir("/").stdin(Stdio::from(channel));
    command
}

/// Starts the second process without output; it waits for a job.
pub(super) fn spawn_init() -> std::io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = command(theirs.into()).stdout(Stdio::null()).spawn()?;
    Ok((child, ours))
}

/// Gives the second process a job that ends with one answer, which may be that it failed.
pub(super) fn ask_init(job: &Job) -> Result<Report, SandboxError> {
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

/// Runs a command to its end, or until somebody asks it to `stop`, and passes its output on.
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
        // Should the second process be killed, what it supervised falls to this one.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(|errno| start(errno.into()))?;
    }
    let child = command(theirs.into()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
    let mut child = Running { child, own_processes, ended: false };
    let mut watch = Watch {
        stdout: child.child.stdout.take().map(OwnedFd::from),
        stderr: child.child.stderr.take().map(OwnedFd::from),
        channel: BufReader::new(channel),
        channel_open: true,
        stop_asked: None,
        status: None,
        failure: None,
        buffer: vec![0; CHUNK],
    };
    let pid = Pid::from_child(&child.child);
    // A process that died before it read its job shows as a channel that ends without a report.
    let sent = message::send(watch.channel.get_ref(), &Job::Run(Box::new(spec)));
    watch.until_ended(pid, stop, output)?;
    let Watch { stop_asked, status, failure, .. } = watch;
    let ended = child.end().map_err(start)?;
    match (stop_asked, failure, status) {
        (Some(_), _, _) => Err(SandboxError::Interrupted),
        (None, Some(failure), _) => Err(failure.into()),
        (None, None, Some(status)) => Ok(status),
        (None, None, None) => match sent {
            Err(source) if ended.success() => Err(start(source)),
            _ => Err(SandboxError::InitDied { status: ended.to_string() }),
        },
    }
}

/// The second process while a command runs; when dropped early, the command is ended before anything else happens.
struct Running {
    child: Child,
    own_processes: bool,
    ended: bool,
}

impl Running {
    /// Waits for it. One that did not come to its end by itself may have left processes of the command.
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

struct Watch {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    channel: BufReader<UnixStream>,
    channel_open: bool,
    stop_asked: Option<Instant>,
    status: Option<Status>,
    failure: Option<Failure>,
    buffer: Vec<u8>,
}

/// Which of the polled descriptors have something.
#[derive(Default, Clone, Copy)]
struct Ready {
    stdout: bool,
    stderr: bool,
    channel: bool,
    wake: bool,
}

impl Watch {
    /// Passes output on until the second process has ended, then what is left in the pipes.
    fn until_ended(
        &mut self,
        pid: Pid,
        stop: Option<&Stop>,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), SandboxError> {
        let failed = |source: std::io::Error| SandboxError::Setup { step: "read the command's output".into(), source };
        while self.channel_open {
            let wake = match self.stop_asked {
                None => [interrupt::wake_fd(), stop.map(Stop::descriptor)],
                Some(_) => [None; 2],
            };
            let timeout = self.stop_asked.map(|asked| PATIENCE.saturating_sub(asked.elapsed()));
            let ready = self.poll(wake, timeout).map_err(failed)?;
            // Output first: what a command wrote before it failed comes before the report of its failure.
            self.pass_on(ready, output).map_err(failed)?;
            if ready.channel {
                self.take_report().map_err(failed)?;
            }
            if ready.wake {
                self.stop_asked = Some(Instant::now());
                signal(pid, Signal::TERM).map_err(failed)?;
            }
            if self.stop_asked.is_some_and(|asked| asked.elapsed() >= PATIENCE) {
                signal(pid, Signal::KILL).map_err(failed)?;
            }
        }
        let mut left = MOST_LEFT_IN_PIPE;
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

    /// Reads what is there once from each ready pipe; gives the number of bytes.
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
            // Reports that came together are in the buffer already, where poll does not see them.
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
