//! Deletes entries that builds no longer use.
//!
//! It only considers what this program wrote: tags that are keys, records of last builds, and cache mounts. In a
//! repository, manifests are deleted; the registry's garbage collection removes their layers. In a directory, layers
//! are deleted as well, except recent ones, to which a build may be about to add a name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::fs::{failed_to, gated as fs};
use crate::image::layout::{LayoutReader, REF_NAME, remove_leftovers, write_index};
use crate::image::{Digest, Index, Manifest, Reference};
use crate::registry::Client;

use super::error::LayerCacheError;
use super::key::Key;
use super::layer_cache::{CacheLocation, Clock};
use super::layer_image::{created, embedded_config};
use super::layout::locked;
use super::{bases, cache_mount, record};

/// The number of entries that are inspected or deleted at a time.
const CONCURRENT: usize = 8;
/// A blob that is newer may belong to an entry that is being written.
const MIN_AGE: Duration = Duration::from_secs(60 * 60);

/// The entries that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneRule {
    /// Entries older than their lifetime are deleted.
    pub clock: Clock,
    /// Of the others, this many of the newest are kept; `None` keeps all.
    pub keep: Option<usize>,
}

/// The result of pruning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// The number of entries that are kept.
    pub kept: usize,
    /// The number of deleted entries.
    pub deleted: usize,
    /// Bytes of deleted files, for a directory.
    pub freed: u64,
}

/// Deletes the entries of a cache that `rule` does not keep.
///
/// # Errors
/// The cache cannot be read, or does not allow deletion.
pub async fn prune(client: &Client, location: &CacheLocation, rule: PruneRule) -> Result<Pruned, LayerCacheError> {
    match location {
        CacheLocation::Repository(repository) => prune_repository(client, repository, rule).await,
        CacheLocation::Directory(directory) => {
            let directory = directory.clone();
            let pruned = tokio::task::spawn_blocking(move || prune_directory(&directory, rule));
            pruned.await.map_err(|_ended| LayerCacheError::Thread)?
        }
    }
}

/// Entries by the digest of their manifest, with their creation time: 0 if it is unknown.
type Entries = BTreeMap<Digest, i64>;

async fn prune_repository(client: &Client, repository: &Reference, rule: PruneRule) -> Result<Pruned, LayerCacheError> {
    let tags: Vec<String> = client.tags(repository).await?.into_iter().filter(|tag| is_ours(tag)).collect();
    let read = tags.into_iter().map(|tag| {
        let reference = repository.with_tag(tag);
        async move { client.read_manifest(&reference).await }
    });
    let manifests: Vec<Option<Vec<u8>>> =
        stream::iter(read.collect::<Vec<_>>()).buffered(CONCURRENT).try_collect().await?;
    let entries: Entries =
        manifests.iter().flatten().map(|manifest| (Digest::sha256_of(manifest), time_of(manifest))).collect();
    let entries_to_delete = entries_to_delete(&entries, rule);
    let mut deleted = 0;
    for digest in &entries_to_delete {
        let result = client.delete_manifest(&repository.without_tag().with_digest(digest.clone())).await;
        let is_deleted = result.map_err(|source| match source.status() {
            Some(405 | 501) => LayerCacheError::NoDelete { repository: repository.name(), source },
            _ => source.into(),
        })?;
        deleted += usize::from(is_deleted);
    }
    Ok(Pruned { kept: entries.len() - entries_to_delete.len(), deleted, freed: 0 })
}

fn prune_directory(directory: &Path, rule: PruneRule) -> Result<Pruned, LayerCacheError> {
    locked(directory, || {
        let reader = LayoutReader::open(directory)?;
        let mut index = reader.index()?;
        let mut entries = Entries::new();
        for descriptor in &index.manifests {
            if descriptor.annotations.get(REF_NAME).is_some_and(|name| is_ours(name)) {
                // An unreadable entry is useless, so it counts as the oldest.
                let time = reader.read_document(descriptor).map_or(0, |manifest| time_of(&manifest));
                entries.insert(descriptor.digest.clone(), time);
            }
        }
        let entries_to_delete = entries_to_delete(&entries, rule);
        index.manifests.retain(|descriptor| !entries_to_delete.contains(&descriptor.digest));
        write_index(directory, &index)?;
        remove_leftovers(directory);
        let freed = remove_unreferenced(directory, &reader, &index)?;
        Ok(Pruned { kept: entries.len() - entries_to_delete.len(), deleted: entries_to_delete.len(), freed })
    })
}

