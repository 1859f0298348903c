//! Unpacks whiteouts, which remove files of lower layers.
//!
//! A whiteout removes one path, an opaque whiteout everything in its directory. Neither removes files of its own layer,
//! so a layer may hide a directory and make it again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::fs;
use crate::rootfs::error::MemberError;
use crate::rootfs::index::Entry;

use super::{Extraction, absent_is_fine, io};

/// The prefix of AUFS's internal files; the one for opaque directories became part of the format.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// Hides everything that lower layers have in its directory.
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";

impl Extraction<'_> {
    pub(super) fn whiteout(&mut self, above: &Path, name: &OsStr, hidden: &[u8]) -> Result<(), MemberError> {
        let opaque = name.as_bytes() == WHITEOUT_OPAQUE;
        if !opaque && name.as_bytes().starts_with(WHITEOUT_META) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(MemberError::Whiteout);
        }
        let Some(parent) = self.parent(above, false)? else { return Ok(()) };
        if opaque {
            return self.hide(&parent.path, false);
        }
        let path = parent.path.join(OsStr::from_bytes(hidden));
        if self.tree.index.get(&path).is_some() { self.hide(&path, true) } else { Ok(()) }
    }

    /// Removes everything of lower layers below `path`, and `path` with `itself`.
    fn hide(&mut self, path: &Path, itself: bool) -> Result<(), MemberError> {
        let current = self.tree.layers;
        let is_current = |entry: &Entry| entry.layer() == current;
        let index = &self.tree.index;
        let own = index.get(path).filter(|_| itself);
        if itself && !own.is_some_and(is_current) && !index.below(path).any(|(_, entry)| is_current(entry)) {
            self.summary.removed += 1;
            return self.unlink(path, true).map(drop);
        }
        // Deepest first, so that a directory is checked when everything removable below it is removed.
        let below = index.below(path).map(|(path, entry)| (path.to_owned(), entry));
        let hidden: Vec<PathBuf> = own
            .map(|entry| (path.to_owned(), entry))
            .into_iter()
            .chain(below)
            .filter(|(_, entry)| !is_current(entry))
            .map(|(path, _)| path)
            .collect();
        for path in hidden.iter().rev() {
            if self.unlink(path, false)? {
                self.summary.removed += 1;
            }
        }
        Ok(())
    }

    /// Removes a path; a directory only if it is empty, or with `tree`. Returns whether it was removed.
    fn unlink(&mut self, path: &Path, tree: bool) -> Result<bool, MemberError> {
        let (directory, name) = self.tree.root().parent(path).map_err(io("open directory"))?;
        let is_directory = self.tree.index.get(path).is_some_and(|entry| entry.is_directory());
        // Entries of a metadata-only tree's directory may not be on disk.
        if is_directory && !tree && self.tree.index.below(path).next().is_some() {
            return Ok(false);
        }
        let removed = match (is_directory, tree) {
            (_, true) => fs::remove_at(&directory, &name),
            (true, false) => rustix::fs::unlinkat(&directory, &name, AtFlags::REMOVEDIR),
            (false, false) => rustix::fs::unlinkat(&directory, &name, AtFlags::empty()),
        };
        match removed {
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(false),
            answer => absent_is_fine(answer).map_err(io("remove"))?,
        }
        if let Some(above) = path.parent() {
            self.keep_time(above);
        }
        self.forget(path);
        Ok(true)
    }
}
