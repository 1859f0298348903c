//! What commands keep in their caches (`RUN --mount=type=cache`), taken from other machines and left to them.
//!
//! A pod begins with empty caches. Before a command uses one, its content is imported from a repository; after the build,
//! what successful commands changed is exported there, one archive for each cache. Who writes last wins: a cache is
//! something that a command can do without. For the same reason nothing here fails a build: a cache that cannot be read
//! begins empty, one that cannot be written is not shared, and a warning says why.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

use crate::cache::{CacheMountContent, Clock, LayerCache, LayerCacheError, PATIENCE, cache_mount};
use crate::diag::progress::Bytes;
use crate::diag::{CacheMountsSummary, Hint, Phase, interrupt, with_causes, with_hint};
use crate::executor::cache_mounts::archive::{CacheArchiveError, pack, unpack};
use crate::executor::cache_mounts::survey::{Survey, survey};
use crate::executor::cache_mounts::{SharedCacheMounts, hold};
use crate::executor::copy::Limits;
use crate::fs::ReadAt;
use crate::image::{AssembleError, Blob, BlobSource, Digest, Platform};
use crate::layer::{self, Layer};
use crate::plan::{Action, MountSource, Plan};
use crate::push::ExistingTags;
use crate::rootfs::Tree;

use super::request::CacheMountsRequest;
use super::session::Session;

/// Files, directories and links that a cache may have. The largest package caches known have some hundred thousand.
const MAX_ENTRIES: u64 = 2_000_000;

/// The shared caches of one build.
pub(super) struct CacheMounts<'a> {
    session: &'a Session,
    request: &'a CacheMountsRequest,
    cache: LayerCache,
    /// Of the caches of the plan: a cache that stages of several platforms use is known by that of the first.
    platforms: HashMap<&'a str, Platform>,
    /// What there is elsewhere, by id: nobody is asked twice.
    found: Mutex<HashMap<String, Arc<OnceLock<Option<CacheMountContent>>>>>,
    directories: Mutex<BTreeMap<PathBuf, Directory>>,
    closed: AtomicUsize,
    told: AtomicBool,
    summary: Mutex<CacheMountsSummary>,
}

/// A cache's directory that the build has used. A private cache may have several.
#[derive(Default)]
struct Directory {
    id: String,
    /// An import was tried: one that a command emptied stays empty.
    tried: bool,
    /// The archive that it was made of, and what its file system cannot hold of that.
    imported: Option<(Digest, Tree)>,
    /// What it looked like when the first command got it.
    before: Option<Survey>,
    /// When a command that succeeded gave it back, by a number that grows.
    closed: Option<usize>,
    /// A command that failed may have left anything in it.
    is_spoiled: bool,
}

/// Why a cache was not exported.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Archive(#[from] CacheArchiveError),
    #[error(transparent)]
    Lock(#[from] crate::executor::StepError),
    #[error(transparent)]
    Rootfs(#[from] crate::rootfs::RootfsError),
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    #[error("it has {}, more than --cache-mounts-limit ({})", Bytes(*size), Bytes(*limit))]
    TooLarge { size: u64, limit: u64 },
    #[error("it has {entries} files, more than {MAX_ENTRIES}")]
    TooMany { entries: u64 },
    #[error("another build is using it")]
    InUse,
}

impl Hint for ExportError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Archive(error) => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::Rootfs(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Assemble(_) | Self::TooLarge { .. } | Self::TooMany { .. } | Self::InUse => None,
        }
    }
}

impl<'a> CacheMounts<'a> {
    pub(super) fn new(request: &'a CacheMountsRequest, session: &'a Session, plan: &'a Plan) -> Self {
        // For the entries of steps: caches do not expire.
        let clock = Clock { lifetime: std::time::Duration::MAX, now: session.now };
        Self {
            // Whatever cannot be read or written soon is done without, the archives included.
            cache: LayerCache::new(session.client.with_max_attempts(PATIENCE), request.location.clone(), clock)
                .authenticated(request.authenticator.clone()),
            platforms: platforms(plan),
            found: Mutex::default(),
            directories: Mutex::default(),
            closed: AtomicUsize::new(0),
            told: AtomicBool::new(false),
            summary: Mutex::default(),
            session,
            request,
        }
    }

    /// What was done.
    pub(super) fn summary(&self) -> CacheMountsSummary {
        *self.counted()
    }

    /// Exports what successful commands changed. After a signal nothing is written.
    pub(super) fn finish(&self) {
        let directories = std::mem::take(&mut *self.directories());
        if !self.request.write {
            return;
        }
        for (path, directory) in latest(directories) {
            if interrupt::requested().is_some() {
                return;
            }
            let id = directory.id.clone();
            let spool = self.session.directory().join("cache-mount");
            let result = self.export(&path, directory, &spool);
            // There may be no file: then there is nothing to be removed.
            drop(crate::fs::remove_file(&spool));
            self.session.progress.disk_use(&spool, 0);
            match result {
                Ok(()) => {}
                Err(error) if interrupt::requested().is_some() => tracing::debug!("{}", with_causes(&error)),
                Err(error) => tracing::warn!("the cache {id} is not exported: {}", with_hint(&error)),
            }
        }
    }

