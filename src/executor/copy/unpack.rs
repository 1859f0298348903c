//! Unpacks an archive of `ADD`.
//!
//! The destination directory is the members' root: `..` and absolute symbolic links do not leave it, whether the links
//! are from the archive or existed before. Missing directories are made, but not at the target of a dangling link.
//! Anything in a member's way is replaced, except a directory by a directory. Names of whiteouts have no special
//! meaning here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::diag::interrupt;
use crate::executor::users::Owner;
use crate::fs::xattr::capability_alone;
use crate::fs::{FileKind, Timestamp};
use crate::rootfs::archive::{Member, MemberKind, Reader};
use crate::rootfs::{Attributes, Tree};

use super::archive::Archive;
use super::error::{CopyError, MemberError};

/// The number of links that the kernel follows before it reports a loop.
const MAX_LINKS: usize = 40;
/// The mode of directories that the archive does not mention.
const IMPLIED_MODE: u32 = 0o755;
/// Permission bits with which the build can fill a directory.
const WORKING_MODE: u32 = 0o700;

/// Bytes of memory that a directory's attributes take in addition to its path, with its share of the map's nodes.
const EACH_DIRECTORY: usize = 300;

/// The most that an archive may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Files, directories and links, including directories that the archive does not mention.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
}

impl UnpackLimits {
    /// No limits: for archives that the build itself selected.
    pub const NONE: Self = Self { entries: u64::MAX, bytes: u64::MAX };
}

/// An archive that is being unpacked.
pub(super) struct ArchiveUnpacking<'a> {
    tree: &'a mut Tree,
    /// The members' root: a path of the tree without links.
    base: &'a Path,
    owner: Option<Owner>,
    archive: &'a str,
    /// The parent directory of the last member, as written and resolved: the next member is mostly in the same one.
    last_parent: Option<(PathBuf, PathBuf)>,
    /// The limits, and how much of them is left.
    limits: UnpackLimits,
    left: UnpackLimits,
    /// Directories of the archive. Mode and time are set last, when nothing more is put into them.
    directories: BTreeMap<PathBuf, Attributes>,
    /// Bytes of memory that they take, roughly.
    remembered: usize,
}

impl<'a> ArchiveUnpacking<'a> {
    pub(super) fn new(tree: &'a mut Tree, base: &'a Path, owner: Option<Owner>, archive: &'a str) -> Self {
        Self {
            tree,
            base,
            owner,
            archive,
            last_parent: None,
            limits: UnpackLimits::NONE,
            left: UnpackLimits::NONE,
            directories: BTreeMap::new(),
            remembered: 0,
        }
    }

    /// Sets limits.
    pub(super) fn limited(self, limits: UnpackLimits) -> Self {
        Self { limits, left: limits, ..self }
    }

    /// Unpacks all members and returns the reader, positioned after the last member.
    pub(super) fn unpack<R: Read>(mut self, archive: Archive<R>) -> Result<Reader<R>, CopyError> {
        let Archive { mut reader, first } = archive;
        let mut next = Some(first);
        while let Some(member) = next {
            interrupt::check()?;
            self.member(&member, &mut reader).map_err(|source| self.failed(&member, source))?;
            next = reader
                .next_member()
                .map_err(|source| CopyError::Archive { archive: self.archive.to_owned(), source: Box::new(source) })?;
        }
        for (path, attributes) in &self.directories {
            self.tree.set_attributes(path, attributes)?;
        }
        Ok(reader)
    }

    fn failed(&self, member: &Member, source: MemberError) -> CopyError {
        let archive = self.archive.to_owned();
        match source {
            MemberError::TooManyEntries => CopyError::TooManyEntries { archive, limit: self.limits.entries },
            MemberError::TooManyBytes => CopyError::TooLarge { archive, limit: self.limits.bytes },
            source => {
                let member = String::from_utf8_lossy(&member.name).into_owned();
                CopyError::Member { archive, member, source: Box::new(source) }
            }
        }
    }

    /// Counts entries and bytes that are about to be written.
    fn take(&mut self, entries: u64, bytes: u64) -> Result<(), MemberError> {
        self.left.entries = self.left.entries.checked_sub(entries).ok_or(MemberError::TooManyEntries)?;
        self.left.bytes = self.left.bytes.checked_sub(bytes).ok_or(MemberError::TooManyBytes)?;
        Ok(())
    }

    fn member(&mut self, member: &Member, content: &mut Reader<impl Read>) -> Result<(), MemberError> {
        // A sparse file counts with its full size, because its zeros take space when they are written.
        self.take(1, member.size)?;
        let requested = normalized(&member.name);
        // The archive may not change its root directory.
        let Some(name) = requested.file_name() else { return Ok(()) };
        let path = self.parent(requested.parent().unwrap_or(Path::new("")))?.join(name);
        let linked = match &member.kind {
            MemberKind::HardLink(target) => Some(self.linked(target)?),
            _ => None,
        };
        self.clear(&path, member.kind == MemberKind::Directory)?;
        let attributes = self.attributes(member);
        match &member.kind {
            MemberKind::Directory => {
                let working = Attributes { mode: attributes.mode | WORKING_MODE, ..attributes.clone() };
                self.tree.create_directory(&path, &working)?;
                let size = path.as_os_str().len() + EACH_DIRECTORY;
                if self.directories.insert(path, attributes).is_none() {
                    self.remembered += size;
                }
            }
            MemberKind::File => drop(self.tree.create_file(&path, &attributes, content)?),
            MemberKind::Symlink(target) => {
                self.last_parent = None;
                self.tree.create_symlink(&path, OsStr::from_bytes(target), &attributes)?;
            }
            MemberKind::HardLink(_) => self.hard_link(&linked.unwrap_or_default(), &path, attributes)?,
            MemberKind::CharDevice { .. } | MemberKind::BlockDevice { .. } | MemberKind::Fifo => {
                self.tree.create_special(&path, &attributes)?;
            }
        }
        Ok(self.tree.check_metadata(self.remembered)?)
    }

