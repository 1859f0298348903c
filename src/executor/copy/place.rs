//! Copies one source into the destination tree.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::context::Verdict;
use crate::diag::interrupt;
use crate::executor::directories::{NewDirectories, create_directories};
use crate::executor::users::Owner;
use crate::fs::xattr::capability_alone;
use crate::fs::{FileKind, Timestamp};
use crate::plan::TextFile;
use crate::rootfs::{Attributes, Directory, FileCopies, Node, NotCopied, RootfsError, Tree, Xattrs};

use super::archive;
use super::destination::{Destination, shown};
use super::error::{CopyError, is_kind};
use super::mode::ModeChange;
use super::selection::{Marks, Selection};
use super::source::{Finder, FoundSource};
use super::unpack::ArchiveUnpacking;

/// Permission bits with which the build can fill a directory.
const WORKING_MODE: u32 = 0o700;
/// Mode of a here-document.
const TEXT_MODE: u32 = 0o644;

/// The position of the walk through a source directory.
struct CopyCursor {
    /// The path below the source.
    below: PathBuf,
    /// The verdict of the ignore file.
    verdict: Verdict,
    /// The effect of the flags.
    marks: Marks,
}

/// A directory that is copied only if something below it is.
struct Pending {
    to: PathBuf,
    attributes: Attributes,
    state: PendingState,
}

/// Changes to a directory that wait until nothing more is put into it.
enum FinalChange {
    /// Set all attributes.
    Attributes(Attributes),
    /// Set all attributes but the time, which is that of the last entry.
    AttributesButTime(Attributes),
    /// Set the time only.
    Time(Timestamp),
}

#[derive(PartialEq, Eq)]
enum PendingState {
    /// Nothing has been copied into it yet.
    Waiting,
    /// It exists; `true` if this step made it.
    Present(bool),
}

/// The copy of one source to the destination.
pub(super) struct Placement<'a> {
    finder: &'a Finder<'a>,
    destination: &'a mut Tree,
    owner: Option<Owner>,
    mode: Option<&'a ModeChange>,
    selection: &'a Selection,
    /// The copies of files with several names, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    /// Directories around the current one that are not selected, and are made with the first selected file below them.
    pending: Vec<Pending>,
    /// The destination's own directory, which may be inside a context.
    itself: Option<(u64, u64)>,
    /// Copies in progress.
    copies: FileCopies,
    /// Directories to finish when all files are written, innermost first.
    last: Vec<(PathBuf, FinalChange)>,
    /// The current source directory. Only one is open, however deep the tree is.
    open: Option<Directory<'a>>,
}

impl<'a> Placement<'a> {
    pub(super) fn new(
        finder: &'a Finder<'a>,
        destination: &'a mut Tree,
        owner: Option<Owner>,
        mode: Option<&'a ModeChange>,
        selection: &'a Selection,
    ) -> Self {
        Self {
            finder,
            destination,
            owner,
            mode,
            selection,
            links: HashMap::new(),
            pending: Vec::new(),
            itself: None,
            copies: FileCopies::default(),
            last: Vec::new(),
            open: None,
        }
    }

    /// Copies a directory's contents, unpacks an archive if `unpack` is set, or copies a file.
    pub(super) fn place(mut self, found: &FoundSource, target: &Destination, unpack: bool) -> Result<(), CopyError> {
        let path = self.resolve(target)?;
        match found.node.attributes.kind {
            FileKind::Directory => self.place_contents(found, &path),
            FileKind::File if unpack => match archive::open(self.finder.tree().open_file(&found.path)?) {
                Some(archive) => {
                    let archive_name = shown(&found.requested);
                    // An archive sets its members' modes, but not that of the directory it is unpacked to.
                    let new = NewDirectories { mode: None, owner: self.owner };
                    create_directories(self.destination, &path, new).map_err(|error| match error.into() {
                        CopyError::NotDirectory { path } => {
                            CopyError::UnpackTarget { archive: archive_name.clone(), path }
                        }
                        error => error,
                    })?;
                    ArchiveUnpacking::new(self.destination, &path, self.owner, &archive_name).unpack(archive).map(drop)
                }
                None => self.place_file(found, target, path),
            },
            _ => self.place_file(found, target, path),
        }
    }

