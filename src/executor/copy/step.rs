//! Executes a `COPY` or `ADD`.

use std::collections::BTreeMap;

use crate::executor::users::resolve_owner;
use crate::plan;
use crate::rootfs::Tree;

use super::destination::Destination;
use super::error::CopyError;
use super::mode::ModeChange;
use super::place::Placement;
use super::selection::{Pivoted, Selection};
use super::source::{CopySource, Finder, FoundSource};

/// A remote source that has been fetched.
#[derive(Debug)]
pub struct FetchedSource {
    /// The directory of its files, which belong to root in the image.
    pub tree: Tree,
    /// The file's name in it; empty for all files.
    pub name: String,
    /// Its name in messages.
    pub describe: String,
    /// Whether an archive is unpacked.
    pub unpack: bool,
}

/// Executes the step. `fetched` has its remote sources by their position among all sources. All sources are found
/// before anything changes. A pattern without matches copies nothing.
///
/// # Errors
/// A source is missing or ignored, a flag is malformed, a file of the wrong kind is in the way, an archive is damaged,
/// or a file cannot be read or written. Then the destination may be half-written.
pub fn copy(
    step: &plan::Copy,
    source: &CopySource<'_>,
    fetched: &BTreeMap<usize, FetchedSource>,
    destination: &mut Tree,
) -> Result<(), CopyError> {
    let mode = step.chmod.as_deref().filter(|chmod| !chmod.is_empty()).map(ModeChange::parse).transpose()?;
    let owner = match step.chown.as_deref().filter(|chown| !chown.is_empty()) {
        Some(chown) => Some(resolve_owner(destination, chown)?),
        None => None,
    };
    let remotes: BTreeMap<usize, CopySource<'_>> =
        fetched.iter().map(|(position, remote)| (*position, remote.source())).collect();
    let local = Finder::new(source);
    let mut sources = Vec::new();
    for (position, written) in step.sources.iter().enumerate() {
        sources.push(match (fetched.get(&position), remotes.get(&position)) {
            (Some(remote), Some(source)) => {
                let finder = Finder::new(source);
                let found = vec![finder.find_exactly(&remote.name)?];
                Located { finder, found, selection: Selection::new(step)?, unpack: remote.unpack }
            }
            _ => {
                let (found, selection) = find(step, &local, written)?;
                Located { finder: Finder::new(source), found, selection, unpack: step.unpack }
            }
        });
    }
    let target = Destination::new(&step.destination, &step.working_directory);
    for Located { finder, found, selection, unpack } in &sources {
        for item in found {
            // Hard links are preserved within a source, not between sources.
            Placement::new(finder, destination, owner, mode.as_ref(), selection).place(item, &target, *unpack)?;
        }
    }
    let everything = Selection::default();
    for text in &step.texts {
        Placement::new(&local, destination, owner, mode.as_ref(), &everything).place_text(text, &target)?;
    }
    Ok(())
}

/// The files of a source, to be copied.
struct Located<'a> {
    finder: Finder<'a>,
    found: Vec<FoundSource>,
    selection: Selection,
    unpack: bool,
}

impl FetchedSource {
    fn source(&self) -> CopySource<'_> {
        CopySource { tree: &self.tree, ignore: None, reset_owner: true, describe: &self.describe }
    }
}

/// Returns the files that a source names, and the selection below them.
pub(super) fn find(
    step: &plan::Copy,
    finder: &Finder<'_>,
    written: &str,
) -> Result<(Vec<FoundSource>, Selection), CopyError> {
    let selection = Selection::new(step)?;
    if !step.parents {
        return Ok((finder.find(written)?, selection));
    }
    let pivoted = Pivoted::new(written);
    let found = finder.find(pivoted.base)?;
    if pivoted.is_required() {
        for base in &found {
            finder.require(base.requested.join(&pivoted.pattern))?;
        }
    }
    Ok((found, selection.only(&pivoted.pattern, written)?))
}
