//! What stands for the entries of a directory that the image has elsewhere.
//!
//! A mount point of the pod below `/lib` (a driver's firmware) makes that a directory, and one that cannot move. Where the image
//! has a link of that name, to `usr/lib`, its files would not be found below `/lib`: while a command runs, a link to each of them
//! stands there. What the command did to those names is done to the files before they are taken back.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::relocate::relocate;
use super::swap::{Place, is_real_directory, list};
use crate::sandbox::{SandboxError, in_root};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct StandIns {
    directories: Vec<Directory>,
}

/// The links in one directory.
#[derive(Debug)]
struct Directory {
    /// The directory, relative to the swapped one.
    merged: PathBuf,
    /// Where the image has its entries.
    leads_to: PathBuf,
    names: BTreeSet<OsString>,
}

impl StandIns {
    /// Finds out where the image has links and the container directories that stay; before anything of the image has moved.
    pub(super) fn find(place: &Place) -> Result<Self, SandboxError> {
        let mut directories = Vec::new();
        for merged in place.held.merged().filter(|merged| !is_real_directory(&place.root, merged)) {
            let resolved = match in_root::resolve(&place.root, merged) {
                Ok(resolved) if resolved.is_dir() => resolved,
                Ok(_) => continue,
                Err(error) => {
                    tracing::debug!("/{} of the image leads nowhere: {error}", merged.display());
                    continue;
                }
            };
            let Ok(leads_to) = resolved.strip_prefix(&place.root).map(Path::to_owned) else { continue };
            // What a mount hides is not there to be linked to.
            if leads_to != merged && !place.held.keeps(&leads_to) {
                let names = list(&resolved)?.into_iter().collect();
                directories.push(Directory { merged: merged.to_owned(), leads_to, names });
            }
        }
        Ok(Self { directories })
    }

    /// Makes the links, when the image's entries are in place.
    pub(super) fn put_up(&mut self, place: &Place) -> Result<(), SandboxError> {
        for Directory { merged, leads_to, names } in &mut self.directories {
            let mut made = BTreeSet::new();
            for name in std::mem::take(names) {
                let link = place.base.join(&*merged).join(&name);
                match symlink(place.base.join(&*leads_to).join(&name), &link) {
                    Ok(()) => {
                        made.insert(name);
                    }
                    // That stays, and hides what the image has.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(SandboxError::io("create the link", link)(error)),
                }
            }
            *names = made;
        }
        Ok(())
    }

    /// Takes the links away, and does to the files they stood for what was done to the links: some were removed, renamed or
    /// replaced, and there may be new entries.
    pub(super) fn take_down(&mut self, place: &Place) -> Result<(), SandboxError> {
        for directory in std::mem::take(&mut self.directories) {
            directory.take_down(place)?;
        }
        Ok(())
    }
}

impl Directory {
    fn take_down(&self, place: &Place) -> Result<(), SandboxError> {
        let (here, there) = (place.base.join(&self.merged), place.base.join(&self.leads_to));
        if !is_real_directory(&place.base, &self.merged) || !is_real_directory(&place.base, &self.leads_to) {
            return Ok(());
        }
        let is_held = |name: &OsStr| {
            place.held.contains(&self.merged.join(name)) || place.held.contains(&self.leads_to.join(name))
        };
        let mut gone = self.names.clone();
        let mut others = Vec::new();
        for name in list(&here)? {
            let link = here.join(&name);
            if self.names.contains(&name) && std::fs::read_link(&link).is_ok_and(|target| target == there.join(&name)) {
                std::fs::remove_file(&link).map_err(SandboxError::io("remove", link))?;
                gone.remove(&name);
            } else if !is_held(&name) {
                others.push(name);
            }
        }
        for name in others {
            let (new, to) = (here.join(&name), there.join(&name));
            let stood_for = std::fs::read_link(&new).ok().filter(|target| target.parent() == Some(&*there));
            match stood_for.as_deref().and_then(Path::file_name).filter(|old| gone.contains(*old)) {
                // A link that was renamed.
                Some(old) => {
                    std::fs::remove_file(&new).map_err(SandboxError::io("remove", new))?;
                    relocate(&there.join(old), &to)?;
                    gone.remove(old);
                }
                None => relocate(&new, &to)?,
            }
            gone.remove(&name);
        }
        for name in gone.iter().filter(|name| !is_held(name)) {
            remove(&there.join(name))?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), SandboxError> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(SandboxError::io("remove", path))
}