    fn export(&self, path: &Path, directory: Directory, spool: &Path) -> Result<(), ExportError> {
        let id = directory.id.clone();
        let Some((size, layer)) = self.packed(path, directory, spool)? else {
            tracing::debug!("the cache {id} has not changed");
            self.counted().unchanged += 1;
            return Ok(());
        };
        let platform = self.platform(&id);
        let blob = Blob { descriptor: layer.descriptor.clone(), source: BlobSource::File(layer.path) };
        let tag = cache_mount::tag(&id, &platform);
        let (layer, diff_id) = (layer.descriptor, layer.diff_id);
        let sent = layer.size;
        let content = CacheMountContent { id, platform, layer, diff_id, created: self.session.now, size };
        let image = content.to_image(blob)?;
        let location = self.cache.location();
        let written = self.cache.put(image, vec![tag], ExistingTags::Replace, &self.session.store);
        match self.session.runtime.block_on(written) {
            Ok(()) => {
                let mut summary = self.counted();
                summary.exported += 1;
                summary.exported_size += size;
                drop(summary);
                let (id, size, sent) = (&content.id, Bytes(size), Bytes(sent));
                self.session
                    .progress
                    .line(format_args!("cache mount {id}: exported {size} to {location} ({sent} packed)"));
            }
            Err(error) => self.tell("written", &with_hint(&error)),
        }
        Ok(())
    }

    /// The bytes of a directory's files and their archive; nothing if it holds what it held.
    fn packed(&self, path: &Path, directory: Directory, spool: &Path) -> Result<Option<(u64, Layer)>, ExportError> {
        let Some(_held) = hold(path)? else { return Err(ExportError::InUse) };
        let after = survey(path)?;
        if directory.before == Some(after) {
            return Ok(None);
        }
        if after.bytes > self.request.limit {
            return Err(ExportError::TooLarge { size: after.bytes, limit: self.request.limit });
        }
        if after.entries > MAX_ENTRIES {
            return Err(ExportError::TooMany { entries: after.entries });
        }
        let (imported, tree) = match directory.imported {
            Some((diff_id, tree)) => (Some(diff_id), tree.moved_to(path)?),
            None => (None, Tree::open(path)?),
        };
        let layer = pack(&tree, spool)?;
        self.session.progress.disk_use(spool, layer.descriptor.size);
        // Touched, and the same for all that.
        if imported.as_ref() == Some(&layer.diff_id) {
            return Ok(None);
        }
        // Nobody with this limit would fetch it.
        if layer.descriptor.size > self.request.limit {
            return Err(ExportError::TooLarge { size: layer.descriptor.size, limit: self.request.limit });
        }
        Ok(Some((after.bytes, layer)))
    }

    /// What there is of a cache elsewhere.
    fn look_up(&self, id: &str) -> Option<CacheMountContent> {
        let found = Arc::clone(self.found.lock().entry(id.to_owned()).or_default());
        found.get_or_init(|| self.ask_for(id)).clone()
    }

    fn ask_for(&self, id: &str) -> Option<CacheMountContent> {
        let platform = self.platform(id);
        let manifest = match self.session.runtime.block_on(self.cache.manifest(&cache_mount::tag(id, &platform))) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                tracing::debug!("the cache {id} is not in {}", self.cache.location());
                return None;
            }
            Err(LayerCacheError::Unauthentic { source, .. }) => {
                self.begins_empty(id, &source.to_string());
                return None;
            }
            Err(error) => {
                self.tell("read", &with_hint(&error));
                return None;
            }
        };
        let limit = self.request.limit;
        match CacheMountContent::read(id, &platform, &manifest) {
            Ok(content) if content.size > limit || content.layer.size > limit => {
                let size = Bytes(content.size.max(content.layer.size));
                self.begins_empty(id, &format!("it has {size}, more than --cache-mounts-limit ({})", Bytes(limit)));
                None
            }
            Ok(content) => Some(content),
            Err(miss) => {
                self.begins_empty(id, &miss.to_string());
                None
            }
        }
    }

    fn unpacked(&self, content: &CacheMountContent, file: &Path, new: &Path) -> Result<Tree, CacheArchiveError> {
        let opened: Arc<dyn ReadAt> = Arc::new(crate::fs::open(file)?);
        let archive = layer::read_ahead(&opened, &content.layer.media_type, Some(&content.diff_id))?;
        unpack(new, archive, Limits { entries: MAX_ENTRIES, bytes: self.request.limit })
    }

    fn platform(&self, id: &str) -> Platform {
        self.platforms.get(id).cloned().unwrap_or_else(Platform::host)
    }

    /// A place that cannot be read or written is told of once.
    fn tell(&self, what: &str, problem: &str) {
        let place = self.cache.location();
        if interrupt::requested().is_some() || self.told.swap(true, Ordering::Relaxed) {
            tracing::debug!("the cache mounts in {place} cannot be {what}: {problem}");
        } else {
            tracing::warn!("the cache mounts in {place} cannot be {what}: {problem}");
        }
    }

    fn begins_empty(&self, id: &str, problem: &str) {
        tracing::warn!("the cache {id} is not imported from {}: {problem}", self.cache.location());
    }

    fn directories(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Directory>> {
        self.directories.lock()
    }

    fn counted(&self) -> MutexGuard<'_, CacheMountsSummary> {
        self.summary.lock()
    }
}

