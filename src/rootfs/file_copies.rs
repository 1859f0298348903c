//! Copies files from one tree to a different one in several threads.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diag::interrupt;
use crate::fs;

use super::attributes::Attributes;
use super::directory::Directory;
use super::error::RootfsError;
use super::tree::Tree;
use super::writers::{Content, Job, WriteError, Writers, Written};

/// Copies of regular files. Before [`FileCopies::wait`] returns, their paths must not be used.
#[derive(Debug, Default)]
pub struct FileCopies {
    writers: Writers,
    /// The directory of the last copy; the next one is mostly in the same directory.
    parent: Option<(PathBuf, Arc<OwnedFd>)>,
}

/// A file that was not copied.
#[derive(Debug)]
pub struct NotCopied {
    /// The destination.
    pub path: PathBuf,
    /// The reason.
    pub error: RootfsError,
}

impl FileCopies {
    /// Starts to copy the regular file `name` in `from` to the path `to` of `tree`, with these attributes. A file, link
    /// or special file there is replaced, a directory is an error.
    ///
    /// # Errors
    /// This file or an earlier one cannot be read or written.
    pub fn start(
        &mut self,
        tree: &mut Tree,
        from: &Directory<'_>,
        name: &OsStr,
        to: &Path,
        attributes: &Attributes,
    ) -> Result<(), NotCopied> {
        let failed = |error| NotCopied { path: to.to_owned(), error };
        let (above, to_name) = (to.parent().unwrap_or(Path::new("")), to.file_name().unwrap_or_default());
        let directory = match &self.parent {
            Some((path, directory)) if path == above => Arc::clone(directory),
            _ => {
                let directory = Arc::new(tree.parent_of(to).map_err(failed)?.0);
                self.parent = Some((above.to_owned(), Arc::clone(&directory)));
                directory
            }
        };
        let shown = from.shown(name);
        let content = Content::Of { directory: Arc::clone(&from.descriptor), name: name.to_owned(), shown };
        let job = Job {
            path: to.to_owned(),
            directory,
            name: to_name.to_owned(),
            mode: tree.mode_on_disk(attributes),
            attributes: attributes.clone(),
            content,
        };
        let written = self.writers.write(job);
        let written = written.map_err(|source| failed(fs::Error::new("write", tree.shown(to), source).into()))?;
        written.into_iter().try_for_each(|written| note(tree, written))
    }

    /// Waits for all copies.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn wait(&mut self, tree: &mut Tree) -> Result<(), NotCopied> {
        let written = self.writers.wait().map_err(|source| NotCopied {
            path: PathBuf::new(),
            error: fs::Error::new("write files below", tree.path(), source).into(),
        })?;
        written.into_iter().try_for_each(|written| note(tree, written))
    }
}

fn note(tree: &mut Tree, Written { path, attributes, made }: Written) -> Result<(), NotCopied> {
    let error = match made {
        Ok(made) => {
            tree.note_file(&attributes, made);
            return Ok(());
        }
        Err(WriteError::Open { path, source }) => fs::Error::new("open", path, source),
        Err(WriteError::Write(source)) => fs::Error::new("write", tree.shown(&path), source),
    };
    Err(NotCopied { path, error: interrupt::check().err().map_or_else(|| error.into(), RootfsError::from) })
}
