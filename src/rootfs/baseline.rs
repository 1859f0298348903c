//! Updates the baseline after a layer was written or files were moved, for the next comparison.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::diag::interrupt;
use crate::fs::{FileKind, Status, Timestamp, sys};

use super::change::{Change, ChangeKind};
use super::error::RootfsError;
use super::file::held_or_recorded;
use super::index::{ContentHash, Entry};
use super::tree::Tree;

impl Tree {
    /// Adds the changes of a written layer to the baseline. `hashes` are those of the regular files' content. `latest`
    /// is the latest file time in the layer: files on disk get at most this time, too, so that later steps see the same
    /// files as if the layer came from a cache.
    ///
    /// # Errors
    /// The status of a changed path cannot be read.
    pub fn absorb(
        &mut self,
        changes: &[Change],
        hashes: &HashMap<PathBuf, ContentHash>,
        latest: Option<Timestamp>,
    ) -> Result<(), RootfsError> {
        self.layers += 1;
        if let Some(latest) = latest {
            self.limit_times(changes, latest)?;
        }
        for Change { path, kind } in changes {
            interrupt::check()?;
            if *kind == ChangeKind::Removed {
                self.index.remove_below(path);
                self.index.remove(path);
                continue;
            }
            let entry = self.entry(path, hashes.get(path)).map_err(|errno| self.error("look at", path, errno))?;
            if !entry.is_directory() {
                self.index.remove_below(path);
            }
            self.index.insert(path.clone(), entry);
            self.check_metadata(0)?;
        }
        self.refresh_links()?;
        self.index.set_complete();
        Ok(())
    }

    /// Limits the times of changed files to `latest`. A file that has a name outside of the changes keeps its time,
    /// because that name is not part of the layer.
    fn limit_times(&self, changes: &[Change], latest: Timestamp) -> Result<(), RootfsError> {
        let mut names: HashMap<(u64, u64), u64> = HashMap::new();
        for Change { path, .. } in changes.iter().filter(|change| change.kind != ChangeKind::Removed) {
            interrupt::check()?;
            let failed = |errno| self.error("look at", path, errno);
            let (directory, name) = self.root().parent(path).map_err(failed)?;
            let status = Status::at(&directory, &name).map_err(failed)?;
            if status.modified <= latest {
                continue;
            }
            if status.kind != FileKind::Directory && status.link_count > 1 {
                let seen = names.entry((status.device, status.inode)).or_default();
                *seen += 1;
                if *seen < status.link_count {
                    continue;
                }
            }
            let set = sys::set_modified_at(&directory, &name, latest);
            held_or_recorded(set).map_err(|errno| self.error("set the time of", path, errno))?;
        }
        Ok(())
    }

    /// Updates names whose hard links changed although they are not changes themselves: a file was replaced by an equal
    /// one, or one name of several remains. Later comparisons depend on correct inodes.
    fn refresh_links(&mut self) -> Result<(), RootfsError> {
        let linked = self.index.iter().filter(|(_, entry)| entry.linked());
        let moved: Vec<(PathBuf, Option<Status>)> = linked
            .filter_map(|(path, entry)| {
                let status = self.root().parent(path).and_then(|(directory, name)| Status::at(directory, &name)).ok();
                (!status.is_some_and(|status| entry.is_stamped(&status))).then(|| (path.to_owned(), status))
            })
            .collect();
        for (path, status) in moved {
            if let (Some(entry), Some(status)) = (self.index.get_mut(&path), status) {
                entry.restamp(&status);
                // Only the comparison looked at the content, possibly at a part of the tree.
                entry.distrust();
            }
        }
        Ok(interrupt::check()?)
    }

    fn entry(&self, path: &Path, hash: Option<&ContentHash>) -> rustix::io::Result<Entry> {
        let (directory, name) = self.root().parent(path)?;
        let status = Status::at(&directory, &name)?;
        let attributes = self.attributes_at(directory.as_fd(), &name, &status)?;
        let (content, trusted) = match (status.kind, hash) {
            (FileKind::Symlink, _) => {
                (ContentHash::of(rustix::fs::readlinkat(&directory, &name, Vec::new())?.to_bytes()), true)
            }
            (_, Some(hash)) => (*hash, true),
            (FileKind::File, None) => (ContentHash::default(), self.is_placeholder(&status)),
            _ => (ContentHash::default(), true),
        };
        let mut entry = Entry::new(attributes, &status, content, self.layers);
        if !trusted {
            entry.distrust();
        }
        Ok(entry)
    }

    /// Reports whether an empty file on disk is a placeholder for a device.
    fn is_placeholder(&self, status: &Status) -> bool {
        self.plain_attributes(status).kind != status.kind
    }

    /// Updates the change time of a path whose inode the build itself renamed away and back, if the baseline has the
    /// change time `before` and the disk now has `after`. Otherwise something else changed the file, and the next
    /// comparison reads it.
    pub fn restamp(&mut self, path: &Path, before: Timestamp, after: Timestamp) {
        let status = self.root().parent(path).and_then(|(directory, name)| Status::at(directory, &name));
        if let (Ok(status), Some(entry)) = (status, self.index.get_mut(path))
            && entry.identity() == (status.device, status.inode)
            && entry.changed() == before
            && status.changed == after
        {
            entry.restamp(&status);
        }
    }
}