    /// Writes a here-document. It belongs to root and has mode 0644 unless the step says otherwise.
    pub(super) fn place_text(mut self, text: &TextFile, target: &Destination) -> Result<(), CopyError> {
        let mut path = self.resolve(target)?;
        self.enter(target, OsStr::new(&text.name), &mut path)?;
        let mode = self.mode.map_or(TEXT_MODE, |change| change.apply(TEXT_MODE, false));
        let Owner { uid, gid } = self.owner.unwrap_or_default();
        let attributes = Attributes { uid, gid, mtime: Timestamp::now(), ..Attributes::new(FileKind::File, mode) };
        let written = self.destination.create_file(&path, &attributes, text.content.as_bytes()).map(drop);
        written.or_else(|error| self.explain_file(error, &path))
    }

    fn resolve(&self, target: &Destination) -> Result<PathBuf, CopyError> {
        self.destination.resolve(&target.path, true).map_err(|error| {
            if is_kind(&error, io::ErrorKind::NotADirectory) {
                CopyError::NotDirectory { path: Path::new("/").join(&target.path) }
            } else {
                error.into()
            }
        })
    }

    /// Copies the contents of a directory. The destination keeps its mode and owner, and gets the time of the source.
    fn place_contents(&mut self, found: &FoundSource, path: &Path) -> Result<(), CopyError> {
        self.create_directories(path)?;
        self.itself = self.destination.node(Path::new(""))?.map(|root| root.identity);
        let top = CopyCursor { below: PathBuf::new(), verdict: found.verdict, marks: Marks::default() };
        self.copy_contents(&found.path, &top, path)?;
        self.last.push((path.to_owned(), FinalChange::Time(found.node.attributes.mtime)));
        self.finish()
    }

    /// Waits for all files, then finishes the directories.
    fn finish(&mut self) -> Result<(), CopyError> {
        self.copies.wait(self.destination).or_else(|failed| self.explain_copy(failed))?;
        for (path, last) in std::mem::take(&mut self.last) {
            let now = || Ok::<_, RootfsError>(self.destination.node(&path)?.map(|node| node.attributes));
            let attributes = match last {
                FinalChange::Attributes(attributes) => attributes,
                FinalChange::AttributesButTime(attributes) => {
                    let mtime = now()?.map_or(attributes.mtime, |now| now.mtime);
                    Attributes { mtime, ..attributes }
                }
                FinalChange::Time(mtime) => match now()? {
                    Some(now) => Attributes { mtime, ..now },
                    None => continue,
                },
            };
            self.destination.set_attributes(&path, &attributes)?;
        }
        Ok(())
    }

    fn place_file(&mut self, found: &FoundSource, target: &Destination, mut path: PathBuf) -> Result<(), CopyError> {
        self.enter(target, &found.name, &mut path)?;
        if !self.selection.takes(self.selection.marks(Path::new(&found.name), Marks::default())) {
            tracing::warn!(
                "{}: copied despite --exclude, which only applies to files below a source directory",
                shown(&found.requested)
            );
        }
        match found.node.attributes.kind {
            FileKind::File => {
                let attributes = self.attributes(&found.node);
                let written = self.write_file(&found.path, &attributes, &path);
                written.or_else(|error| self.explain_file(error, &path))
            }
            _ => self.copy_file(&found.path, &found.node, &path),
        }
    }

    /// Makes the directory for a file called `name`. `path`, the destination, becomes the file's path.
    fn enter(&mut self, target: &Destination, name: &OsStr, path: &mut PathBuf) -> Result<(), CopyError> {
        let existing = self.destination.node(path)?;
        if target.is_directory || existing.is_some_and(|node| node.attributes.kind == FileKind::Directory) {
            self.create_directories(path)?;
            path.push(name);
        } else if let Some(above) = path.parent() {
            self.create_directories(above)?;
        }
        Ok(())
    }

