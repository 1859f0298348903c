//! Records what is needed to undo a swap: complete before anything is moved, removed when everything is restored.
//!
//! The file is written under a different name and renamed when it is complete, so half a journal never exists: without
//! a journal, nothing was moved. Its first line has the phase in one byte, which is overwritten in place. That takes no
//! space, so a disk that the command filled does not prevent the undo. The second line has what is known before the
//! first move. Each following line is a mount of the command, appended before the mount is put in place.
//!
//! The file survives the death of this program, but not of the machine, which ends the container too.

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
/// Its name until it is complete.
const INCOMPLETE: &str = "own-root.journal.new";
/// Its name in the last phase, if the phase could not be written.
const RESTORING: &str = "own-root.journal.restoring";

/// The first line; `PHASE` is the offset of the byte that changes.
const HEAD: &[u8] = b"crabwright own-root journal 2, phase S\n";
const PHASE: usize = HEAD.len() - 2;

/// The most bytes of a journal that are read: the files whose content is in it are few and small.
const MAX_BYTES: usize = 64 << 20;

/// The phase of a swap. Together with the location of each file it determines what to undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The container's entries move into the stash; the stage's have not moved.
    Stashing,
    /// The stash is complete, the stage's entries move in: every movable entry in a merged directory is the stage's.
    Placed,
    /// The same, and every mount of the command has been moved back.
    Unmounted,
    /// The stage's entries have all moved out, the container's move back.
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

/// The journal of a dead program, and its contents.
#[derive(Debug)]
pub(super) struct LeftJournal {
    /// Open, to record the progress of the undo.
    pub(super) journal: Journal,
    pub(super) start: Start,
    pub(super) phase: Phase,
    /// The mounts that were in place or partly so, in order.
    pub(super) placements: Vec<Placement>,
}

/// The data that is known before the first move.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Start {
    /// The pinned paths, absolute.
    pub(super) stay: Vec<PathBuf>,
    /// The container's merged directories, by relative path.
    pub(super) directories: BTreeMap<PathBuf, Merged>,
    /// The content of pinned files such as `/etc/hosts`, by relative path.
    pub(super) contents: BTreeMap<PathBuf, Bytes>,
}

/// The state of a merged directory before the swap.
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
    /// Writes a journal into the directory `state`.
    pub(super) fn create(state: Directory, start: &Start) -> Result<Self, SandboxError> {
        let incomplete = OsStr::new(INCOMPLETE);
        let mut bytes = HEAD.to_vec();
        append_line(&mut bytes, start).map_err(|error| state.error("write", incomplete)(error))?;
        let file = calls::create(&state, incomplete).map_err(state.error("create", incomplete))?;
        calls::append(&file, &bytes, 0).map_err(state.error("write", incomplete))?;
        calls::rename(&state, incomplete, &state, OsStr::new(NAME)).map_err(state.error("rename", incomplete))?;
        Ok(Self { state, file, length: length(&bytes) })
    }

    /// Opens the journal that a dead program left, if there is one.
    pub(super) fn left_in(state: Directory) -> Result<Option<LeftJournal>, SandboxError> {
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

    fn read(state: Directory, name: &OsStr, file: OwnedFd) -> Result<LeftJournal, SandboxError> {
        let path = state.path().join(name);
        let wrong = |reason: &str| SandboxError::Journal { path: path.clone(), reason: reason.to_owned() };
        let status = calls::status_of(&file).map_err(state.error("look at", name))?;
        if status.kind != FileKind::File || status.uid != rustix::process::geteuid().as_raw() {
            return Err(wrong("it is not a file of the user that this program runs as"));
        }
        let bytes = calls::read(&file, MAX_BYTES).map_err(state.error("read", name))?;
        let (head, rest) = bytes.split_at_checked(HEAD.len()).ok_or_else(|| wrong("it ends in its first line"))?;
        let is_head = head.iter().zip(HEAD).enumerate().all(|(at, (is, wanted))| at == PHASE || is == wanted);
        let phase = Phase::ALL.into_iter().find(|phase| head.get(PHASE) == Some(&phase.byte()));
        let phase = phase.filter(|_| is_head).ok_or_else(|| wrong("its first line is of another program"))?;
        // An incomplete last line was being written when the program died, so its mount was not begun.
        let mut lines = rest.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let start = lines.next().ok_or_else(|| wrong("it ends in its second line"))?;
        let start = serde_json::from_slice(start).map_err(|error| wrong(&error.to_string()))?;
        let placements: Result<Vec<Placement>, _> = lines.map(serde_json::from_slice).collect();
        let mut placements = placements.map_err(|error| wrong(&error.to_string()))?;
        let phase = if name == RESTORING { Phase::Restoring } else { phase };
        if phase != Phase::Placed {
            placements.clear();
        }
        Ok(LeftJournal { journal: Self { state, file, length: length(&bytes) }, start, phase, placements })
    }

    /// Records that a phase begins, before its first change.
    pub(super) fn begin(&mut self, phase: Phase) -> Result<(), SandboxError> {
        self.write_phase(phase).map_err(self.state.error("write", OsStr::new(NAME)))
    }

    /// Records that a mount is about to be put in place.
    pub(super) fn mount(&mut self, placement: &Placement) -> Result<(), SandboxError> {
        let name = OsStr::new(NAME);
        let mut bytes = Vec::new();
        append_line(&mut bytes, placement).map_err(|error| self.state.error("write", name)(error))?;
        if let Err(errno) = calls::append(&self.file, &bytes, self.length) {
            // Half a line is harmless only as long as nothing follows it.
            calls::set_length(&self.file, self.length).map_err(self.state.error("shorten", name))?;
            return Err(self.state.error("write", name)(errno));
        }
        self.length += length(&bytes);
        Ok(())
    }

    /// Records that all mounts have been removed. Failure is harmless: removing them a second time changes nothing.
    pub(super) fn unmounted(&mut self) {
        if let Err(errno) = self.write_phase(Phase::Unmounted) {
            tracing::debug!("cannot write to {}: {errno}", self.state.path().display());
        }
    }

    /// Records that the stage's entries have all moved out, so that from now on the entries of merged directories are
    /// the container's. If it cannot be written, the file is renamed instead. The undo continues in any case.
    pub(super) fn restoring(&mut self) {
        let Err(errno) = self.write_phase(Phase::Restoring) else { return };
        let renamed = calls::rename(&self.state, OsStr::new(NAME), &self.state, OsStr::new(RESTORING));
        if let Err(second) = renamed.or_else(|second| if second == Errno::NOENT { Ok(()) } else { Err(second) }) {
            tracing::warn!(
                "{}: cannot be written ({errno}) or renamed ({second}); if this program is killed now, the root directory \
                 stays half restored",
                self.state.path().join(NAME).display()
            );
        }
    }

    /// Removes the journal: everything is restored.
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

/// Removes a journal that was never completed.
pub(super) fn remove_incomplete(state: &Directory) -> Result<(), SandboxError> {
    match calls::unlink(state, OsStr::new(INCOMPLETE)) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(state.error("remove", OsStr::new(INCOMPLETE))(errno)),
    }
}

fn append_line(bytes: &mut Vec<u8>, line: &impl Serialize) -> Result<(), Errno> {
    // The only value that cannot be written is a path that is not UTF-8.
    serde_json::to_writer(&mut *bytes, line).map_err(|_| Errno::ILSEQ)?;
    bytes.push(b'\n');
    Ok(())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
