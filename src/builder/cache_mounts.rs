//! Imports the content of cache mounts (`RUN --mount=type=cache`) from a repository, and exports it after the build.
//!
//! A pod starts with empty cache mounts. The content is imported before a command first uses a cache mount. After the
//! build, content that successful commands changed is exported, as one archive for each cache mount. The last writer
//! wins. Cache mounts are optional for a command, so nothing here fails a build: one that cannot be imported is empty,
//! one that cannot be exported is not shared, and a warning says why.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

use crate::cache::{CacheMountContent, Clock, LayerCache, LayerCacheError, MAX_ATTEMPTS, cache_mount};
use crate::diag::progress::Bytes;
use crate::diag::{CacheMountsSummary, Hint, Phase, interrupt, with_causes, with_hint};
use crate::executor::cache_mounts::archive::{pack, unpack};
use crate::executor::cache_mounts::error::CacheArchiveError;
use crate::executor::cache_mounts::survey::{Survey, survey};
use crate::executor::cache_mounts::{SharedCacheMounts, lock_exclusively};
use crate::executor::copy::UnpackLimits;
use crate::fs::ReadAt;
use crate::image::{AssembleError, Blob, BlobSource, Digest, Platform};
use crate::layer::{self, Layer};
use crate::plan::{Action, MountSource, Plan};
use crate::push::ExistingTags;
use crate::rootfs::Tree;

use super::request::CacheMountsRequest;
use super::session::Session;

/// The most files, directories and links of a cache mount. The largest known package caches have a few hundred
/// thousand.
const MAX_ENTRIES: u64 = 2_000_000;

/// The cache mounts of one build.
pub(super) struct CacheMounts<'a> {
    session: &'a Session,
    request: &'a CacheMountsRequest,
    cache: LayerCache,
    /// The platform of each cache mount: that of the first stage that uses it.
    platforms: HashMap<&'a str, Platform>,
    /// The content in the repository by id. Each id is requested once.
    found: Mutex<HashMap<String, Arc<OnceLock<Option<CacheMountContent>>>>>,
    directories: Mutex<BTreeMap<PathBuf, UsedDirectory>>,
    closed: AtomicUsize,
    warned: AtomicBool,
    summary: Mutex<CacheMountsSummary>,
}

/// A directory of a cache mount that the build used. A private cache mount may have several.
#[derive(Default)]
struct UsedDirectory {
    id: String,
    /// An import was tried. If a command empties the directory, it stays empty.
    import_tried: bool,
    /// The digest of the imported archive, and the tree with metadata that this file system cannot store.
    imported: Option<(Digest, Tree)>,
    /// The state before the first command.
    before: Option<Survey>,
    /// The order in which a successful command last finished with it.
    closed: Option<usize>,
    /// A command that used it failed, so its content is unreliable.
    is_spoiled: bool,
}

