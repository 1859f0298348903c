//! The instruction and its execution.

use std::collections::BTreeMap;

use crate::context::IgnoreMatcher;
use crate::executor::users::resolve_owner;
use crate::plan;
use crate::rootfs::Tree;

use super::destination::Destination;
use super::error::CopyError;
use super::mode::ModeChange;
use super::place::Placement;
use super::selection::{Pivoted, Selection};
use super::source::{Finder, Found};

/// Where the files come from.
#[derive(Debug, Clone, Copy)]
pub struct CopySource<'a> {
    /// The files.
    pub tree: &'a Tree,
    /// What of them the build does not see.
    pub ignore: Option<&'a IgnoreMatcher>,
    /// Whether it is a build context: its files are root's and have no extended attributes, whoever owns them here.
    pub reset_owner: bool,
    /// How messages call it: "the build context", "stage build".
    pub describe: &'a str,
}

/// A source that came over the network.
#[derive(Debug)]
pub struct Fetched {
    /// The directory it lies in; it belongs to root, whoever owns it here.
    pub tree: Tree,
    /// Its name there; empty for everything in the directory.
    pub name: String,
    /// How messages call it.
    pub describe: String,
    /// Whether an archive is unpacked.
    pub unpack: bool,
}

/// Does what the instruction says. `fetched` holds its remote sources, by their position among all. All sources are found before anything is changed; a pattern that matches nothing copies
/// nothing.
///
/// # Errors
/// A source is missing or ignored, a flag is malformed, something of the wrong kind is in the way, an archive is damaged, or
/// a file cannot be read or written. The destination is in between then.
pub fn copy(
    step: &plan::Copy,
    source: &CopySource<'_>,
    fetched: &BTreeMap<usize, Fetched>,
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
            // Hard links are kept within a source, not between sources.
            Placement::new(finder, destination, owner, mode.as_ref(), selection).place(item, &target, *unpack)?;
        }
    }
    let everything = Selection::default();
    for text in &step.texts {
        Placement::new(&local, destination, owner, mode.as_ref(), &everything).place_text(text, &target)?;
    }
    Ok(())
}

/// A source that was found, to be placed.
struct Located<'a> {
    finder: Finder<'a>,
    found: Vec<Found>,
    selection: Selection,
    unpack: bool,
}

impl Fetched {
    fn source(&self) -> CopySource<'_> {
        CopySource { tree: &self.tree, ignore: None, reset_owner: true, describe: &self.describe }
    }
}

/// What a source leads to, and what of it is copied.
pub(super) fn find(
    step: &plan::Copy,
    finder: &Finder<'_>,
    written: &str,
) -> Result<(Vec<Found>, Selection), CopyError> {
    let selection = Selection::new(step)?;
    if !step.parents {
        return Ok((finder.find(written)?, selection));
    }
    let pivoted = Pivoted::new(written);
    let found = finder.find(pivoted.base)?;
    if pivoted.is_required() {
        for base in &found {
            finder.require(base.asked.join(&pivoted.pattern))?;
        }
    }
    Ok((found, selection.only(&pivoted.pattern, written)?))
}