impl SharedCacheMounts for CacheMounts<'_> {
    fn import(&self, id: &str, directory: &Path, new: &Path) -> bool {
        {
            let mut directories = self.directories();
            let directory = directories.entry(directory.to_owned()).or_default();
            if !self.request.read || std::mem::replace(&mut directory.tried, true) {
                return false;
            }
        }
        let _phase = self.session.progress.phase(Phase::Cache);
        let Some(content) = self.look_up(id) else { return false };
        let file = match self.session.runtime.block_on(self.cache.file(&content.layer, &self.session.store)) {
            Ok(file) => file,
            Err(error) => {
                self.tell("read", &with_hint(&error));
                return false;
            }
        };
        self.session.progress.disk_use(&file, content.layer.size);
        let tree = match self.unpacked(&content, &file, new) {
            Ok(tree) => tree,
            Err(error) => {
                if interrupt::requested().is_none() {
                    self.begins_empty(id, &with_hint(&error));
                }
                if crate::fs::gated::exists(new)
                    && let Err(error) = crate::fs::remove_dir_all(new)
                {
                    tracing::warn!("left behind: {}", with_causes(&error));
                }
                return false;
            }
        };
        let mut summary = self.counted();
        summary.imported += 1;
        summary.imported_size += content.size;
        drop(summary);
        self.session.progress.disk_use(directory, content.size);
        let (size, place) = (Bytes(content.size), self.cache.location());
        self.session.progress.line(format_args!("cache mount {id}: imported {size} from {place}"));
        self.directories().entry(directory.to_owned()).or_default().imported = Some((content.diff_id, tree));
        true
    }

    fn opened(&self, id: &str, directory: &Path) {
        {
            let mut directories = self.directories();
            let known = directories.entry(directory.to_owned()).or_default();
            known.id = id.to_owned();
            if known.before.is_some() || !self.request.write {
                return;
            }
        }
        // Others may look at theirs meanwhile. Of two who look at the same, no command has run before both have begun.
        match survey(directory) {
            Ok(found) => drop(self.directories().entry(directory.to_owned()).or_default().before.get_or_insert(found)),
            Err(error) => tracing::debug!("the cache {id} cannot be looked at: {}", with_causes(&error)),
        }
    }

    fn closed(&self, directory: &Path, succeeded: bool) {
        let number = self.closed.fetch_add(1, Ordering::Relaxed);
        let mut directories = self.directories();
        let known = directories.entry(directory.to_owned()).or_default();
        match succeeded {
            true => known.closed = Some(number),
            false => known.is_spoiled = true,
        }
    }
}

/// The directories that can be exported: of each cache the one that was used last.
fn latest(directories: BTreeMap<PathBuf, Directory>) -> Vec<(PathBuf, Directory)> {
    let mut usable: Vec<(PathBuf, Directory)> =
        directories.into_iter().filter(|(_, known)| known.closed.is_some() && !known.is_spoiled).collect();
    usable.sort_by(|(_, one), (_, other)| (&one.id, other.closed).cmp(&(&other.id, one.closed)));
    usable.dedup_by(|(_, later), (_, first)| later.id == first.id);
    usable
}

/// Whose commands use the caches of a plan.
fn platforms(plan: &Plan) -> HashMap<&str, Platform> {
    let mut platforms = HashMap::new();
    for (position, step) in plan.steps() {
        let Action::Run(run) = &step.action else { continue };
        for mount in &run.mounts {
            if let MountSource::Cache { id, .. } = &mount.source {
                let platform = || plan.stages[position.stage].config.platform();
                platforms.entry(id.as_str()).or_insert_with(platform);
            }
        }
    }
    platforms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_cache_the_directory_that_was_used_last_is_exported() {
        let directory =
            |id: &str, closed, is_spoiled| Directory { id: id.to_owned(), closed, is_spoiled, ..Directory::default() };
        let directories = [
            ("a", directory("private", Some(0), false)),
            ("a-1", directory("private", Some(3), false)),
            ("a-2", directory("private", Some(4), true)),
            ("a-3", directory("private", Some(1), false)),
            ("b", directory("other", Some(2), false)),
            ("c", directory("never closed", None, false)),
            ("d", directory("spoiled", Some(5), true)),
        ];
        let directories = directories.into_iter().map(|(path, directory)| (PathBuf::from(path), directory));
        let found: Vec<PathBuf> = latest(directories.collect()).into_iter().map(|(path, _)| path).collect();
        assert_eq!(found, ["b", "a-1"].map(PathBuf::from));
    }
}
