//! What can go wrong between wanting to run a command and having its result.

use std::io;
use std::path::PathBuf;

use crate::diag::Hint;
use crate::fs;

use super::Isolation;

/// Why a command could not be run, or its root directory not be prepared or given back.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No mechanism works here.
    #[error("no way to isolate RUN works in this container ({})", tried.join("; "))]
    NothingWorks {
        /// One line for each mechanism: its name and why it does not work.
        tried: Vec<String>,
        /// What to change in the pod.
        advice: String,
    },
    /// The mechanism asked for does not work here.
    #[error("--isolation={requested} does not work here: {reason}")]
    Unavailable {
        /// What was asked for.
        requested: Isolation,
        /// Why not, and what to change.
        reason: String,
    },
    /// own-root would rewrite the root directory of something that is not a container.
    #[error(
        "crabwright should only be run inside of a container, run with the --force flag if you are sure you want to \
         continue ({evidence}; --isolation=own-root replaces the files of / while a RUN runs)"
    )]
    NotInContainer {
        /// What was looked at.
        evidence: String,
    },
    /// own-root would take the files of an operating system out of the way, which the container has for something else.
    #[error(
        "own-root isolation would take the files of this image ({system}) out of the way while a RUN runs, for all that runs in \
         this container: use the executor's own image, allow user namespaces in the pod, or let it do so with --force \
         --pre-cleanup"
    )]
    OwnSystem {
        /// What it is.
        system: String,
    },
    /// The program was asked to stop (SIGTERM, SIGINT), or the command was, while it ran; it has been ended.
    #[error("interrupted while a command was running")]
    Interrupted,
    /// The program to run does not exist in the image, or cannot be executed. A shell would return 127 or 126.
    #[error("cannot run {program}: {reason}")]
    Program {
        /// As it was given.
        program: String,
        /// Where it was looked for and what was found.
        reason: String,
        /// 127: not found; 126: found but not executable.
        exit_code: i32,
    },
    /// The working directory is missing or no directory.
    #[error("failed to enter the working directory {path}")]
    WorkingDirectory {
        /// As it was given.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The ids to run as are not available.
    #[error("cannot run as user {uid} and group {gid} with {isolation} isolation: {reason}")]
    Ids {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Which mechanism.
        isolation: &'static str,
        /// Why not, and what to change.
        reason: String,
    },
    /// A step of the set-up in the child failed.
    #[error("failed to set up the sandbox: {step}")]
    Setup {
        /// The verb and its object.
        step: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The child that sets the sandbox up ended without saying how the command did.
    #[error("the sandbox process ended without a result ({status}); was it killed, perhaps for want of memory?")]
    InitDied {
        /// How it ended.
        status: String,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// Two programs want to swap the same root directory.
    #[error(
        "another build in this container has / for itself, or needs the files in it to stay where they are: only one at a time \
         may run commands with own-root isolation; wait for it to end, or build in a container of its own"
    )]
    Busy,
    /// Another program has the root directory swapped, or may do so at any time.
    #[error(
        "another build in this container runs commands with own-root isolation, and {path} is among the files that are out of \
         sight meanwhile: wait for it to end, or have that path on a volume or below /kaniko"
    )]
    OutOfSight {
        /// What this build needs.
        path: PathBuf,
    },
    /// A command moved what own-root relies on.
    #[error(
        "the command moved, replaced or removed {path}, which holds a mount of the pod or files of this build, so that the image's \
         files cannot be told from those of the pod: leave that path alone, or mount elsewhere"
    )]
    Displaced {
        /// The first such path.
        path: PathBuf,
    },
    /// own-root works by renaming, which does not cross mounts.
    #[error(
        "the work directory {work_dir} is on the mount {mount_point}, and so is /kaniko, or it cannot be used; but own-root \
         isolation needs a directory on the same mount as / for the files of stages: give one of the container's own file \
         system with --work-dir"
    )]
    OtherMount {
        /// The work directory.
        work_dir: PathBuf,
        /// The mount it is on.
        mount_point: PathBuf,
    },
    /// A mount that own-root cannot put in place.
    #[error("cannot mount over {target} with own-root isolation: {reason}")]
    MountPoint {
        /// Where.
        target: PathBuf,
        /// What is in the way.
        reason: &'static str,
    },
    /// The command ran, but what it left behind could not be moved back; the stage's files are incomplete.
    #[error("failed to take the image's files out of the root directory after the command")]
    Leave {
        /// What failed.
        #[source]
        source: Box<SandboxError>,
    },
    /// A journal that says nothing sensible.
    #[error(
        "cannot understand the journal {path} of an earlier run, whose command had the files of / out of the way: {reason}; what is left of \
         the container's own files is in /.crabwright/stash: move it back, remove /.crabwright and begin again, or use a new container"
    )]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Hint for SandboxError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NothingWorks { advice, .. } => Some(advice.clone()),
            Self::File(error) => error.hint(),
            Self::WorkingDirectory { source, .. } | Self::Setup { source, .. } => source.hint(),
            Self::Leave { source } => source.hint(),
            // What can be done is in the message.
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

    /// The exit code a shell would give for this failure, where it has one.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Program { exit_code, .. } => Some(*exit_code),
            _ => None,
        }
    }
}
