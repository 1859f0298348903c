//! Errors of sandboxes.

#![allow(missing_docs, reason = "`#[error]` says it")]

use std::io;
use std::path::PathBuf;

use crate::diag::Hint;
use crate::fs;

use super::Isolation;

/// A failure to run a command, or to prepare or clean up its root directory.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No mechanism works in this container.
    #[error("no way to isolate RUN works in this container ({})", tried.join("; "))]
    NothingWorks {
        /// One line for each mechanism: its name and why it does not work.
        tried: Vec<String>,
        /// What to change in the pod.
        advice: String,
    },
    /// The requested mechanism does not work in this container.
    #[error("--isolation={requested} does not work here: {reason}")]
    Unavailable {
        requested: Isolation,
        /// The reason, and what to change.
        reason: String,
    },
    /// own-root would replace the files of a system that is not a container.
    #[error(
        "crabwright should only be run inside of a container, run with the --force flag if you are sure you want to \
         continue ({evidence}; --isolation=own-root replaces the files of / while a RUN runs)"
    )]
    NotInContainer { evidence: String },
    /// own-root would move away the files of an operating system that the container has for other purposes.
    #[error(
        "own-root isolation would move away the files of this image ({system}) while a RUN runs, and every process in \
         this container would miss them: use the executor's own image, allow user namespaces in the pod, or permit it \
         with --force --pre-cleanup"
    )]
    OwnSystem { system: String },
    /// A stop was requested, by a signal (SIGTERM, SIGINT) or because another stage failed. The command has been
    /// killed.
    #[error("interrupted while a command was running")]
    Interrupted,
    /// The program does not exist in the image, or cannot be executed. A shell would return 127 or 126.
    #[error("cannot run {program}: {reason}")]
    Program {
        program: String,
        /// Where it was searched for, and the result.
        reason: String,
        /// 127: not found; 126: found but not executable.
        exit_code: i32,
    },
    /// The working directory is missing or is not a directory.
    #[error("failed to enter the working directory {path}")]
    WorkingDirectory {
        path: String,
        #[source]
        source: io::Error,
    },
    /// The user or group of the command is not available.
    #[error("cannot run as user {uid} and group {gid} with {isolation} isolation: {reason}")]
    Ids {
        uid: u32,
        gid: u32,
        isolation: &'static str,
        /// The reason, and what to change.
        reason: String,
    },
    /// A set-up step in the sandbox process failed.
    #[error("failed to set up the sandbox: {step}")]
    Setup {
        /// A verb and its object, such as "mount /dev".
        step: String,
        #[source]
        source: io::Error,
    },
    /// The sandbox process ended without reporting a result.
    #[error("the sandbox process ended without a result ({status}); was it killed, perhaps because memory ran out?")]
    InitDied { status: String },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// Another build has the lock on the root directory.
    #[error(
        "another build in this container uses own-root isolation, or needs the files of / in place: only one build at a \
         time may run commands with own-root isolation; wait for it to end, or build in a separate container"
    )]
    Busy,
    /// Another build has exchanged the files of `/`, or may do so at any time.
    #[error(
        "another build in this container runs commands with own-root isolation, which hides {path} meanwhile: wait for it \
         to end, or move that path to a volume or below /kaniko"
    )]
    OutOfSight {
        /// The path that this build needs.
        path: PathBuf,
    },
    /// A command moved, replaced or removed a path that own-root needs in place.
    #[error(
        "the command moved, replaced or removed {path}, which holds a mount of the pod or files of this build, so that the \
         image's files cannot be distinguished from those of the pod: leave that path alone, or mount elsewhere"
    )]
    Displaced { path: PathBuf },
    /// own-root renames files, and a rename cannot cross mounts.
    #[error(
        "the work directory {work_dir} is on the mount {mount_point}, and /kaniko cannot be used either; own-root isolation \
         needs a directory on the same mount as / for the files of stages: pass one on the container's own file system \
         with --work-dir"
    )]
    OtherMount { work_dir: PathBuf, mount_point: PathBuf },
    /// own-root cannot put this mount in place.
    #[error("cannot mount over {target} with own-root isolation: {reason}")]
    MountPoint { target: PathBuf, reason: &'static str },
    /// The command ran, but the stage's files could not be moved back. They are incomplete.
    #[error("failed to move the image's files out of the root directory after the command")]
    Leave {
        #[source]
        source: Box<SandboxError>,
    },
    /// The journal of an earlier run cannot be understood.
    #[error(
        "cannot understand the journal {path} of an earlier run, which had moved the files of / away: {reason}; the \
         container's own files are in /.crabwright/stash: move them back, remove /.crabwright and try again, or use a \
         new container"
    )]
    Journal { path: PathBuf, reason: String },
}

impl Hint for SandboxError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NothingWorks { advice, .. } => Some(advice.clone()),
            Self::File(error) => error.hint(),
            Self::WorkingDirectory { source, .. } | Self::Setup { source, .. } => source.hint(),
            Self::Leave { source } => source.hint(),
            // Their messages say what to do.
            Self::Unavailable { .. }
            | Self::NotInContainer { .. }
            | Self::OwnSystem { .. }
            | Self::Interrupted
            | Self::Program { .. }
            | Self::Ids { .. }
            | Self::InitDied { .. }
            | Self::Busy
            | Self::OutOfSight { .. }
            | Self::Displaced { .. }
            | Self::OtherMount { .. }
            | Self::MountPoint { .. }
            | Self::Journal { .. } => None,
        }
    }
}

impl SandboxError {
    pub(super) fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File(fs::Error { verb, path, source })
    }

    pub(super) fn errno(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.into();
        move |errno| Self::File(fs::Error { verb, path, source: errno.into() })
    }

    /// Returns the exit code that a shell would return for this failure, if it has one.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Program { exit_code, .. } => Some(*exit_code),
            _ => None,
        }
    }
}
