//! What stands for the entries of a directory that the image has elsewhere.
//!
//! A mount point of the pod below `/lib` (a driver's firmware) makes that a directory, and one that cannot move. Where the image
//! has a link of that name, to `usr/lib`, its files would not be found below `/lib`: while a command runs, a link to each of them
//! stands there. What the command did to those names is done to the files before they are taken back.

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

/// All of them.
#[derive(Debug, Default)]
pub(super) struct SymlinkShims {
    directories: Vec<SymlinkShim>,
}

/// The links in one directory.
#[derive(Debug)]
struct SymlinkShim {
    /// The directory, relative to the swapped one.
    merged: PathBuf,
    /// Where the image has its entries.
    leads_to: PathBuf,
    names: BTreeSet<OsString>,
}

impl SymlinkShims {
    /// Finds out where the image has links and the container directories that stay; before anything of the image has moved.
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
            // What a mount hides is not there to be linked to.
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

    /// Makes the links, when the image's entries are in place.
    pub(super) fn install(&mut self, target: &SwapTarget, frame: &Frame) -> Result<(), SandboxError> {
        for SymlinkShim { merged, leads_to, names } in &mut self.directories {
            let Some(here) = frame.get(merged).map(|directory| &directory.container) else { continue };
            let mut made = BTreeSet::new();
            for name in std::mem::take(names) {
                match calls::symlink(&target.base.join(&*leads_to).join(&name), here, &name) {
                    Ok(()) => {
                        made.insert(name);
                    }
                    // That stays, and hides what the image has.
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(here.error("create the link", &name)(errno)),
                }
            }
            *names = made;
        }
        Ok(())
    }

    /// Takes the links away, and does to the files they stood for what was done to the links: some were removed, renamed or
    /// replaced, and there may be new entries.
    pub(super) fn remove_and_reconcile(&mut self, target: &SwapTarget, frame: &Frame) -> Result<(), SandboxError> {
        for shim in std::mem::take(&mut self.directories) {
            let base = frame.base().map(|base| base.container.walk(&shim.leads_to)).transpose()?.flatten();
            if let (Some(here), Some(there)) = (frame.get(&shim.merged), base) {
                shim.remove_and_reconcile(target, &here.container, &there)?;
            }
        }
        Ok(())
    }
}

impl SymlinkShim {
    fn remove_and_reconcile(
        &self,
        target: &SwapTarget,
        here: &Directory,
        there: &Directory,
    ) -> Result<(), SandboxError> {
        let leads_to = target.base.join(&self.leads_to);
        let is_held = |name: &OsStr| {
            target.pinned.is_immovable(&self.merged.join(name)) || target.pinned.is_immovable(&self.leads_to.join(name))
        };
        let mut gone = self.names.clone();
        let mut others = Vec::new();
        for name in here.names()? {
            if self.names.contains(&name)
                && link_target(here, &name)?.is_some_and(|target| target == leads_to.join(&name))
            {
                calls::unlink(here, &name).map_err(here.error("remove", &name))?;
                gone.remove(&name);
            } else if !is_held(&name) {
                others.push(name);
            }
        }
        for name in others {
            let stood_for = link_target(here, &name)?.filter(|target| target.parent() == Some(&*leads_to));
            match stood_for.as_deref().and_then(Path::file_name).filter(|old| gone.contains(*old)) {
                // A link that was renamed.
                Some(old) => {
                    calls::unlink(here, &name).map_err(here.error("remove", &name))?;
                    relocate(there, old, there, &name)?;
                    gone.remove(old);
                }
                None => relocate(here, &name, there, &name)?,
            }
            gone.remove(&name);
        }
        for name in gone.iter().filter(|name| !is_held(name)) {
            match calls::remove_tree(there, name) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(there.error("remove", name)(errno)),
            }
        }
        Ok(())
    }
}

/// Where the link `name` leads; `None` if it is none.
fn link_target(directory: &Directory, name: &OsStr) -> Result<Option<PathBuf>, SandboxError> {
    match calls::read_link(directory, name) {
        Ok(target) => Ok(Some(PathBuf::from(OsStr::from_bytes(target.as_bytes())))),
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(errno) => Err(directory.error("read the link", name)(errno)),
    }
}
