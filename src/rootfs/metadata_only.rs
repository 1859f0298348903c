//! Metadata-only trees: the regular files of layers are not written.
//!
//! A step that only adds files needs names and attributes, but not the content of other files. So the layers of its
//! base are read to their end, because any member may change a path, but for regular files only the entries of the
//! index are stored, including hashes of their content. Directories, links and special files are on disk as in any
//! tree, so that paths are followed by the same code. Every operation on a metadata-only tree results in the same layer
//! as on a full tree.
//!
//! An absent file can be replaced, and its path is in the way of a directory. It cannot be opened, linked to or removed
//! by a step: a stage that needs that starts from a full tree.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::diag::interrupt;
use crate::fs::Status;

use super::attributes::{Attributes, Node};
use super::budget::xattrs_size;
use super::error::{MemberError, RootfsError};
use super::extract::{Extraction, absent_is_fine, io};
use super::file::CHUNK;
use super::index::{ContentHash, ContentHasher, Entry};
use super::tree::{MetadataOnly, Tree};

impl Tree {
    /// Makes an empty metadata-only tree, as [`Tree::create`] makes a full one. The regular files `kept` will be
    /// written.
    ///
    /// # Errors
    /// The directory exists or cannot be made.
    pub fn create_metadata_only(path: impl Into<PathBuf>, kept: &'static [&'static str]) -> Result<Self, RootfsError> {
        let mut tree = Self::create(path)?;
        tree.metadata_only = Some(MetadataOnly { kept, absent: 0 });
        Ok(tree)
    }

    /// Reports whether `path`, following links, is a regular file that was omitted.
    ///
    /// # Errors
    /// Too many links.
    pub fn is_omitted(&self, path: &Path) -> Result<bool, RootfsError> {
        match self.find(path, true) {
            Ok(path) => Ok(self.absent(&path).is_some()),
            // A path below a file does not exist.
            Err(Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(self.error("resolve", path, errno)),
        }
    }

    /// Returns the entry of a file that was omitted and not replaced. `path` has no links.
    pub(super) fn absent(&self, path: &Path) -> Option<&Entry> {
        self.metadata_only.as_ref()?;
        let entry = self.index.get(path).filter(|entry| entry.is_absent())?;
        let looked = self.root().parent(path).and_then(|(directory, name)| Status::at(directory, &name));
        looked.is_err().then_some(entry)
    }

    /// Returns the node of an omitted file, as [`Tree::node`] does.
    pub(super) fn absent_node(&self, path: &Path) -> Option<Node> {
        self.absent(path).map(|entry| Node {
            attributes: entry.attributes(),
            size: entry.size(),
            link_target: None,
            identity: entry.identity(),
            link_count: 1,
        })
    }

    /// Fails as the kernel does if a file is in the way of `path`.
    pub(super) fn check_way(&self, path: &Path) -> rustix::io::Result<()> {
        match path.ancestors().skip(1).any(|above| self.absent(above).is_some()) {
            true => Err(Errno::NOTDIR),
            false => Ok(()),
        }
    }

    fn leaves_out(&self, path: &Path) -> bool {
        self.metadata_only
            .as_ref()
            .is_some_and(|metadata_only| !metadata_only.kept.iter().any(|kept| path == Path::new(kept)))
    }
}

impl Extraction<'_> {
    /// Reads a regular file of the layer that is not written. Returns `None`, without reading, if it must be written.
    pub(super) fn omit(
        &mut self,
        path: &Path,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        attributes: &Attributes,
        content: &mut impl Read,
    ) -> Result<Option<Entry>, MemberError> {
        if !self.tree.leaves_out(path) {
            return Ok(None);
        }
        self.clear_for_absent(path, directory, name)?;
        let (size, hash) =
            self.read(content).map_err(|source| MemberError::Io { verb: "read the content of file", source })?;
        self.summary.bytes += size;
        let layer = self.tree.layers;
        let Some(metadata_only) = &mut self.tree.metadata_only else { return Ok(None) };
        metadata_only.absent += 1;
        Ok(Some(Entry::absent(attributes.clone(), size, hash, metadata_only.absent, layer)))
    }

    /// Adds the name `path` to an omitted file.
    pub(super) fn link_absent(
        &mut self,
        entry: &Entry,
        path: &Path,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        attributes: Attributes,
    ) -> Result<(), MemberError> {
        self.clear_for_absent(path, directory, name)?;
        self.tree.index.insert(path.to_owned(), entry.with_attributes(attributes.clone(), self.tree.layers));
        // The other names are updated when the layer is complete.
        self.touched.insert(entry.identity());
        self.remembered += xattrs_size(&attributes.xattrs);
        if let Some(replaced) = self.absent_links.insert(entry.identity(), attributes) {
            self.remembered = self.remembered.saturating_sub(xattrs_size(&replaced.xattrs));
        }
        Ok(())
    }

    fn clear_for_absent(&mut self, path: &Path, directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), MemberError> {
        let is_present = |entry: &Entry| !entry.is_absent() && !entry.is_directory();
        let replaces = self.tree.index.get(path).is_some_and(is_present);
        self.clear_for_file(path, directory, name)?;
        if replaces {
            absent_is_fine(rustix::fs::unlinkat(directory, name, AtFlags::empty())).map_err(io("replace"))?;
        }
        Ok(())
    }

    /// Returns the size and hash of content that is not written.
    fn read(&mut self, content: &mut impl Read) -> io::Result<(u64, ContentHash)> {
        let buffer = &mut self.tree.buffer;
        buffer.resize(CHUNK, 0);
        let mut hasher = ContentHasher::new();
        let mut size = 0;
        loop {
            match content.read(buffer) {
                Ok(0) => return Ok((size, hasher.finish())),
                Ok(read) => {
                    hasher.update(&buffer[..read]);
                    size += u64::try_from(read).unwrap_or(u64::MAX);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            interrupt::check()?;
        }
    }
}