    fn create_directories(&mut self, path: &Path) -> Result<(), CopyError> {
        let mode = self.mode.and_then(ModeChange::of_new_directories);
        Ok(create_directories(self.destination, path, NewDirectories { mode, owner: self.owner })?)
    }

    fn copy_contents(&mut self, from: &Path, place: &CopyCursor, to: &Path) -> Result<(), CopyError> {
        for name in self.source_directory(from)?.names()? {
            interrupt::check()?;
            let directory = from;
            let (from, to, below) = (from.join(&name), to.join(&name), place.below.join(&name));
            let marks = self.selection.marks(&below, place.marks);
            let selected = self.selection.takes(marks);
            if !selected && !self.selection.may_take_below(&below, marks) {
                continue;
            }
            let verdict = self.finder.ignore().verdict(&from, place.verdict);
            let with_xattrs = !self.finder.source.reset_owner;
            let Some(node) = self.source_directory(directory)?.node(&name, with_xattrs)? else { continue };
            if !self.finder.is_visible(&from, node.attributes.kind, verdict)? || self.itself == Some(node.identity) {
                continue;
            }
            let place = CopyCursor { below, verdict, marks };
            match (node.attributes.kind, selected) {
                (FileKind::Directory, true) => self.copy_directory(&from, &node, &place, &to)?,
                (FileKind::Directory, false) => self.copy_below(&from, &node, &place, &to)?,
                (_, true) => {
                    self.create_pending()?;
                    self.copy_file(&from, &node, &to)?;
                }
                (_, false) => {}
            }
        }
        Ok(())
    }

    fn copy_directory(&mut self, from: &Path, node: &Node, place: &CopyCursor, to: &Path) -> Result<(), CopyError> {
        self.create_pending()?;
        let attributes = self.attributes(node);
        let made = self.make_directory(to, &attributes)?;
        self.copy_contents(from, place, to)?;
        let last = if made { FinalChange::Attributes(attributes) } else { FinalChange::Time(attributes.mtime) };
        self.last.push((to.to_owned(), last));
        Ok(())
    }

    /// Copies the selected files below a directory that is not selected itself.
    fn copy_below(&mut self, from: &Path, node: &Node, place: &CopyCursor, to: &Path) -> Result<(), CopyError> {
        let attributes = self.attributes(node);
        self.pending.push(Pending { to: to.to_owned(), attributes, state: PendingState::Waiting });
        self.copy_contents(from, place, to)?;
        if let Some(Pending { attributes, state: PendingState::Present(true), .. }) = self.pending.pop() {
            self.last.push((to.to_owned(), FinalChange::AttributesButTime(attributes)));
        }
        Ok(())
    }

