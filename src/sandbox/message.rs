//! What this program and its second process, the one that sets a sandbox up, say to each other.
//!
//! They speak over a socket that is the child's standard input: one line of JSON with the [`Job`] down, then lines with
//! a [`Report`] each up, until the child ends. Nothing is passed in arguments or the environment, which other processes
//! could read.

use std::io::{self, BufRead, Read as _, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::id_mapping::IdMapping;
use super::outcome::Status;
use super::process::{Ids, Network, Script};

/// The hidden sub-command: `main` calls [`super::init_main`] before anything else when this is the first argument.
pub const INIT_COMMAND: &str = "sandbox-init";

/// What the child is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Job {
    /// Try a mechanism and report what works.
    Probe {
        /// In a new user namespace with these ids.
        mapping: Option<IdMapping>,
    },
    /// Write the id maps of another process; started before that process leaves this user namespace.
    MapIds { pid: i32, mapping: IdMapping },
    /// Run a command.
    Run(Box<RunSpec>),
}

/// How and what to run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunSpec {
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) working_directory: String,
    pub(super) user: Ids,
    pub(super) network: Network,
    /// `None`: own-root, the command runs in `/` as it is.
    pub(super) namespace: Option<NamespaceSpec>,
}

/// The namespaces and mounts of a command.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NamespaceSpec {
    /// The stage's root directory.
    pub(super) root: PathBuf,
    /// Whether a fresh `/proc`, and so a process namespace, can be had.
    pub(super) processes: bool,
    /// Host name to set.
    pub(super) hostname: String,
    /// Where `/proc`, `/dev` and `/sys` of the root really are, symbolic links resolved.
    pub(super) proc_target: PathBuf,
    pub(super) dev_target: PathBuf,
    pub(super) sys_target: PathBuf,
    /// Files to bind read-only: source and target, both outside paths.
    pub(super) read_only_files: Vec<(PathBuf, PathBuf)>,
    pub(super) script: Option<Script>,
    /// An empty directory of this sandbox's own, outside the root.
    pub(super) scratch: PathBuf,
    /// What the command sees besides, in the order it is mounted.
    pub(super) mounts: Vec<MountSpec>,
}

/// One mount of `RUN --mount`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MountSpec {
    /// Outside path, symbolic links resolved.
    pub(super) target: PathBuf,
    /// What the mount point must be.
    pub(super) is_directory: bool,
    /// It lies in something that is mounted before it, so that it can be made only then.
    pub(super) is_later: bool,
    pub(super) shown: Shown,
    pub(super) read_only: bool,
}

/// What it shows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Shown {
    Bind { source: PathBuf },
    Memory { size: Option<u64> },
    File { content: FileContent, mode: u32, uid: u32, gid: u32 },
}

/// What a file says that may be a secret: not for logs.
#[derive(Serialize, Deserialize)]
pub(super) struct FileContent(pub(super) Vec<u8>);

impl std::fmt::Debug for FileContent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

/// What the child has to say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// For the log.
    Note(String),
    /// The probed mechanism works, and how well.
    Probed {
        /// A process namespace with its own `/proc` works.
        processes: bool,
    },
    /// The ids were mapped.
    Mapped,
    /// The command ended, and nothing of it is left.
    Finished(Status),
    /// It did not come to that.
    Failed(Failure),
}

/// Why not.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    Step { step: String, errno: i32 },
    Program { program: String, reason: String, exit_code: i32 },
    WorkingDirectory { path: String, errno: i32 },
    Ids { uid: u32, gid: u32, reason: String },
}

impl Failure {
    /// For `map_err` on system calls: names the step.
    pub(super) fn step(step: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let step = step.into();
        move |errno| Self::Step { step, errno: errno.raw_os_error() }
    }

    /// For `map_err` on the standard library's calls.
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

/// What the system calls this error, without its number.
pub(super) fn describe(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Writes one message as a line.
pub(super) fn send<T: Serialize>(mut to: impl Write, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Bytes of a report that are read: none is longer, unless something else speaks for the child.
const MOST_REPORT: u64 = 1 << 20;

/// Reads one report, whose sender a command may have got hold of; `None` at the end.
pub(super) fn receive_report(from: &mut impl BufRead) -> io::Result<Option<Report>> {
    let mut bounded = from.by_ref().take(MOST_REPORT);
    let report = receive(&mut bounded);
    if bounded.limit() == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the report of the sandbox process has no end"));
    }
    report
}

/// Reads one message; `None` at the end.
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