/// Why a cache mount was not exported.
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
        // As for the entries of steps, but cache mounts do not expire.
        let clock = Clock { lifetime: std::time::Duration::MAX, now: session.now };
        Self {
            // Imports and exports are optional, so failed requests are repeated only a few times.
            cache: LayerCache::new(session.client.with_max_attempts(MAX_ATTEMPTS), request.location.clone(), clock)
                .authenticated(request.authenticator.clone()),
            platforms: platforms(plan),
            found: Mutex::default(),
            directories: Mutex::default(),
            closed: AtomicUsize::new(0),
            warned: AtomicBool::new(false),
            summary: Mutex::default(),
            session,
            request,
        }
    }

    /// Returns the numbers of imports and exports.
    pub(super) fn summary(&self) -> CacheMountsSummary {
        *self.counted()
    }

    /// Exports the content that successful commands changed. After a signal, nothing is written.
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
            // The file may not exist.
            drop(crate::fs::remove_file(&spool));
            self.session.progress.disk_use(&spool, 0);
            match result {
                Ok(()) => {}
                Err(error) if interrupt::requested().is_some() => tracing::debug!("{}", with_causes(&error)),
                Err(error) => tracing::warn!("cache mount {id}: not exported: {}", with_hint(&error)),
            }
        }
    }

    fn export(&self, path: &Path, directory: UsedDirectory, spool: &Path) -> Result<(), ExportError> {
        let id = directory.id.clone();
        let Some((size, layer)) = self.packed(path, directory, spool)? else {
            tracing::debug!("cache mount {id}: unchanged");
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
            Err(error) => self.warn_once("written", &with_hint(&error)),
        }
        Ok(())
    }

    /// Returns the size of a directory's files and their archive, or `None` if the content is unchanged.
    fn packed(&self, path: &Path, directory: UsedDirectory, spool: &Path) -> Result<Option<(u64, Layer)>, ExportError> {
        let Some(_held) = lock_exclusively(path)? else { return Err(ExportError::InUse) };
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
        // Times changed, but the content did not.
        if imported.as_ref() == Some(&layer.diff_id) {
            return Ok(None);
        }
        // No build with the same limit would import it.
        if layer.descriptor.size > self.request.limit {
            return Err(ExportError::TooLarge { size: layer.descriptor.size, limit: self.request.limit });
        }
        Ok(Some((after.bytes, layer)))
    }

    /// Returns the content of a cache mount in the repository.
    fn content_of(&self, id: &str) -> Option<CacheMountContent> {
        let found = Arc::clone(self.found.lock().entry(id.to_owned()).or_default());
        found.get_or_init(|| self.request_content(id)).clone()
    }

    fn request_content(&self, id: &str) -> Option<CacheMountContent> {
        let platform = self.platform(id);
        let manifest = match self.session.runtime.block_on(self.cache.manifest(&cache_mount::tag(id, &platform))) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                tracing::debug!("cache mount {id}: not found in {}", self.cache.location());
                return None;
            }
            Err(LayerCacheError::Unauthentic { source, .. }) => {
                self.report_failed_import(id, &source.to_string());
                return None;
            }
            Err(error) => {
                self.warn_once("read", &with_hint(&error));
                return None;
            }
        };
        let limit = self.request.limit;
        match CacheMountContent::read(id, &platform, &manifest) {
            Ok(content) if content.size > limit || content.layer.size > limit => {
                let size = Bytes(content.size.max(content.layer.size));
                self.report_failed_import(
                    id,
                    &format!("it has {size}, more than --cache-mounts-limit ({})", Bytes(limit)),
                );
                None
            }
            Ok(content) => Some(content),
            Err(miss) => {
                self.report_failed_import(id, &miss.to_string());
                None
            }
        }
    }

    fn unpacked(&self, content: &CacheMountContent, file: &Path, new: &Path) -> Result<Tree, CacheArchiveError> {
        let opened: Arc<dyn ReadAt> = Arc::new(crate::fs::open(file)?);
        let archive = layer::read_ahead(&opened, &content.layer.media_type, Some(&content.diff_id))?;
        unpack(new, archive, UnpackLimits { entries: MAX_ENTRIES, bytes: self.request.limit })
    }

    fn platform(&self, id: &str) -> Platform {
        self.platforms.get(id).cloned().unwrap_or_else(Platform::host)
    }

    /// Warns once about a location that cannot be read or written.
    fn warn_once(&self, operation: &str, problem: &str) {
        let location = self.cache.location();
        if interrupt::requested().is_some() || self.warned.swap(true, Ordering::Relaxed) {
            tracing::debug!("the cache mounts in {location} cannot be {operation}: {problem}");
        } else {
            tracing::warn!("the cache mounts in {location} cannot be {operation}: {problem}");
        }
    }

    fn report_failed_import(&self, id: &str, problem: &str) {
        tracing::warn!("cache mount {id}: not imported from {}: {problem}", self.cache.location());
    }

    fn directories(&self) -> MutexGuard<'_, BTreeMap<PathBuf, UsedDirectory>> {
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
            if !self.request.read || std::mem::replace(&mut directory.import_tried, true) {
                return false;
            }
        }
        let _phase = self.session.progress.phase(Phase::Cache);
        let Some(content) = self.content_of(id) else { return false };
        let file = match self.session.runtime.block_on(self.cache.file(&content.layer, &self.session.store)) {
            Ok(file) => file,
            Err(error) => {
                self.warn_once("read", &with_hint(&error));
                return false;
            }
        };
        self.session.progress.disk_use(&file, content.layer.size);
        let tree = match self.unpacked(&content, &file, new) {
            Ok(tree) => tree,
            Err(error) => {
                if interrupt::requested().is_none() {
                    self.report_failed_import(id, &with_hint(&error));
                }
                if crate::fs::gated::exists(new)
                    && let Err(error) = crate::fs::remove_dir_all(new)
                {
                    tracing::warn!("could not remove a failed import: {}", with_causes(&error));
                }
                return false;
            }
        };
        let mut summary = self.counted();
        summary.imported += 1;
        summary.imported_size += content.size;
        drop(summary);
        self.session.progress.disk_use(directory, content.size);
        let (size, location) = (Bytes(content.size), self.cache.location());
        self.session.progress.line(format_args!("cache mount {id}: imported {size} from {location}"));
        self.directories().entry(directory.to_owned()).or_default().imported = Some((content.diff_id, tree));
        true
    }

    fn opened(&self, id: &str, directory: &Path) {
        {
            let mut directories = self.directories();
            let used = directories.entry(directory.to_owned()).or_default();
            used.id = id.to_owned();
            if used.before.is_some() || !self.request.write {
                return;
            }
        }
        // Other commands may survey their directories meanwhile. If two survey the same one, neither has started yet.
        match survey(directory) {
            Ok(found) => drop(self.directories().entry(directory.to_owned()).or_default().before.get_or_insert(found)),
            Err(error) => tracing::debug!("cache mount {id}: failed to survey the directory: {}", with_causes(&error)),
        }
    }

    fn closed(&self, directory: &Path, succeeded: bool) {
        let number = self.closed.fetch_add(1, Ordering::Relaxed);
        let mut directories = self.directories();
        let used = directories.entry(directory.to_owned()).or_default();
        match succeeded {
            true => used.closed = Some(number),
            false => used.is_spoiled = true,
        }
    }
}

/// Returns the directories that can be exported: for each cache mount the one that was used last.
fn latest(directories: BTreeMap<PathBuf, UsedDirectory>) -> Vec<(PathBuf, UsedDirectory)> {
    let mut usable: Vec<(PathBuf, UsedDirectory)> =
        directories.into_iter().filter(|(_, used)| used.closed.is_some() && !used.is_spoiled).collect();
    usable.sort_by(|(_, one), (_, other)| (&one.id, other.closed).cmp(&(&other.id, one.closed)));
    usable.dedup_by(|(_, later), (_, first)| later.id == first.id);
    usable
}

/// Returns the platform of each cache mount of a plan.
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
    fn the_directory_that_was_used_last_is_exported() {
        let directory = |id: &str, closed, is_spoiled| UsedDirectory {
            id: id.to_owned(),
            closed,
            is_spoiled,
            ..UsedDirectory::default()
        };
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
