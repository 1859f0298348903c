//! Giving the container its files back: at the end of a command, and from the journal after anything else.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::calls;
use super::directory::Directory;
use super::frame::{Frame, MergedDirectory};
use super::journal::{Journal, Left, Phase, Start};
use super::metadata::DirectoryMetadata;
use super::pinned_paths::PinnedPaths;
use super::placed_mounts::PlacedMounts;
use super::relocate::relocate;
use super::state::{self, State};
use crate::sandbox::{SandboxError, mountinfo};

/// Undoes what the journal says: what a dead run of this program left, or one that could not do it itself. Says whether there
/// was anything.
///
/// The stage it was building is of no use to anyone: what is left of it in place is removed.
pub(super) fn recover(base: &Path) -> Result<bool, SandboxError> {
    let directory = Directory::open(base)?;
    let Some(state) = state::find(&directory)? else { return Ok(false) };
    let Some(left) = Journal::left_in(state)? else {
        state::remove(&directory, None)?;
        return Ok(false);
    };
    let Left { mut journal, start, phase, placements } = left;
    let state = State::make(&directory)?;
    let mount_points = || Ok(mountinfo::read()?.into_iter().map(|mount| mount.mount_point).collect::<Vec<PathBuf>>());
    let stash = state.stash.again()?;
    let (frame, pinned) = Frame::reopen(directory, Some(stash), &start, &mount_points, &state.away)?;
    if phase == Phase::Placed {
        PlacedMounts::left_by_dead_run(base, state.directory.path(), placements)?.take_away(&mut journal)?;
    }
    if matches!(phase, Phase::Placed | Phase::Unmounted) {
        discard(&frame, &pinned)?;
    }
    restore(&frame, &pinned, &start, &state, &mut journal)?;
    Ok(true)
}

/// Removes the stage's entries, and what the command made beside them.
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

/// Moves the container's entries back and gives its directories their attributes again. What fails does not keep the rest from
/// being put back; the first error is returned, and the journal stays then.
pub(super) fn restore(
    frame: &Frame,
    pinned: &PinnedPaths,
    start: &Start,
    state: &State,
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
            results.push(was.metadata.give(&merged.container));
        }
    }
    results.into_iter().collect::<Result<(), _>>()?;
    state.clear()?;
    journal.finish()?;
    let Some(base) = frame.base() else { return Ok(()) };
    state::remove(&base.container, start.directories.get(Path::new("")).map(|was| &was.metadata))
}

/// Moves what waits in a directory of the stash back.
fn move_back(
    path: &Path,
    stash: &Directory,
    container: &Directory,
    pinned: &PinnedPaths,
    start: &Start,
) -> Result<(), SandboxError> {
    // It was no merged directory when it went to the stash; its own attributes are there.
    let attributes = (!start.directories.contains_key(path)).then(|| DirectoryMetadata::of(stash)).transpose()?;
    let mut first = Ok(());
    for name in stash.names()? {
        if !pinned.is_immovable(&path.join(&name)) {
            first = first.and(relocate(stash, &name, container, &name));
        }
    }
    first?;
    attributes.map_or(Ok(()), |attributes| attributes.give(container))
}

/// Gives a file its content again, in the space that it takes already.
fn set_back(directory: &Directory, name: &OsStr, content: &[u8]) -> Result<(), SandboxError> {
    let now = calls::open_file(directory, name)
        .and_then(|file| calls::read(&file, content.len().saturating_add(1)))
        .map_err(directory.error("read", name))?;
    if now == content {
        return Ok(());
    }
    tracing::debug!("the command changed {}; it is set back", directory.path().join(name).display());
    let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
    calls::open_to_write(directory, name)
        .and_then(|file| {
            calls::overwrite(&file, content, 0)?;
            calls::set_length(&file, length)
        })
        .map_err(directory.error("set back", name))
}
