//! Outputs beside registries: `--oci-layout-path` and `--tar-path`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::PushError;
use crate::diag::interrupt;
use crate::image::archive::write_docker_archive;
use crate::image::layout::{Existing, LayoutWriter};
use crate::image::{Blob, BlobSource, Digest, Image, Reference};
use crate::registry::{Client, LocalBlobs};

/// The name that an archive's image has without a destination; kaniko's.
const UNSET_NAME: &str = "docker.io/unset-repo/unset-image-name";

/// Writes `image` into the OCI layout at `directory`, whose index then names this image alone, as with kaniko: tools that
/// push a layout want exactly one image in it. `name` is the image's name in the index, usually a tag.
///
/// # Errors
/// A layer cannot be fetched, the directory is another kind of directory, or cannot be written.
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
    let mut writer = LayoutWriter::open(directory, Existing::Replace).map_err(error)?;
    for blob in layers {
        if writer.has_blob(&blob.descriptor) {
            continue;
        }
        let content = open(blob, &files).map_err(|source| PushError::File {
            verb: "open a layer for",
            path: directory.to_owned(),
            source,
        })?;
        writer.add_blob(&blob.descriptor, content).map_err(error)?;
    }
    writer.add_image(image, name).map_err(error)?;
    writer.finish().map_err(error)
}

/// Writes `image` as a Docker archive to `path`, under the names `tags`, or a name that says that it has none.
///
/// # Errors
/// A layer cannot be fetched, or the file cannot be written; a file that was there before then stays as it was.
pub async fn write_archive(
    client: &Client,
    image: &Image,
    path: &Path,
    tags: &[Reference],
    store: &impl LocalBlobs,
) -> Result<(), PushError> {
    let unnamed;
    let tags = if tags.is_empty() {
        unnamed = [Reference::parse(UNSET_NAME)?];
        unnamed.as_slice()
    } else {
        tags
    };
    let files = local_files(client, image.blobs.iter(), path, store).await?;
    let error = |verb| move |source| PushError::File { verb, path: path.to_owned(), source };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(error("create the directory of"))?;
    }
    // A pipe or a device is written to directly, a file appears only when it is whole.
    let special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    let target = if special {
        path.to_owned()
    } else {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".partial.{}", std::process::id()));
        PathBuf::from(name)
    };
    let result = write_archive_file(image, path, &target, tags, &files);
    if special {
        return result;
    }
    if result.is_err() {
        if let Err(leftover) = fs::remove_file(&target) {
            tracing::debug!(path = %target.display(), error = %leftover, "leave a partial archive behind");
        }
        return result;
    }
    fs::rename(&target, path).map_err(error("rename the finished archive to"))
}

fn write_archive_file(
    image: &Image,
    path: &Path,
    target: &Path,
    tags: &[Reference],
    files: &BTreeMap<Digest, PathBuf>,
) -> Result<(), PushError> {
    let error = |verb| move |source| PushError::File { verb, path: target.to_owned(), source };
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).open(target).map_err(error("create"))?;
    let out = BufWriter::with_capacity(1 << 20, file);
    let mut out = write_docker_archive(out, image, tags, |blob| open(blob, files))
        .map_err(|source| PushError::Archive { path: path.to_owned(), source })?;
    out.flush().map_err(error("write"))
}

/// The files of the layers that are not in memory; those in a registry are fetched.
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

fn open(blob: &Blob, files: &BTreeMap<Digest, PathBuf>) -> io::Result<Watched> {
    let content: Box<dyn Read> = match (&blob.source, files.get(&blob.descriptor.digest)) {
        (BlobSource::Bytes(bytes), _) => Box::new(io::Cursor::new(bytes.clone())),
        (_, Some(path)) => Box::new(File::open(path)?),
        (_, None) => {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} was not fetched", blob.descriptor.digest)));
        }
    };
    Ok(Watched { content })
}

/// A reader that ends with an error when the build is asked to stop.
struct Watched {
    content: Box<dyn Read>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not ErrorKind::Interrupted, which copy loops take as "try again".
        if let Some(signal) = interrupt::requested() {
            return Err(io::Error::other(format!("interrupted by signal {signal}")));
        }
        self.content.read(buffer)
    }
}