    fn source_directory(&mut self, path: &Path) -> Result<&Directory<'a>, CopyError> {
        opened(&mut self.open, self.finder.tree(), path)
    }

    /// Makes the pending directories above a file that is about to be copied.
    fn create_pending(&mut self) -> Result<(), CopyError> {
        let mut pending = std::mem::take(&mut self.pending);
        for directory in pending.iter_mut().filter(|directory| directory.state == PendingState::Waiting) {
            let present = matches!(self.destination.node(&directory.to)?, Some(node) if node.attributes.kind == FileKind::Directory);
            if !present {
                self.make_directory(&directory.to, &directory.attributes)?;
            }
            directory.state = PendingState::Present(!present);
        }
        self.pending = pending;
        Ok(())
    }

    /// Makes a directory that the build can fill. Returns `false` if one exists that keeps its attributes.
    fn make_directory(&mut self, path: &Path, attributes: &Attributes) -> Result<bool, CopyError> {
        if self.selection.keeps_existing_directories()
            && let Some(node) = self.destination.node(path)?
            && node.attributes.kind == FileKind::Directory
        {
            return Ok(false);
        }
        let working = Attributes { mode: attributes.mode | WORKING_MODE, ..attributes.clone() };
        self.destination.create_directory(path, &working).or_else(|error| {
            self.explain(error, path, |kind, path| match kind {
                FileKind::Directory => None,
                _ => Some(CopyError::NotDirectory { path }),
            })
        })?;
        Ok(true)
    }

    /// Copies anything but a directory.
    fn copy_file(&mut self, from: &Path, node: &Node, to: &Path) -> Result<(), CopyError> {
        let attributes = self.attributes(node);
        let copied = match (attributes.kind, &node.link_target) {
            (FileKind::File, _) if node.link_count > 1 => match self.links.get(&node.identity) {
                Some(first) => self.destination.create_hard_link(first, to),
                None => {
                    self.links.insert(node.identity, to.to_owned());
                    self.write_file(from, &attributes, to)
                }
            },
            (FileKind::File, _) => return self.start_file(from, &attributes, to),
            (FileKind::Symlink, Some(target)) => self.destination.create_symlink(to, target, &attributes),
            (FileKind::Socket, _) => {
                tracing::warn!("socket {}: not copied: images cannot hold sockets", shown(from));
                Ok(())
            }
            _ => self.destination.create_special(to, &attributes),
        };
        copied.or_else(|error| self.explain_file(error, to))
    }

    /// Starts the copy of a file that has one name.
    fn start_file(&mut self, from: &Path, attributes: &Attributes, to: &Path) -> Result<(), CopyError> {
        let directory = from.parent().unwrap_or(Path::new(""));
        let name = from.file_name().unwrap_or_default();
        let directory = opened(&mut self.open, self.finder.tree(), directory)?;
        let started = self.copies.start(self.destination, directory, name, to, attributes);
        started.or_else(|failed| self.explain_copy(failed))
    }

    fn explain_copy(&self, NotCopied { path, error }: NotCopied) -> Result<(), CopyError> {
        self.explain_file(error, &path)
    }

    fn explain_file(&self, error: RootfsError, path: &Path) -> Result<(), CopyError> {
        self.explain(error, path, |kind, path| match kind {
            FileKind::Directory => Some(CopyError::IsDirectory { path }),
            _ => None,
        })
    }

    fn write_file(&mut self, from: &Path, attributes: &Attributes, to: &Path) -> Result<(), RootfsError> {
        let content = self.finder.tree().open_file(from)?;
        self.destination.create_file(to, attributes, content)?;
        Ok(())
    }

    /// Replaces an error by its reason if something was in the way. Checking this only after a failure is cheaper than
    /// for every file.
    fn explain(
        &self,
        error: RootfsError,
        path: &Path,
        reason: impl Fn(FileKind, PathBuf) -> Option<CopyError>,
    ) -> Result<(), CopyError> {
        let blocked = is_kind(&error, io::ErrorKind::AlreadyExists) || is_kind(&error, io::ErrorKind::IsADirectory);
        let in_the_way = if blocked { self.destination.node(path)? } else { None };
        let reason = in_the_way.and_then(|node| reason(node.attributes.kind, Path::new("/").join(path)));
        Err(reason.unwrap_or(CopyError::Tree(error)))
    }

    /// Returns the attributes that a copied file has in the image.
    fn attributes(&self, node: &Node) -> Attributes {
        let Attributes { kind, mode, mtime, ref xattrs, .. } = node.attributes;
        let mode = match self.mode {
            Some(change) if kind != FileKind::Symlink => change.apply(mode, kind == FileKind::Directory),
            _ => mode,
        };
        let reset = self.finder.source.reset_owner;
        let own = if reset { Owner::default() } else { Owner { uid: node.attributes.uid, gid: node.attributes.gid } };
        let Owner { uid, gid } = self.owner.unwrap_or(own);
        let xattrs = if reset { Xattrs::new() } else { capability_alone(xattrs) };
        Attributes { kind, mode, uid, gid, mtime, xattrs }
    }
}

/// Opens the directory at `path`, unless it is `open` already; it replaces `open`.
fn opened<'o, 't>(
    open: &'o mut Option<Directory<'t>>,
    tree: &'t Tree,
    path: &Path,
) -> Result<&'o Directory<'t>, CopyError> {
    let directory = match open.take().filter(|open| open.path() == path) {
        Some(directory) => directory,
        None => tree.directory(path)?,
    };
    Ok(open.insert(directory))
}
