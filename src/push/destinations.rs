//! Pushing: all blobs to all repositories first, then manifests and tags, so that no tag ever names what is not there.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::PushError;
use crate::diag::progress::{Bytes, Progress};
use crate::image::{Blob, BlobSource, Digest, Image, Reference};
use crate::registry::{Client, LocalBlobs, Mount, RegistryError};

/// How many blobs are looked after at once; the client bounds how many of them move.
const CONCURRENT: usize = 8;

/// What a push moved, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PushSummary {
    /// Bytes of blobs that were uploaded.
    pub uploaded: u64,
    /// Bytes of blobs that were there already.
    pub existing: u64,
    /// Bytes of blobs that the registry took over from another of its repositories.
    pub mounted: u64,
}

/// What happens to a tag that a registry does not let change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingTags {
    /// The push fails.
    Replace,
    /// It stays as it is, and the push goes on.
    KeepImmutable,
}

enum Placed {
    Uploaded,
    Existing,
    Mounted,
}

/// Pushes `image` to all `destinations`. Blobs are uploaded once for each repository, however many tags it gets.
///
/// # Errors
/// A registry cannot be reached or refuses, a blob cannot be read or fetched, or the build was asked to stop. The error says
/// which tags were written: none, unless a tag itself could not be written after others.
pub async fn push(
    client: &Client,
    image: &Image,
    destinations: &[Reference],
    existing: ExistingTags,
    progress: &Progress,
    store: &impl LocalBlobs,
) -> Result<PushSummary, PushError> {
    check_tags(destinations)?;
    let uploaded = Uploaded::default();
    let blobs = distinct_blobs(image);
    let mut summary = PushSummary::default();
    let mut filled: Vec<Reference> = Vec::new();
    for repository in repositories(destinations) {
        let push = BlobPush { client, progress, store, repository: &repository, filled: &filled };
        let work = blobs.iter().map(|blob| push.place_and_note(blob, &uploaded)).collect::<Vec<_>>();
        let placed: Result<Vec<(u64, Placed)>, RegistryError> =
            stream::iter(work).buffer_unordered(CONCURRENT).try_collect().await;
        let placed = placed.map_err(|error| match uploaded.interruption(&error, &[]) {
            Some(interruption) => interruption,
            None => PushError::Blob { repository: Box::new(repository.clone()), source: Box::new(error) },
        })?;
        for (size, placed) in placed {
            match placed {
                Placed::Uploaded => summary.uploaded += size,
                Placed::Existing => summary.existing += size,
                Placed::Mounted => summary.mounted += size,
            }
        }
        filled.push(repository);
    }
    let mut written: Vec<Reference> = Vec::new();
    for destination in destinations {
        let destination = destination.with_tag(destination.tag_or_latest());
        if written.contains(&destination) {
            continue;
        }
        let put = client.put_manifest(&destination, &image.manifest.media_type, &image.manifest_bytes).await;
        if existing == ExistingTags::KeepImmutable
            && let Err(error) = &put
            && error.is_immutable_tag()
        {
            progress.line(format_args!("WARNING: {destination} is immutable and stays as it was ({error})"));
            continue;
        }
        put.map_err(|error| match uploaded.interruption(&error, &written) {
            Some(interruption) => interruption,
            None => PushError::Manifest {
                destination: Box::new(destination.clone()),
                written: written.clone(),
                source: Box::new(error),
            },
        })?;
        progress.line(format_args!("pushed {destination}@{}", image.digest()));
        written.push(destination);
    }
    Ok(summary)
}

/// Whether all destinations may be pushed to; to be asked before a build, so that it does not fail after it.
///
/// # Errors
/// One of them may not.
pub async fn check_destinations(client: &Client, destinations: &[Reference]) -> Result<(), PushError> {
    check_tags(destinations)?;
    for repository in repositories(destinations) {
        client.check_push(&repository).await.map_err(|source| PushError::Permission {
            destination: Box::new(repository.clone()),
            source: Box::new(source),
        })?;
    }
    Ok(())
}

/// The blobs that went over the wire, for the message of a push that was interrupted.
#[derive(Default)]
struct Uploaded(Mutex<Vec<(Reference, Digest)>>);

