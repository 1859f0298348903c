//! Writes outputs other than registries: OCI layouts and archives.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};

use super::{PushError, Target};
use crate::diag::interrupt;
use crate::fs::{failed_to, gated as fs};
use crate::image::archive::{write_docker_archive, write_oci_archive};
use crate::image::layout::{Existing, LayoutWriter, remove_leftovers};
use crate::image::{Blob, BlobSource, Digest, Image, Reference};
use crate::registry::{Client, LocalBlobs};

/// The name of an archive's image without a destination, as in kaniko.
const UNSET_NAME: &str = "docker.io/unset-repo/unset-image-name";
/// Bytes of an archive that are buffered before they are written.
const BUFFER: usize = 1 << 20;

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// The format of `docker save`.
    Docker,
    /// An OCI image layout.
    Oci,
}

/// Writes `image` into the OCI layout at `directory`, whose index then names only this image, as with kaniko: tools
/// that push a layout expect exactly one image. `name` is the image's name in the index, usually a tag.
///
/// # Errors
/// A layer cannot be fetched, or the directory cannot be written or contains other files.
pub async fn write_layout(
    client: &Client,
    image: &Image,
    directory: &Path,
    name: Option<&str>,
    store: &impl LocalBlobs,
) -> Result<(), PushError> {
    let layers = image.blobs.iter().filter(|blob| !blob.descriptor.is_foreign());
    let files = local_files(client, layers.clone(), directory, store).await?;
    let error = |source| PushError::Layout { path: directory.to_owned(), source };
    remove_leftovers(directory);
    let mut writer = LayoutWriter::open(directory, Existing::Replace).map_err(error)?;
    for blob in layers {
        let content = open(blob, &files).map_err(failed_to("open a layer for", directory))?;
        writer.add_blob(&blob.descriptor, content).map_err(error)?;
    }
    writer.add_image(image, name).map_err(error)?;
    writer.finish().map_err(error)
}

/// Writes `image` as an archive with the names `names`. A Docker archive without names gets a placeholder name.
///
/// # Errors
/// A layer cannot be fetched, or the file cannot be written; then an existing file is unchanged.
pub async fn write_archive(
    client: &Client,
    image: &Image,
    kind: ArchiveKind,
    target: &Target,
    names: &[Reference],
    store: &impl LocalBlobs,
) -> Result<(), PushError> {
    let unnamed;
    let names = if names.is_empty() && kind == ArchiveKind::Docker {
        unnamed = [Reference::parse(UNSET_NAME)?];
        unnamed.as_slice()
    } else {
        names
    };
    let shown = PathBuf::from(target.to_string());
    let files = local_files(client, image.blobs.iter(), &shown, store).await?;
    write_atomically(target, |out| {
        let blob = |blob: &Blob| open(blob, &files);
        let result = match kind {
            ArchiveKind::Docker => write_docker_archive(out, image, names, blob),
            ArchiveKind::Oci => write_oci_archive(out, image, names, blob),
        };
        result.map(drop).map_err(|source| PushError::Archive { path: shown.clone(), source })
    })
}

/// Writes a file through `write` under a temporary name and renames it when it is complete. A pipe, a device or
/// standard output is written to directly; standard output must not be a terminal.
///
/// # Errors
/// The file cannot be written, or `write` fails.
pub fn write_atomically<E: From<PushError>>(
    target: &Target,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let Target::Path(path) = target else {
        let output = io::stdout();
        if output.is_terminal() {
            return Err(PushError::Terminal.into());
        }
        return flushed(BufWriter::with_capacity(BUFFER, output.lock()), Path::new("-"), write);
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(failed_to("create the directory of", path)).map_err(PushError::from)?;
    }
    let create = |path: &Path| {
        let file = fs::open_with(path, OpenOptions::new().write(true).create(true).truncate(true));
        file.map_err(failed_to("create", path)).map_err(PushError::from)
    };
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return flushed(BufWriter::with_capacity(BUFFER, create(path)?), path, write);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".partial.{}", std::process::id()));
    let partial = PathBuf::from(name);
    let result = flushed(BufWriter::with_capacity(BUFFER, create(&partial)?), &partial, write);
    if result.is_err() {
        if let Err(leftover) = fs::remove_file(&partial) {
            tracing::debug!(path = %partial.display(), error = %leftover, "could not remove a partial archive");
        }
        return result;
    }
    fs::rename(&partial, path).map_err(failed_to("rename the finished archive to", path)).map_err(PushError::from)?;
    Ok(())
}

fn flushed<E: From<PushError>>(
    mut out: BufWriter<impl Write>,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    write(&mut out)?;
    out.flush().map_err(failed_to("write", path)).map_err(PushError::from)?;
    Ok(())
}

/// Returns the files of layers that are not in memory. Layers in a registry are fetched.
async fn local_files<'a>(
    client: &Client,
    layers: impl Iterator<Item = &'a Blob>,
    output: &Path,
    store: &impl LocalBlobs,
) -> Result<BTreeMap<Digest, PathBuf>, PushError> {
    let mut files = BTreeMap::new();
    for blob in layers {
        let descriptor = &blob.descriptor;
        let path = match &blob.source {
            BlobSource::File(path) => path.clone(),
            BlobSource::Bytes(_) => continue,
            BlobSource::Registry(reference) => {
                store.ensure(client, reference, descriptor).await.map_err(|source| match source.interrupted() {
                    Some(signal) => PushError::Interrupted { signal, written: Vec::new(), uploaded: Vec::new() },
                    None => PushError::Fetch {
                        digest: descriptor.digest.clone(),
                        output: output.to_owned(),
                        source: Box::new(source),
                    },
                })?
            }
        };
        files.insert(descriptor.digest.clone(), path);
    }
    Ok(files)
}

fn open(blob: &Blob, files: &BTreeMap<Digest, PathBuf>) -> io::Result<InterruptibleReader> {
    let content: Box<dyn Read> = match (&blob.source, files.get(&blob.descriptor.digest)) {
        (BlobSource::Bytes(bytes), _) => Box::new(io::Cursor::new(bytes.clone())),
        (_, Some(path)) => Box::new(fs::open(path)?),
        (_, None) => {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} was not fetched", blob.descriptor.digest)));
        }
    };
    Ok(InterruptibleReader { content })
}

/// A reader that fails when the build is asked to stop.
struct InterruptibleReader {
    content: Box<dyn Read>,
}

impl Read for InterruptibleReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        interrupt::check()?;
        self.content.read(buffer)
    }
}