/// Removes the blobs that no manifest of the index references.
fn remove_unreferenced(directory: &Path, reader: &LayoutReader, index: &Index) -> Result<u64, LayerCacheError> {
    let mut used: BTreeSet<String> = BTreeSet::new();
    for descriptor in &index.manifests {
        used.insert(descriptor.digest.hex().to_owned());
        if let Ok(manifest) = reader.manifest(descriptor) {
            let parts = manifest.layers.iter().chain([&manifest.config]);
            used.extend(parts.map(|part| part.digest.hex().to_owned()));
        }
    }
    let blobs = directory.join("blobs").join("sha256");
    let mut freed = 0;
    for entry in fs::read_dir(&blobs).map_err(failed_to("list", &blobs))? {
        let entry = entry.map_err(failed_to("list", &blobs))?;
        let path = entry.path();
        let metadata = match entry.metadata() {
            // A temporary file has been renamed meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(failed_to("look at", &path))?,
        };
        let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        let is_old = age.is_some_and(|age| age > MIN_AGE);
        if !used.contains(&*entry.file_name().to_string_lossy()) && is_old && metadata.is_file() {
            fs::remove_file(&path).map_err(failed_to("remove", &path))?;
            freed += metadata.len();
        }
    }
    Ok(freed)
}

/// Reports whether this program uses such names.
fn is_ours(name: &str) -> bool {
    name.parse::<Key>().is_ok() || record::is_tag(name) || bases::is_tag(name) || cache_mount::is_tag(name)
}

fn time_of(manifest: &[u8]) -> i64 {
    let manifest = serde_json::from_slice::<Manifest>(manifest).ok();
    let config = manifest.and_then(|manifest| embedded_config(&manifest.config).ok());
    config.and_then(|config| created(&config)).unwrap_or_default()
}

fn entries_to_delete(entries: &Entries, rule: PruneRule) -> BTreeSet<Digest> {
    let mut newest: Vec<(&Digest, i64)> = entries.iter().map(|(digest, time)| (digest, *time)).collect();
    newest.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    let oldest = rule.clock.now.saturating_sub(i64::try_from(rule.clock.lifetime.as_secs()).unwrap_or(i64::MAX));
    let stays = |(location, (_, time)): &(usize, (&Digest, i64))| {
        *time >= oldest && rule.keep.is_none_or(|keep| *location < keep)
    };
    let goes = newest.into_iter().enumerate().filter(|entry| !stays(entry));
    goes.map(|(_, (digest, _))| digest.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Platform;

    #[test]
    fn old_entries_are_deleted_and_then_all_but_the_newest() {
        let digest = |time: i64| Digest::sha256_of(&time.to_be_bytes());
        let entries: Entries = [0, 50, 60, 90].map(|time| (digest(time), time)).into();
        let rule =
            |lifetime, keep| PruneRule { clock: Clock { lifetime: Duration::from_secs(lifetime), now: 100 }, keep };
        let set = |times: &[i64]| times.iter().map(|time| digest(*time)).collect::<BTreeSet<_>>();
        assert_eq!(entries_to_delete(&entries, rule(50, None)), set(&[0]));
        assert_eq!(entries_to_delete(&entries, rule(45, None)), set(&[0, 50]));
        assert_eq!(entries_to_delete(&entries, rule(1000, Some(1))), set(&[0, 50, 60]));
        assert_eq!(entries_to_delete(&entries, rule(1000, None)), set(&[]));
        assert_eq!(entries_to_delete(&entries, rule(1000, Some(0))).len(), 4);
    }

    #[test]
    fn only_our_own_names_are_considered() {
        assert!(is_ours(&"a".repeat(64)) && is_ours(&format!("last-{}", "0".repeat(32))));
        assert!(is_ours(&bases::BaseConfigurations::tag("Dockerfile", None, &Platform::host())));
        assert!(is_ours(&cache_mount::tag("/root/.cache", &Platform::host())));
        assert!(!is_ours("latest") && !is_ours("1.0") && !is_ours("last-week"));
    }
}
