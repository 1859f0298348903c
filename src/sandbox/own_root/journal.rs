//! What a swap needs to be undone: complete before anything is moved, removed when all is back.
//!
//! The file is written under another name and renamed when it is complete, so that there is no such thing as half a journal:
//! where there is none, nothing was moved. Its first line holds the phase in one byte, which is overwritten in place: that
//! takes no space, and a disk that the command filled is no hindrance to putting back. The second line has what is known
//! before the first move, the ones after it the mounts of the command, each appended before it is put in place.
//!
//! The file survives the death of this program, which is what it is for; the death of the machine takes the container along.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use super::calls;
use super::directory::Directory;
use super::metadata::DirectoryMetadata;
use super::placement::Placement;
use crate::fs::FileKind;
use crate::sandbox::SandboxError;

const NAME: &str = "own-root.journal";
/// What it is called until it is complete.
const INCOMPLETE: &str = "own-root.journal.new";
/// What it is called in the last phase if that could not be written down.
const RESTORING: &str = "own-root.journal.restoring";

/// The first line; `PHASE` is the place of the one byte in it that changes.
const HEAD: &[u8] = b"crabwright own-root journal 2, phase S\n";
const PHASE: usize = HEAD.len() - 2;

/// Bytes of a journal that are read: the files whose content is in it are few and small.
const MOST: usize = 64 << 20;

/// How far a swap has come. What is to be undone follows from it and from where things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The container's entries move into the stash; the stage's are where they were.
    Stashing,
    /// The stash is complete, the stage's entries move in: everything movable in a merged directory is the stage's.
    Placed,
    /// The same, and every mount of the command is back where it came from.
    Unmounted,
    /// The stage's entries are all back, the container's move back.
    Restoring,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Stashing, Self::Placed, Self::Unmounted, Self::Restoring];

    fn byte(self) -> u8 {
        match self {
            Self::Stashing => b'S',
            Self::Placed => b'P',
            Self::Unmounted => b'U',
            Self::Restoring => b'R',
        }
    }
}

/// What a dead program left.
#[derive(Debug)]
pub(super) struct Left {
    /// Open for what the undo has to say.
    pub(super) journal: Journal,
    pub(super) start: Start,
    pub(super) phase: Phase,
    /// The mounts that were in place, or half so, in their order.
    pub(super) placements: Vec<Placement>,
}

/// What is known before the first move.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Start {
    /// The paths that stay, absolute.
    pub(super) stay: Vec<PathBuf>,
    /// The merged directories of the container, by relative path.
    pub(super) directories: BTreeMap<PathBuf, Merged>,
    /// What the files that stay pinned (`/etc/hosts` and its like), by relative path.
    pub(super) contents: BTreeMap<PathBuf, Bytes>,
}

/// A merged directory as it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Merged {
    pub(super) inode: u64,
    pub(super) metadata: DirectoryMetadata,
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    state: Directory,
    file: OwnedFd,
    length: u64,
}

impl Journal {
    /// Writes one into the directory `state`.
    pub(super) fn create(state: Directory, start: &Start) -> Result<Self, SandboxError> {
        let incomplete = OsStr::new(INCOMPLETE);
        let mut bytes = HEAD.to_vec();
        append_line(&mut bytes, start).map_err(|error| state.error("write", incomplete)(error))?;
        let file = calls::create(&state, incomplete).map_err(state.error("create", incomplete))?;
        calls::append(&file, &bytes, 0).map_err(state.error("write", incomplete))?;
        calls::rename(&state, incomplete, &state, OsStr::new(NAME)).map_err(state.error("rename", incomplete))?;
        Ok(Self { state, file, length: length(&bytes) })
    }

    /// Opens the one a dead program left, if any.
    pub(super) fn left_in(state: Directory) -> Result<Option<Left>, SandboxError> {
        for name in [NAME, RESTORING] {
            let name = OsStr::new(name);
            let file = match calls::open_to_write(&state, name) {
                Ok(file) => file,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(state.error("open", name)(errno)),
            };
            return Self::read(state, name, file).map(Some);
        }
        Ok(None)
    }

