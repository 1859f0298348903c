//! Links that replace the entries of a directory that is a link in the image.
//!
//! A mount point of the pod below `/lib` (a driver's firmware) makes `/lib` a directory that cannot move. If `/lib` is
//! a link to `usr/lib` in the image, the image's files would be missing below `/lib`. So while a command runs, `/lib`
//! contains a link to each of them. The command's changes to the links are then applied to the files.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::calls;
use super::directory::Directory;
use super::frame::Frame;
use super::relocate::relocate;
use super::swap_target::SwapTarget;
use crate::fs::Root;
use crate::sandbox::SandboxError;

/// The links of all such directories.
#[derive(Debug, Default)]
pub(super) struct SymlinkShims {
    directories: Vec<SymlinkShim>,
}

/// The links in a directory.
#[derive(Debug)]
struct SymlinkShim {
    /// The directory, relative to the swapped one.
    merged: PathBuf,
    /// Where the image has the directory's entries.
    leads_to: PathBuf,
    names: BTreeSet<OsString>,
}

impl SymlinkShims {
    /// Finds the directories that stay but are links in the image. Called before any entry of the image has moved.
    pub(super) fn find(target: &SwapTarget, frame: &Frame) -> Result<Self, SandboxError> {
        let mut directories = Vec::new();
        let Some(stage) = frame.base().and_then(|base| base.stage.as_ref()) else { return Ok(Self::default()) };
        let root = Root::open(&target.root)?;
        for (merged, _) in frame.merged().filter(|(_, directory)| directory.stage.is_none()) {
            let leads_to = match root.resolve(merged, true) {
                Ok(leads_to) => leads_to,
                Err(error) => {
                    tracing::debug!("/{} of the image leads nowhere: {error}", merged.display());
                    continue;
                }
            };
            // Files that a mount hides cannot be linked to.
            if leads_to == merged || target.pinned.is_under_pinned(&leads_to) {
                continue;
            }
            if let Some(resolved) = stage.walk(&leads_to)? {
                let names = resolved.names()?.into_iter().collect();
                directories.push(SymlinkShim { merged: merged.to_owned(), leads_to, names });
            }
        }
        Ok(Self { directories })
    }

    /// Creates the links, after the image's entries are in place.
    pub(super) fn install(&mut self, target: &SwapTarget, frame: &Frame) -> Result<(), SandboxError> {
        for SymlinkShim { merged, leads_to, names } in &mut self.directories {
            let Some(shim_directory) = frame.get(merged).map(|directory| &directory.container) else { continue };
            let mut made = BTreeSet::new();
            for name in std::mem::take(names) {
                match calls::symlink(&target.base.join(&*leads_to).join(&name), shim_directory, &name) {
                    Ok(()) => {
                        made.insert(name);
                    }
                    // A pinned entry stays, and hides the image's.
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(shim_directory.error("create the link", &name)(errno)),
                }
            }
            *names = made;
        }
        Ok(())
    }

    /// Removes the links, and applies the command's changes to the files: links may have been removed, renamed or
    /// replaced, and entries added.
    pub(super) fn remove_and_reconcile(&mut self, target: &SwapTarget, frame: &Frame) -> Result<(), SandboxError> {
        for shim in std::mem::take(&mut self.directories) {
            let base = frame.base().map(|base| base.container.walk(&shim.leads_to)).transpose()?.flatten();
            if let (Some(shim_directory), Some(image_directory)) = (frame.get(&shim.merged), base) {
                shim.remove_and_reconcile(target, &shim_directory.container, &image_directory)?;
            }
        }
        Ok(())
    }
}

impl SymlinkShim {
    fn remove_and_reconcile(
        &self,
        target: &SwapTarget,
        shim_directory: &Directory,
        image_directory: &Directory,
    ) -> Result<(), SandboxError> {
        let leads_to = target.base.join(&self.leads_to);
        let is_immovable = |name: &OsStr| {
            target.pinned.is_immovable(&self.merged.join(name)) || target.pinned.is_immovable(&self.leads_to.join(name))
        };
        let mut removed = self.names.clone();
        let mut new_entries = Vec::new();
        for name in shim_directory.names()? {
            if self.names.contains(&name)
                && link_target(shim_directory, &name)?.is_some_and(|target| target == leads_to.join(&name))
            {
                calls::unlink(shim_directory, &name).map_err(shim_directory.error("remove", &name))?;
                removed.remove(&name);
            } else if !is_immovable(&name) {
                new_entries.push(name);
            }
        }
        for name in new_entries {
            let link = link_target(shim_directory, &name)?.filter(|target| target.parent() == Some(&*leads_to));
            match link.as_deref().and_then(Path::file_name).filter(|old| removed.contains(*old)) {
                // A renamed link.
                Some(old) => {
                    calls::unlink(shim_directory, &name).map_err(shim_directory.error("remove", &name))?;
                    relocate(image_directory, old, image_directory, &name)?;
                    removed.remove(old);
                }
                None => relocate(shim_directory, &name, image_directory, &name)?,
            }
            removed.remove(&name);
        }
        for name in removed.iter().filter(|name| !is_immovable(name)) {
            match calls::remove_tree(image_directory, name) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(image_directory.error("remove", name)(errno)),
            }
        }
        Ok(())
    }
}

/// Returns the target of the link `name`; `None` if it is not a link.
fn link_target(directory: &Directory, name: &OsStr) -> Result<Option<PathBuf>, SandboxError> {
    match calls::read_link(directory, name) {
        Ok(target) => Ok(Some(PathBuf::from(OsStr::from_bytes(target.as_bytes())))),
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(errno) => Err(directory.error("read the link", name)(errno)),
    }
}