    /// Adds a name to a file. The member's attributes become those of the file.
    fn hard_link(&mut self, linked: &Path, path: &Path, attributes: Attributes) -> Result<(), MemberError> {
        let missing = || MemberError::Missing { path: self.within(linked) };
        let existing = self.tree.node(linked)?.ok_or_else(missing)?.attributes;
        self.tree.create_hard_link(linked, path)?;
        if existing.kind == FileKind::Symlink {
            return Ok(());
        }
        let mut xattrs = existing.xattrs;
        xattrs.extend(attributes.xattrs);
        Ok(self.tree.set_attributes(path, &Attributes { kind: existing.kind, xattrs, ..attributes })?)
    }

    /// Returns the path of the file that a hard link names.
    fn linked(&mut self, target: &[u8]) -> Result<PathBuf, MemberError> {
        let requested = normalized(target);
        let missing = || MemberError::Missing { path: Path::new("/").join(&requested) };
        let name = requested.file_name().ok_or_else(missing)?;
        let path = self.walk(requested.parent().unwrap_or(Path::new("")), false)?.join(name);
        if self.tree.node(&path)?.is_none() {
            return Err(missing());
        }
        Ok(path)
    }

    fn parent(&mut self, requested: &Path) -> Result<PathBuf, MemberError> {
        if let Some((known, path)) = &self.last_parent
            && known == requested
        {
            return Ok(path.clone());
        }
        let path = self.walk(requested, true)?;
        self.last_parent = Some((requested.to_owned(), path.clone()));
        Ok(path)
    }

    /// Resolves a directory's path from the members' root, following links. With `create`, missing directories that the
    /// archive names are made; the target of a dangling link is not.
    fn walk(&mut self, requested: &Path, create: bool) -> Result<PathBuf, MemberError> {
        let mut pending: Vec<(OsString, bool)> = Vec::new();
        push_reversed(&mut pending, requested, false);
        let mut path = self.base.to_owned();
        let mut links = 0;
        while let Some((name, from_link)) = pending.pop() {
            if name == ".." {
                if path != self.base {
                    path.pop();
                }
                continue;
            }
            path.push(name);
            let Some(node) = self.tree.node(&path)? else {
                if from_link || !create {
                    return Err(MemberError::Missing { path: self.within(&path) });
                }
                let mut attributes = Attributes::new(FileKind::Directory, IMPLIED_MODE);
                attributes.mtime = Timestamp::now();
                self.take(1, 0)?;
                self.tree.create_directory(&path, &attributes)?;
                continue;
            };
            match (node.attributes.kind, node.link_target) {
                (FileKind::Directory, _) => {}
                (_, Some(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(MemberError::TooManyLinks { path: self.within(&path) });
                    }
                    if Path::new(&target).is_absolute() {
                        path.clone_from(&self.base.to_owned());
                    } else {
                        path.pop();
                    }
                    push_reversed(&mut pending, Path::new(&target), true);
                }
                _ => return Err(MemberError::NotDirectory { path: self.within(&path) }),
            }
        }
        Ok(path)
    }

    /// Removes whatever is in a member's way.
    fn clear(&mut self, path: &Path, for_directory: bool) -> Result<(), MemberError> {
        let Some(node) = self.tree.node(path)? else { return Ok(()) };
        let is_directory = node.attributes.kind == FileKind::Directory;
        if is_directory && for_directory {
            return Ok(());
        }
        self.tree.remove(path)?;
        if is_directory {
            self.directories.retain(|directory, _| !directory.starts_with(path));
        }
        if node.attributes.kind != FileKind::File {
            self.last_parent = None;
        }
        Ok(())
    }

    fn attributes(&self, member: &Member) -> Attributes {
        let kind = match member.kind {
            MemberKind::File | MemberKind::HardLink(_) => FileKind::File,
            MemberKind::Symlink(_) => FileKind::Symlink,
            MemberKind::CharDevice { major, minor } => FileKind::CharDevice { major, minor },
            MemberKind::BlockDevice { major, minor } => FileKind::BlockDevice { major, minor },
            MemberKind::Directory => FileKind::Directory,
            MemberKind::Fifo => FileKind::Fifo,
        };
        let Owner { uid, gid } = self.owner.unwrap_or(Owner { uid: member.uid, gid: member.gid });
        Attributes { kind, mode: member.mode, uid, gid, mtime: member.mtime, xattrs: capability_alone(&member.xattrs) }
    }

    /// Returns a path of the tree as members name it.
    fn within(&self, path: &Path) -> PathBuf {
        Path::new("/").join(path.strip_prefix(self.base).unwrap_or(path))
    }
}

/// Returns a member's name without a leading slash, `.` and `..`; `..` does not climb above the root.
fn normalized(name: &[u8]) -> PathBuf {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    path
}

fn push_reversed(pending: &mut Vec<(OsString, bool)>, path: &Path, from_link: bool) {
    pending.extend(path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some((name.to_owned(), from_link)),
        Component::ParentDir => Some((OsString::from(".."), from_link)),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }));
}
