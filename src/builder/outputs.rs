//! Writes local outputs: archives and layouts of the image, and its files.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cache::BlobStore;
use crate::diag::interrupt;
use crate::fs::{FileKind, gated};
use crate::image::{Blob, BlobSource, Image, Reference};
use crate::layer::{self, LayerOptions, VerifyingReader};
use crate::push::{self, ArchiveKind, Output, OutputKind, PushError, Target};
use crate::registry::Client;
use crate::rootfs::{Attributes, Change, ChangeKind, Node, RootfsError, Tree};

use super::error::BuildError;
use super::error::files::FilesError;

/// A finished image, and what is needed to fetch its layers.
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    pub(super) image: &'a Image,
    pub(super) client: &'a Client,
    pub(super) store: &'a BlobStore,
    /// A directory for files that are needed until the build ends.
    pub(super) directory: &'a Path,
}

impl Outputs<'_> {
    /// Writes one output with the given names of the image.
    ///
    /// # Errors
    /// A layer is not available, or the output cannot be written.
    pub(super) async fn write(&self, output: &Output, names: &[Reference]) -> Result<(), BuildError> {
        let Self { image, client, store, .. } = *self;
        let names = output.names.as_deref().unwrap_or(names);
        let target = &output.target;
        match (output.kind, target) {
            (OutputKind::OciLayout, Target::Path(path)) => {
                let name = names.first().map(Reference::tag_or_latest);
                push::write_layout(client, image, path, name, store).await?;
            }
            (OutputKind::OciArchive, _) => {
                push::write_archive(client, image, ArchiveKind::Oci, target, names, store).await?;
            }
            (OutputKind::DockerArchive, _) => {
                push::write_archive(client, image, ArchiveKind::Docker, target, names, store).await?;
            }
            (OutputKind::FilesArchive, _) => {
                let tree = self.files(target).await?;
                push::write_atomically(target, |out| {
                    let source = layer::write_tar(&tree, &everything(&tree), out, &LayerOptions::default());
                    source.map_err(|source| FilesError::Archive { target: target.clone(), source })
                })?;
                discard(&tree)?;
            }
            (OutputKind::Files, Target::Path(directory)) => {
                let tree = self.files(target).await?;
                crate::fs::create_dir_all(directory).map_err(FilesError::from)?;
                write_files(&tree, directory)
                    .map_err(|source| FilesError::Directory { directory: directory.clone(), source })?;
                discard(&tree)?;
            }
            // The command line refuses these combinations.
            (OutputKind::OciLayout | OutputKind::Files, Target::Stdout) => return Err(PushError::Terminal.into()),
        }
        Ok(())
    }

    /// Unpacks all layers into a tree below the work directory.
    async fn files(&self, target: &Target) -> Result<Tree, FilesError> {
        let path = self.directory.join("output-files");
        let mut tree =
            Tree::create(&path).map_err(|source| FilesError::Directory { directory: path.clone(), source })?;
        for (blob, diff_id) in self.image.blobs.iter().zip(&self.image.config.rootfs.diff_ids) {
            let file = self.file(blob, target).await?;
            let digest = &blob.descriptor.digest;
            let unreadable = |source| FilesError::Read { digest: digest.clone(), source };
            let opened =
                gated::open(&file).map_err(|error| unreadable(crate::fs::Error::new("open", &file, error).into()))?;
            let reader = layer::reader(opened, &blob.descriptor.media_type).map_err(unreadable)?;
            tree.apply_layer(&digest.to_string(), VerifyingReader::new(reader, diff_id))
                .map_err(|source| FilesError::Unpack { digest: digest.clone(), source })?;
        }
        Ok(tree)
    }

    async fn file(&self, blob: &Blob, target: &Target) -> Result<PathBuf, FilesError> {
        let reference = match &blob.source {
            BlobSource::File(path) => return Ok(path.clone()),
            BlobSource::Registry(reference) => reference,
            // Layers are never in memory.
            BlobSource::Bytes(bytes) => {
                let path = self.directory.join("output-layer");
                gated::write(&path, bytes).map_err(|error| crate::fs::Error::new("write", &path, error))?;
                return Ok(path);
            }
        };
        self.store.ensure(self.client, reference, &blob.descriptor).await.map_err(|source| FilesError::Fetch {
            digest: blob.descriptor.digest.clone(),
            target: target.clone(),
            source,
        })
    }
}

fn discard(tree: &Tree) -> Result<(), FilesError> {
    Ok(crate::fs::remove_dir_all(tree.path())?)
}

/// Returns every path of the tree as an added file.
fn everything(tree: &Tree) -> Vec<Change> {
    let paths = tree.index().iter().map(|(path, _)| path).filter(|path| !path.as_os_str().is_empty());
    paths.map(|path| Change { path: path.to_owned(), kind: ChangeKind::Added }).collect()
}

/// Writes the tree's files to `directory`, whose other files are not changed. The current user owns them, as with
/// BuildKit. Device nodes are left out.
fn write_files(tree: &Tree, directory: &Path) -> Result<(), RootfsError> {
    let mut target = Tree::open(directory)?;
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut directories: Vec<(PathBuf, Attributes)> = Vec::new();
    for Change { path, .. } in everything(tree) {
        interrupt::check()?;
        let Some(node) = tree.node(&path)? else { continue };
        let Node { attributes, link_target, identity, link_count, .. } = node;
        let attributes = Attributes { uid: owner.0, gid: owner.1, xattrs: Default::default(), ..attributes };
        match attributes.kind {
            FileKind::Directory => {
                // Writable until its files are written.
                target.create_directory(&path, &Attributes { mode: attributes.mode | 0o700, ..attributes.clone() })?;
                directories.push((path, attributes));
                continue;
            }
            FileKind::File | FileKind::Symlink => {}
            kind => {
                tracing::warn!("{}: /{} was left out: it is a {kind:?}", directory.display(), path.display());
                continue;
            }
        }
        if link_count > 1 {
            if let Some(first) = links.get(&identity) {
                if target.node(&path)?.is_some() {
                    target.remove(&path)?;
                }
                target.create_hard_link(first, &path)?;
                continue;
            }
            links.insert(identity, path.clone());
        }
        match attributes.kind {
            FileKind::Symlink => {
                target.create_symlink(&path, &link_target.unwrap_or_else(OsString::new), &attributes)?;
            }
            _ => drop(target.create_file(&path, &attributes, tree.open_file(&path)?)?),
        }
    }
    for (path, attributes) in directories.iter().rev() {
        target.set_attributes(path, attributes)?;
    }
    Ok(())
}
