//! What a swap needs to be undone: written before anything is moved, removed when all is back.
//!
//! One JSON value a line. The file survives the death of this program, which is what it is for; the death of the
//! machine takes the container along.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::metadata::DirectoryMetadata;
use super::placed_mounts::Placement;
use crate::sandbox::SandboxError;

const NAME: &str = "own-root.journal";

/// How far a swap has come. What is to be undone follows from it and from where things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// The container's entries move into the stash; the stage's are where they were.
    Stashing,
    /// The stash is complete, the stage's entries move in: everything movable in a merged directory is the stage's.
    Placed,
    /// The stage's entries are all back, the container's move back.
    Restoring,
}

#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Start(Start),
    Phase(Phase),
    /// This is about to be put in place.
    Mount(Placement),
    /// Every mount is back where it came from.
    Unmounted,
}

/// What a dead program left.
#[derive(Debug)]
pub(super) struct Left {
    /// Open for what the undo has to say.
    pub(super) journal: Journal,
    pub(super) start: Start,
    /// `None`: nothing was moved.
    pub(super) phase: Option<Phase>,
    /// The mounts that were in place, or half so, in their order.
    pub(super) placements: Vec<Placement>,
}

/// What is known before the first move.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Start {
    /// The stage's root directory.
    pub(super) root: PathBuf,
    /// The paths that stay, absolute.
    pub(super) stay: Vec<PathBuf>,
    /// The container's attributes of each merged directory, by relative path.
    pub(super) directories: BTreeMap<PathBuf, DirectoryMetadata>,
    /// The image's attributes of those it has, as they were before its entries moved out.
    pub(super) images: BTreeMap<PathBuf, DirectoryMetadata>,
    /// What the files that stay held (`/etc/hosts` and its like), by relative path.
    pub(super) contents: BTreeMap<PathBuf, Vec<u8>>,
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Starts one in the work directory.
    pub(super) fn create(work_dir: &Path, start: &Start) -> Result<Self, SandboxError> {
        let path = work_dir.join(NAME);
        let file = File::create_new(&path).map_err(SandboxError::io("create", path.as_path()))?;
        let mut journal = Self { path, file };
        journal.append(&Line::Start(start.clone()))?;
        Ok(journal)
    }

    /// Opens the one a dead program left, if any.
    pub(super) fn left_in(work_dir: &Path) -> Result<Option<Left>, SandboxError> {
        let path = work_dir.join(NAME);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SandboxError::io("read", path)(error)),
        };
        // A line without its end was being written, and what it announces has not begun.
        let lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let (mut start, mut phase, mut placements) = (None, None, Vec::new());
        for line in lines {
            match serde_json::from_slice(line) {
                Ok(Line::Start(found)) => start = Some(found),
                Ok(Line::Phase(found)) => phase = Some(found),
                Ok(Line::Mount(found)) => placements.push(found),
                Ok(Line::Unmounted) => placements.clear(),
                Err(error) => return Err(SandboxError::Journal { path, reason: error.to_string() }),
            }
        }
        let Some(start) = start else {
            std::fs::remove_file(&path).map_err(SandboxError::io("remove", path))?;
            return Ok(None);
        };
        let file = File::options().append(true).open(&path).map_err(SandboxError::io("open", path.as_path()))?;
        Ok(Some(Left { journal: Self { path, file }, start, phase, placements }))
    }

    /// Notes that a phase begins.
    pub(super) fn begin(&mut self, phase: Phase) -> Result<(), SandboxError> {
        self.append(&Line::Phase(phase))
    }

    /// Notes that a mount is about to be put in place.
    pub(super) fn mount(&mut self, placement: &Placement) -> Result<(), SandboxError> {
        self.append(&Line::Mount(placement.clone()))
    }

    /// Notes that all mounts have been taken away.
    pub(super) fn unmounted(&mut self) -> Result<(), SandboxError> {
        self.append(&Line::Unmounted)
    }

    /// Removes it: everything is back.
    pub(super) fn finish(&self) -> Result<(), SandboxError> {
        std::fs::remove_file(&self.path).map_err(SandboxError::io("remove", self.path.as_path()))
    }

    fn append(&mut self, line: &Line) -> Result<(), SandboxError> {
        let write = |file: &mut File| -> io::Result<()> {
            let mut bytes = serde_json::to_vec(line)?;
            bytes.push(b'\n');
            file.write_all(&bytes)
        };
        write(&mut self.file).map_err(SandboxError::io("write", self.path.as_path()))
    }
}
