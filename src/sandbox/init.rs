//! The second process of this program, in which a sandbox is set up.
//!
//! It has a single thread, so it may unshare, fork and change its ids; the first process has many threads and may not.
//! To run a command it forks once more: the child becomes the command, and the parent supervises it and kills the
//! processes that the command leaves.

use std::io::{self, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Pid, Signal, kill_process};
use rustix::thread::UnshareFlags;

use super::message::{self, Failure, Job, Report, RunSpec};
use super::raw::Fork;
use super::{Status, command, probe, process_tree, raw, user_namespace};

/// The interval at which the supervisor checks whether the first process is still alive.
const WATCH_INTERVAL_MILLISECONDS: u32 = 1000;

/// Runs the second process. Its standard input is the socket on which it receives its job.
#[must_use]
pub fn init_main() -> ExitCode {
    let Ok(channel) = take_channel() else { return ExitCode::FAILURE };
    let report = match serve(&channel) {
        Ok(report) => report,
        Err(failure) => Report::Failed(failure),
    };
    match message::send(&channel, &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Moves the socket to another descriptor, so that the command's standard input is `/dev/null`.
fn take_channel() -> io::Result<UnixStream> {
    let channel = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    let nothing = OwnedFd::from(std::fs::File::open("/dev/null")?);
    raw::replace_standard_input(nothing.as_fd())?;
    Ok(UnixStream::from(channel))
}

fn serve(channel: &UnixStream) -> Result<Report, Failure> {
    let job = message::receive(&mut BufReader::new(channel)).map_err(Failure::io("read the job of the sandbox"))?;
    match job {
        Some(Job::Probe { mapping }) => probe::try_here(mapping),
        Some(Job::MapIds { pid, mapping }) => user_namespace::write_maps(&mapping, pid).map(|()| Report::Mapped),
        Some(Job::Run(spec)) => supervise(&spec, channel).map(Report::Finished),
        None => Err(Failure::io("read the job of the sandbox")(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Starts the command, waits for it to end, and kills the processes that it left.
fn supervise(spec: &RunSpec, channel: &UnixStream) -> Result<Status, Failure> {
    let signals = [libc::SIGCHLD, libc::SIGTERM];
    raw::block_signals(&signals).map_err(Failure::io("block signals"))?;
    // When the first process dies, even by SIGKILL, this process receives SIGTERM and kills the command.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(Failure::step("ask for a signal at the parent's death"))?;
    raw::close_descriptors_on_exec().map_err(Failure::io("close inherited descriptors on exec"))?;
    if spec.namespace.is_none() {
        // The command is in the same process namespace and has the same ids, so it could attach to this process and
        // send reports in its place. Programs that it executes are dumpable again.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(Failure::step("protect the memory of the supervisor"))?;
    }
    let own_processes = spec.namespace.as_ref().is_some_and(|namespace| namespace.processes);
    if own_processes {
        raw::unshare(UnshareFlags::NEWPID).map_err(Failure::step("unshare the process namespace"))?;
    } else {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(Failure::step("become the reaper of the command's processes"))?;
    }
    let child = match raw::fork().map_err(Failure::io("fork"))? {
        Fork::Child => {
            // Returns only on failure.
            let failure = command::become_command(spec, channel);
            let sent = message::send(channel, &Report::Failed(failure));
            raw::exit_now(if sent.is_ok() { 1 } else { 2 });
        }
        Fork::Parent(pid) => pid,
    };
    let status = wait_for(child, &signals, channel)?;
    if !own_processes {
        process_tree::end_descendants().map_err(Failure::io("end the processes the command left"))?;
    }
    Ok(status)
}

fn wait_for(child: Pid, signals: &[i32], channel: &UnixStream) -> Result<Status, Failure> {
    loop {
        let stop = match raw::wait_signal(signals, WATCH_INTERVAL_MILLISECONDS).map_err(Failure::io("wait"))? {
            Some(libc::SIGTERM) => true,
            Some(_) => false,
            // The parent may have died before the death signal was requested.
            None => is_abandoned(channel),
        };
        if stop {
            match kill_process(child, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => return Err(Failure::step("end the command")(errno)),
            }
        }
        let mut ended = None;
        loop {
            match raw::wait_any(false) {
                Ok(Some((pid, status))) if pid == child.as_raw_nonzero().get() => ended = Some(status),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => break,
                Err(error) => return Err(Failure::io("wait for the command")(error)),
            }
        }
        if let Some(status) = ended {
            return Ok(status);
        }
    }
}

fn is_abandoned(channel: &UnixStream) -> bool {
    let mut polled = [rustix::event::PollFd::new(channel, rustix::event::PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).is_ok()
        && polled.iter().any(|entry| entry.revents().contains(rustix::event::PollFlags::HUP))
}