    fn read(state: Directory, name: &OsStr, file: OwnedFd) -> Result<Left, SandboxError> {
        let path = state.path().join(name);
        let wrong = |reason: &str| SandboxError::Journal { path: path.clone(), reason: reason.to_owned() };
        let status = calls::status_of(&file).map_err(state.error("look at", name))?;
        if status.kind != FileKind::File || status.uid != rustix::process::geteuid().as_raw() {
            return Err(wrong("it is not a file of the user that this program runs as"));
        }
        let bytes = calls::read(&file, MOST).map_err(state.error("read", name))?;
        let (head, rest) = bytes.split_at_checked(HEAD.len()).ok_or_else(|| wrong("it ends in its first line"))?;
        let is_head = head.iter().zip(HEAD).enumerate().all(|(at, (is, wanted))| at == PHASE || is == wanted);
        let phase = Phase::ALL.into_iter().find(|phase| head.get(PHASE) == Some(&phase.byte()));
        let phase = phase.filter(|_| is_head).ok_or_else(|| wrong("its first line is of another program"))?;
        // A line without its end was being written, and what it announces has not begun.
        let mut lines = rest.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let start = lines.next().ok_or_else(|| wrong("it ends in its second line"))?;
        let start = serde_json::from_slice(start).map_err(|error| wrong(&error.to_string()))?;
        let placements: Result<Vec<Placement>, _> = lines.map(serde_json::from_slice).collect();
        let mut placements = placements.map_err(|error| wrong(&error.to_string()))?;
        let phase = if name == RESTORING { Phase::Restoring } else { phase };
        if phase != Phase::Placed {
            placements.clear();
        }
        Ok(Left { journal: Self { state, file, length: length(&bytes) }, start, phase, placements })
    }

    /// Notes that a phase begins, before anything of it is done.
    pub(super) fn begin(&mut self, phase: Phase) -> Result<(), SandboxError> {
        self.write_phase(phase).map_err(self.state.error("write", OsStr::new(NAME)))
    }

    /// Notes that a mount is about to be put in place.
    pub(super) fn mount(&mut self, placement: &Placement) -> Result<(), SandboxError> {
        let name = OsStr::new(NAME);
        let mut bytes = Vec::new();
        append_line(&mut bytes, placement).map_err(|error| self.state.error("write", name)(error))?;
        if let Err(errno) = calls::append(&self.file, &bytes, self.length) {
            // Half a line says nothing, unless something follows it.
            calls::set_length(&self.file, self.length).map_err(self.state.error("shorten", name))?;
            return Err(self.state.error("write", name)(errno));
        }
        self.length += length(&bytes);
        Ok(())
    }

    /// Notes that all mounts have been taken away. Taking them away a second time changes nothing, so it does not matter much.
    pub(super) fn unmounted(&mut self) {
        if let Err(errno) = self.write_phase(Phase::Unmounted) {
            tracing::debug!("cannot write to {}: {errno}", self.state.path().display());
        }
    }

    /// Notes that everything of the stage's is out of the way, so that what is in the merged directories from now on is the
    /// container's. Where it cannot be written down, the name of the file says it; putting back goes on in any case.
    pub(super) fn restoring(&mut self) {
        let Err(errno) = self.write_phase(Phase::Restoring) else { return };
        let renamed = calls::rename(&self.state, OsStr::new(NAME), &self.state, OsStr::new(RESTORING));
        if let Err(second) = renamed.or_else(|second| if second == Errno::NOENT { Ok(()) } else { Err(second) }) {
            tracing::warn!(
                "cannot write to {} ({errno}), nor rename it ({second}): if this program is killed now, the root directory \
                 stays half restored",
                self.state.path().join(NAME).display()
            );
        }
    }

    /// Removes it: everything is back.
    pub(super) fn finish(&self) -> Result<(), SandboxError> {
        for name in [NAME, RESTORING] {
            match calls::unlink(&self.state, OsStr::new(name)) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.state.error("remove", OsStr::new(name))(errno)),
            }
        }
        Ok(())
    }

    fn write_phase(&self, phase: Phase) -> rustix::io::Result<()> {
        calls::overwrite(&self.file, &[phase.byte()], u64::try_from(PHASE).unwrap_or_default())
    }
}

/// Removes what is left of a journal that was never complete.
pub(super) fn remove_incomplete(state: &Directory) -> Result<(), SandboxError> {
    match calls::unlink(state, OsStr::new(INCOMPLETE)) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(state.error("remove", OsStr::new(INCOMPLETE))(errno)),
    }
}

fn append_line(bytes: &mut Vec<u8>, line: &impl Serialize) -> Result<(), Errno> {
    // The one thing that cannot be written is a path that is no text.
    serde_json::to_writer(&mut *bytes, line).map_err(|_| Errno::ILSEQ)?;
    bytes.push(b'\n');
    Ok(())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
