//! The instruction and its execution.

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

/// Does what the instruction says. All sources are found before anything is changed; a pattern that matches nothing copies
/// nothing.
///
/// # Errors
/// A source is missing or ignored, a flag is malformed, something of the wrong kind is in the way, an archive is damaged, or
/// a file cannot be read or written. The destination is in between then.
pub fn copy(step: &plan::Copy, source: &CopySource<'_>, destination: &mut Tree) -> Result<(), CopyError> {
    let mode = step.chmod.as_deref().filter(|chmod| !chmod.is_empty()).map(ModeChange::parse).transpose()?;
    let owner = match step.chown.as_deref().filter(|chown| !chown.is_empty()) {
        Some(chown) => Some(resolve_owner(destination, chown)?),
        None => None,
    };
    let finder = Finder::new(source);
    let mut sources = Vec::new();
    for written in &step.sources {
        sources.push(find(step, &finder, written)?);
    }
    let target = Destination::new(&step.destination, &step.working_directory);
    let everything = Selection::default();
    for (found, selection) in &sources {
        for item in found {
            // Hard links are kept within a source, not between sources.
            Placement::new(&finder, destination, owner, mode.as_ref(), selection).place(item, &target, step.unpack)?;
        }
    }
    for text in &step.texts {
        Placement::new(&finder, destination, owner, mode.as_ref(), &everything).place_text(text, &target)?;
    }
    Ok(())
}

/// What a source leads to, and what of it is copied.
fn find(step: &plan::Copy, finder: &Finder<'_>, written: &str) -> Result<(Vec<Found>, Selection), CopyError> {
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
