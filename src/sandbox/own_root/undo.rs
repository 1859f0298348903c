//! Restores the container's files: at the end of a command, and from the journal in every other case.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::calls;
use super::directory::Directory;
use super::frame::{Frame, MergedDirectory};
use super::journal::{Journal, LeftJournal, Phase, Start};
use super::metadata::DirectoryMetadata;
use super::pinned_paths::PinnedPaths;
use super::placed_mounts::PlacedMounts;
use super::relocate::relocate;
use super::state::{self, StateDirectories};
use crate::sandbox::{SandboxError, mountinfo};

/// Undoes the swap that the journal describes, of a dead run of this program or one that failed to undo it itself.
/// Reports whether there was one.
///
/// The stage of that run is useless, so its remaining entries are removed.
pub(super) fn recover(base: &Path) -> Result<bool, SandboxError> {
    let directory = Directory::open(base)?;
    let Some(state) = state::find(&directory)? else { return Ok(false) };
    let Some(left) = Journal::left_in(state)? else {
        state::remove(&directory, None)?;
        return Ok(false);
    };
    let LeftJournal { mut journal, start, phase, placements } = left;
    let state = StateDirectories::make(&directory)?;
    let mount_points = || Ok(mountinfo::read()?.into_iter().map(|mount| mount.mount_point).collect::<Vec<PathBuf>>());
    let stash = state.stash.reopen()?;
    let (frame, pinned) = Frame::reopen(directory, Some(stash), &start, &mount_points, &state.away)?;
    if phase == Phase::Placed {
        PlacedMounts::left_by_dead_run(base, state.directory.path(), placements)?.remove(&mut journal)?;
    }
    if matches!(phase, Phase::Placed | Phase::Unmounted) {
        discard(&frame, &pinned)?;
    }
    restore(&frame, &pinned, &start, &state, &mut journal)?;
    Ok(true)
}

/// Removes the stage's entries, and those that the command created.
fn discard(frame: &Frame, pinned: &PinnedPaths) -> Result<(), SandboxError> {
    for (path, MergedDirectory { container, .. }) in frame.merged() {
        for name in container.names()? {
            if !pinned.is_immovable(&path.join(&name)) {
                calls::remove_tree(container, &name).map_err(container.error("remove", &name))?;
            }
        }
    }
    Ok(())
}

/// Moves the container's entries back and restores the attributes of its directories. A failure does not stop the rest;
/// the first error is returned, and the journal then stays.
pub(super) fn restore(
    frame: &Frame,
    pinned: &PinnedPaths,
    start: &Start,
    state: &StateDirectories,
    journal: &mut Journal,
) -> Result<(), SandboxError> {
    journal.restoring();
    let mut results = Vec::new();
    for (path, MergedDirectory { container, stash, .. }) in frame.merged() {
        if let Some(stash) = stash {
            results.push(move_back(path, stash, container, pinned, start));
        }
    }
    for (path, content) in &start.contents {
        if let Some((above, name)) = frame.above(path) {
            results.push(set_back(&above.container, &name, &content.0));
        }
    }
    for (path, was) in &start.directories {
        if let Some(merged) = frame.get(path) {
            results.push(was.metadata.apply_to(&merged.container));
        }
    }
    results.into_iter().collect::<Result<(), _>>()?;
    state.clear()?;
    journal.finish()?;
    let Some(base) = frame.base() else { return Ok(()) };
    state::remove(&base.container, start.directories.get(Path::new("")).map(|was| &was.metadata))
}

/// Moves the entries of a directory of the stash back.
fn move_back(
    path: &Path,
    stash: &Directory,
    container: &Directory,
    pinned: &PinnedPaths,
    start: &Start,
) -> Result<(), SandboxError> {
    // It was not a merged directory when it was stashed, so the stash has its attributes.
    let attributes = (!start.directories.contains_key(path)).then(|| DirectoryMetadata::of(stash)).transpose()?;
    let mut first = Ok(());
    for name in stash.names()? {
        if !pinned.is_immovable(&path.join(&name)) {
            first = first.and(relocate(stash, &name, container, &name));
        }
    }
    first?;
    attributes.map_or(Ok(()), |attributes| attributes.apply_to(container))
}

/// Restores a file's content, in the space that it already uses.
fn set_back(directory: &Directory, name: &OsStr, content: &[u8]) -> Result<(), SandboxError> {
    let now = calls::open_file(directory, name)
        .and_then(|file| calls::read(&file, content.len().saturating_add(1)))
        .map_err(directory.error("read", name))?;
    if now == content {
        return Ok(());
    }
    tracing::debug!("the command changed {}; its content is restored", directory.path().join(name).display());
    let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
    calls::open_to_write(directory, name)
        .and_then(|file| {
            calls::overwrite(&file, content, 0)?;
            calls::set_length(&file, length)
        })
        .map_err(directory.error("restore", name))
}
