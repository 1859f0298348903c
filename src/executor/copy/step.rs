//! The instruction and its execution.

use crate::context::IgnoreMatcher;
use crate::executor::users::resolve_owner;
use crate::plan;
use crate::rootfs::Tree;

use super::destination::Destination;
use super::error::CopyError;
use super::mode::ModeChange;
use super::place::Placement;
use super::source::Finder;

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
    let mut found = Vec::new();
    for written in &step.sources {
        found.extend(finder.find(written)?);
    }
    let target = Destination::new(&step.destination, &step.working_directory);
    for item in found {
        // Hard links are kept within a source, not between sources.
        Placement::new(&finder, destination, owner, mode.as_ref()).place(&item, &target, step.add)?;
    }
    for text in &step.texts {
        Placement::new(&finder, destination, owner, mode.as_ref()).place_text(text, &target)?;
    }
    Ok(())
}
