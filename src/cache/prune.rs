//! Deleting what nobody will take from a cache any more.
//!
//! Only what this program wrote is looked at: tags that are keys, what is known of last builds, and caches of commands. In a
//! repository manifests are deleted; their layers go when the registry next collects its garbage. In a directory the layers go
//! too, but for those so young that a build may be about to name them.

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

/// How many entries are looked at or deleted at once.
const CONCURRENT: usize = 8;
/// A blob younger than this may belong to an entry that is being written.
const YOUTH: Duration = Duration::from_secs(60 * 60);

/// What stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Entries older than their lifetime go.
    pub clock: Clock,
    /// Of the others, only so many of the newest stay.
    pub keep: Option<usize>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Entries that stay.
    pub kept: usize,
    /// Entries that went.
    pub deleted: usize,
    /// Bytes of files that went, of a directory.
    pub freed: u64,
}

/// Deletes from a cache what a rule does not let stay.
///
/// # Errors
/// It cannot be read, or does not delete.
pub async fn prune(client: &Client, place: &CacheLocation, rule: Rule) -> Result<Pruned, LayerCacheError> {
    match place {
        CacheLocation::Repository(repository) => prune_repository(client, repository, rule).await,
        CacheLocation::Directory(directory) => {
            let directory = directory.clone();
            let pruned = tokio::task::spawn_blocking(move || prune_directory(&directory, rule));
            pruned.await.map_err(|_ended| LayerCacheError::Thread)?
        }
    }
}

/// Entries by the digest of their manifest, with the time at which they were made: 0 where they do not say.
type Entries = BTreeMap<Digest, i64>;

async fn prune_repository(client: &Client, repository: &Reference, rule: Rule) -> Result<Pruned, LayerCacheError> {
    let tags: Vec<String> = client.tags(repository).await?.into_iter().filter(|tag| is_ours(tag)).collect();
    let read = tags.into_iter().map(|tag| {
        let reference = repository.with_tag(tag);
        async move { client.read_manifest(&reference).await }
    });
    let manifests: Vec<Option<Vec<u8>>> =
        stream::iter(read.collect::<Vec<_>>()).buffered(CONCURRENT).try_collect().await?;
    let entries: Entries =
        manifests.iter().flatten().map(|manifest| (Digest::sha256_of(manifest), time_of(manifest))).collect();
    let condemned = condemned(&entries, rule);
    let mut deleted = 0;
    for digest in &condemned {
        let gone = client.delete_manifest(&repository.without_tag().with_digest(digest.clone())).await;
        let gone = gone.map_err(|source| match source.status() {
            Some(405 | 501) => LayerCacheError::NoDelete { repository: repository.name(), source },
            _ => source.into(),
        })?;
        deleted += usize::from(gone);
    }
    Ok(Pruned { kept: entries.len() - condemned.len(), deleted, freed: 0 })
}

fn prune_directory(directory: &Path, rule: Rule) -> Result<Pruned, LayerCacheError> {
    locked(directory, || {
        let reader = LayoutReader::open(directory)?;
        let mut index = reader.index()?;
        let mut entries = Entries::new();
        for descriptor in &index.manifests {
            if descriptor.annotations.get(REF_NAME).is_some_and(|name| is_ours(name)) {
                // One that cannot be read is of no use to anybody.
                let time = reader.read_document(descriptor).map_or(0, |manifest| time_of(&manifest));
                entries.insert(descriptor.digest.clone(), time);
            }
        }
        let condemned = condemned(&entries, rule);
        index.manifests.retain(|descriptor| !condemned.contains(&descriptor.digest));
        write_index(directory, &index)?;
        remove_leftovers(directory);
        let freed = remove_unreferenced(directory, &reader, &index)?;
        Ok(Pruned { kept: entries.len() - condemned.len(), deleted: condemned.len(), freed })
    })
}

/// Removes the blobs that no manifest of the index leads to.
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
            // What is being written has another name by now.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(failed_to("look at", &path))?,
        };
        let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        let is_old = age.is_some_and(|age| age > YOUTH);
        if !used.contains(&*entry.file_name().to_string_lossy()) && is_old && metadata.is_file() {
            fs::remove_file(&path).map_err(failed_to("remove", &path))?;
            freed += metadata.len();
        }
    }
    Ok(freed)
}

/// Whether a name is one that this program gives.
fn is_ours(name: &str) -> bool {
    name.parse::<Key>().is_ok() || record::is_tag(name) || bases::is_tag(name) || cache_mount::is_tag(name)
}

fn time_of(manifest: &[u8]) -> i64 {
    let manifest = serde_json::from_slice::<Manifest>(manifest).ok();
    let config = manifest.and_then(|manifest| embedded_config(&manifest.config).ok());
    config.and_then(|config| created(&config)).unwrap_or_default()
}

fn condemned(entries: &Entries, rule: Rule) -> BTreeSet<Digest> {
    let mut newest: Vec<(&Digest, i64)> = entries.iter().map(|(digest, time)| (digest, *time)).collect();
    newest.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    let oldest = rule.clock.now.saturating_sub(i64::try_from(rule.clock.lifetime.as_secs()).unwrap_or(i64::MAX));
    let stays =
        |(place, (_, time)): &(usize, (&Digest, i64))| *time >= oldest && rule.keep.is_none_or(|keep| *place < keep);
    let goes = newest.into_iter().enumerate().filter(|entry| !stays(entry));
    goes.map(|(_, (digest, _))| digest.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Platform;

    #[test]
    fn the_old_go_and_then_all_but_the_newest() {
        let digest = |time: i64| Digest::sha256_of(&time.to_be_bytes());
        let entries: Entries = [0, 50, 60, 90].map(|time| (digest(time), time)).into();
        let rule = |lifetime, keep| Rule { clock: Clock { lifetime: Duration::from_secs(lifetime), now: 100 }, keep };
        let set = |times: &[i64]| times.iter().map(|time| digest(*time)).collect::<BTreeSet<_>>();
        assert_eq!(condemned(&entries, rule(50, None)), set(&[0]));
        assert_eq!(condemned(&entries, rule(45, None)), set(&[0, 50]));
        assert_eq!(condemned(&entries, rule(1000, Some(1))), set(&[0, 50, 60]));
        assert_eq!(condemned(&entries, rule(1000, None)), set(&[]));
        assert_eq!(condemned(&entries, rule(1000, Some(0))).len(), 4);
    }

    #[test]
    fn only_names_of_our_own_are_looked_at() {
        assert!(is_ours(&"a".repeat(64)) && is_ours(&format!("last-{}", "0".repeat(32))));
        assert!(is_ours(&bases::BaseConfigurations::tag("Dockerfile", None, &Platform::host())));
        assert!(is_ours(&cache_mount::tag("/root/.cache", &Platform::host())));
        assert!(!is_ours("latest") && !is_ours("1.0") && !is_ours("last-week"));
    }
}
