//! Defines the messages between this program and its second process, which sets up a sandbox.
//!
//! They use a socket that is the second process's standard input. The first process sends one line of JSON with the
//! [`Job`]; the second sends a line for each [`Report`] until it ends. Nothing is passed in arguments or the
//! environment, which other processes could read.

use std::io::{self, BufRead, Read as _, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::id_mapping::IdMapping;
use super::outcome::Status;
use super::process::{Ids, Network, Script};

/// The hidden sub-command. If it is the first argument, `main` calls [`super::init_main`] before anything else.
pub const INIT_COMMAND: &str = "sandbox-init";

/// The task of the second process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Job {
    /// Tries a mechanism and reports whether it works.
    Probe {
        /// The ids of the new user namespace to try it in, if any.
        mapping: Option<IdMapping>,
    },
    /// Writes the id maps of another process. Started before that process enters its user namespace.
    MapIds { pid: i32, mapping: IdMapping },
    /// Runs a command.
    Run(Box<RunSpec>),
}

/// A command and its environment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunSpec {
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) working_directory: String,
    pub(super) user: Ids,
    pub(super) network: Network,
    /// `None` with own-root: the command runs in `/` itself.
    pub(super) namespace: Option<NamespaceSpec>,
}

/// The namespaces and mounts of a command.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NamespaceSpec {
    /// The stage's root directory.
    pub(super) root: PathBuf,
    /// True if a fresh `/proc`, and so a process namespace, is available.
    pub(super) processes: bool,
    /// The host name to set.
    pub(super) hostname: String,
    /// Paths of `/proc`, `/dev` and `/sys` of the root, symbolic links resolved.
    pub(super) proc_target: PathBuf,
    pub(super) dev_target: PathBuf,
    pub(super) sys_target: PathBuf,
    /// Files to bind read-only: source and target, both paths outside of the root.
    pub(super) read_only_files: Vec<(PathBuf, PathBuf)>,
    pub(super) script: Option<Script>,
    /// An empty directory of this sandbox, outside of the root.
    pub(super) scratch: PathBuf,
    /// The mounts of `RUN --mount`, in the order in which they are made.
    pub(super) mounts: Vec<MountSpec>,
}

/// One mount of `RUN --mount`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MountSpec {
    /// Path outside of the root, symbolic links resolved.
    pub(super) target: PathBuf,
    /// The type that the mount point must have.
    pub(super) is_directory: bool,
    /// True if the mount point is inside an earlier mount, so that it can be created only after that one.
    pub(super) is_later: bool,
    pub(super) shown: MountedContent,
    pub(super) read_only: bool,
}

/// The content of a mount.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum MountedContent {
    Bind { source: PathBuf },
    Memory { size: Option<u64> },
    File { content: FileContent, mode: u32, uid: u32, gid: u32 },
}

/// A file's content, which may be a secret and must not be logged.
#[derive(Serialize, Deserialize)]
pub(super) struct FileContent(pub(super) Vec<u8>);

impl std::fmt::Debug for FileContent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

/// A message from the second process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// A line for the log.
    Note(String),
    /// The probed mechanism works.
    Probed {
        /// True if a process namespace with its own `/proc` works.
        processes: bool,
    },
    /// The ids were mapped.
    Mapped,
    /// The command ended, and all its processes have ended.
    Finished(Status),
    /// Setup failed before the command started.
    Failed(Failure),
}

/// A reason why a job failed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    Step { step: String, errno: i32 },
    Program { program: String, reason: String, exit_code: i32 },
    WorkingDirectory { path: String, errno: i32 },
    Ids { uid: u32, gid: u32, reason: String },
}

impl Failure {
    /// Returns a function for `map_err` on system calls that adds the step.
    pub(super) fn step(step: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let step = step.into();
        move |errno| Self::Step { step, errno: errno.raw_os_error() }
    }

    /// Returns a function for `map_err` on calls of the standard library that adds the step.
    pub(super) fn io(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let step = step.into();
        move |error| {
            let errno = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
            Self::Step { step, errno }
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Step { step, errno } => write!(formatter, "{step}: {}", describe(*errno)),
            Self::Program { program, reason, .. } => write!(formatter, "{program}: {reason}"),
            Self::WorkingDirectory { path, errno } => write!(formatter, "{path}: {}", describe(*errno)),
            Self::Ids { reason, .. } => formatter.write_str(reason),
        }
    }
}

/// Returns the system's text for an error, without its number.
pub(super) fn describe(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Sends one message as a line.
pub(super) fn send<T: Serialize>(mut to: impl Write, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// The most bytes of a report. None is longer, unless another process writes to the socket.
const MAX_REPORT_BYTES: u64 = 1 << 20;

/// Receives one report, which may come from a command that got hold of the socket; `None` at the end.
pub(super) fn receive_report(from: &mut impl BufRead) -> io::Result<Option<Report>> {
    let mut bounded = from.by_ref().take(MAX_REPORT_BYTES);
    let report = receive(&mut bounded);
    if bounded.limit() == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the report of the sandbox process has no end"));
    }
    report
}

/// Receives one message; `None` at the end.
pub(super) fn receive<T: for<'a> Deserialize<'a>>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_even_with_line_feeds_in_it() {
        let mut wire = Vec::new();
        send(&mut wire, &Report::Note("a\nb".into())).unwrap();
        send(&mut wire, &Report::Finished(Status::Exited(3))).unwrap();
        assert_eq!(wire.iter().filter(|byte| **byte == b'\n').count(), 2);
        let mut reader = &wire[..];
        assert!(matches!(receive(&mut reader).unwrap(), Some(Report::Note(text)) if text == "a\nb"));
        assert!(matches!(receive(&mut reader).unwrap(), Some(Report::Finished(Status::Exited(3)))));
        assert!(receive::<Report>(&mut reader).unwrap().is_none());
    }

    #[test]
    fn a_report_without_an_end_is_refused() {
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        assert_eq!(receive_report(&mut endless).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut wire = Vec::new();
        send(&mut wire, &Report::Note("short".into())).unwrap();
        assert!(matches!(receive_report(&mut &wire[..]).unwrap(), Some(Report::Note(_))));
    }
}