impl Uploaded {
    fn list(&self) -> MutexGuard<'_, Vec<(Reference, Digest)>> {
        match self.0.lock() {
            Ok(list) => list,
            // Entries are only ever added.
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    fn add(&self, repository: &Reference, digest: &Digest) {
        self.list().push((repository.clone(), digest.clone()));
    }

    /// The error of a push that a signal ended, if that is what `error` means.
    fn interruption(&self, error: &RegistryError, written: &[Reference]) -> Option<PushError> {
        let signal = error.interrupted()?;
        Some(PushError::Interrupted { signal, written: written.to_vec(), uploaded: self.list().clone() })
    }
}

fn check_tags(destinations: &[Reference]) -> Result<(), PushError> {
    match destinations.iter().find(|destination| destination.digest.is_some()) {
        Some(destination) => Err(PushError::Digest { destination: Box::new(destination.clone()) }),
        None => Ok(()),
    }
}

/// The repositories of the destinations, each once, in their order.
fn repositories(destinations: &[Reference]) -> Vec<Reference> {
    let mut repositories: Vec<Reference> = Vec::new();
    for destination in destinations {
        if !repositories.iter().any(|repository| repository.same_repository(destination)) {
            repositories.push(destination.without_tag());
        }
    }
    repositories
}

/// The layers and the config, each once; without the layers that registries do not keep.
fn distinct_blobs(image: &Image) -> Vec<Blob> {
    let mut seen = BTreeSet::new();
    let all = image.blobs.iter().cloned().chain([image.config_blob()]);
    all.filter(|blob| !blob.descriptor.is_foreign() && seen.insert(blob.descriptor.digest.clone())).collect()
}

/// What every blob on its way to one repository needs.
struct BlobPush<'a, S> {
    client: &'a Client,
    progress: &'a Progress,
    store: &'a S,
    repository: &'a Reference,
    /// Repositories that this push has brought all blobs to already.
    filled: &'a [Reference],
}

impl<S: LocalBlobs> BlobPush<'_, S> {
    async fn place_and_note(&self, blob: &Blob, uploaded: &Uploaded) -> Result<(u64, Placed), RegistryError> {
        let placed = self.place(blob).await?;
        if matches!(placed, Placed::Uploaded) {
            uploaded.add(self.repository, &blob.descriptor.digest);
        }
        Ok((blob.descriptor.size, placed))
    }

    async fn place(&self, blob: &Blob) -> Result<Placed, RegistryError> {
        let descriptor = &blob.descriptor;
        let digest = &descriptor.digest;
        let start = digest.hex().get(..12).unwrap_or(digest.hex());
        let label = format!("push {}:{start} to {}", digest.algorithm(), self.repository);
        let size = Bytes(descriptor.size);
        if self.client.blob_exists(self.repository, descriptor).await? {
            self.progress.transfer(label, None).skipped(&format!("{size} exists"));
            return Ok(Placed::Existing);
        }
        let mut session = None;
        for source in self.mount_sources(blob) {
            match self.client.mount_blob(self.repository, descriptor, source).await? {
                Mount::Mounted => {
                    self.progress
                        .transfer(label, None)
                        .skipped(&format!("{size} mounted from {}", source.without_tag()));
                    return Ok(Placed::Mounted);
                }
                Mount::Session(open) => session = Some(open),
                Mount::Refused => {}
            }
        }
        let fetched;
        let source = match &blob.source {
            BlobSource::Registry(reference) => {
                fetched = BlobSource::File(self.store.ensure(self.client, reference, descriptor).await?);
                &fetched
            }
            local => local,
        };
        self.client.upload_blob(self.repository, descriptor, source, session, &label).await?;
        Ok(Placed::Uploaded)
    }

    /// Repositories of the same registry that have the blob: the one it came from, then one that this push filled.
    fn mount_sources<'b>(&'b self, blob: &'b Blob) -> impl Iterator<Item = &'b Reference> {
        let origin = match &blob.source {
            BlobSource::Registry(reference) => Some(reference),
            _ => None,
        };
        let neighbour = self.filled.iter().find(|filled| filled.registry == self.repository.registry);
        origin.into_iter().chain(neighbour).filter(|source| {
            source.registry == self.repository.registry && source.repository != self.repository.repository
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Descriptor, ImageConfig, RootFs, media_type};

    #[test]
    fn repositories_are_pushed_to_once() {
        let parse = |text: &str| Reference::parse(text).unwrap();
        let all = ["r.example/a:1", "r.example/b:1", "r.example/a:2"].map(parse);
        assert_eq!(repositories(&all), ["r.example/a", "r.example/b"].map(parse));
        let pinned = parse("a").with_digest(Digest::sha256_of(b""));
        assert!(matches!(check_tags(&[pinned]), Err(PushError::Digest { .. })));
    }

    #[test]
    fn blobs_are_distinct_and_foreign_layers_stay_where_they_are() {
        let layer = |kind: &str, content: &[u8]| Blob {
            descriptor: Descriptor::of(kind, content),
            source: BlobSource::Bytes(content.to_vec()),
        };
        let layers = vec![
            layer(media_type::OCI_LAYER, b"1"),
            layer(media_type::DOCKER_FOREIGN_LAYER_GZIP, b"2"),
            layer(media_type::OCI_LAYER, b"1"),
        ];
        let diff_ids = vec![Digest::sha256_of(b"d"); 3];
        let config = ImageConfig { rootfs: RootFs { diff_ids, ..RootFs::default() }, ..ImageConfig::default() };
        let image = Image::assemble(config, layers).unwrap();
        assert_eq!(distinct_blobs(&image).len(), 2);
    }
}
