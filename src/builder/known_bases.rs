//! Reads the configurations of the last build's base images from the cache, while the images' manifests are being
//! fetched. If those are unchanged, an unchanged build fetches no blobs.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use crate::cache::{BaseConfigurations, Clock, LayerCache};
use crate::image::Digest;
use crate::plan;

use super::dockerfile;
use super::request::BuildRequest;
use super::session::Session;

/// The most time for reading them: their user can fetch them from the image's registry instead. If the cache is out of
/// reach, the lookups of steps already wait long enough.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Configurations that are read once; cheap to clone.
#[derive(Clone)]
pub(super) struct KnownBases(Arc<LazyConfigurations>);

struct LazyConfigurations {
    cache: LayerCache,
    /// Whether the request allows reading the cache.
    may_read: bool,
    tag: String,
    configurations: OnceCell<Option<BaseConfigurations>>,
}

impl KnownBases {
    /// Prepares to read the configurations of the last build of `request`. Returns `None` without a cache.
    pub(super) fn new(request: &BuildRequest, options: &plan::Options, session: &Session) -> Option<Self> {
        let cache = request.cache.layers.as_ref()?;
        let clock = Clock { lifetime: cache.lifetime, now: session.now };
        let tag =
            BaseConfigurations::tag(dockerfile::name(request), options.target.as_deref(), &options.target_platform);
        let may_read = cache.read;
        let cache = LayerCache::new(session.client.clone(), cache.location.clone(), clock)
            .authenticated(cache.authenticator.clone());
        Some(Self(Arc::new(LazyConfigurations { cache, may_read, tag, configurations: OnceCell::new() })))
    }

    /// Returns the cache of the build, for steps and base images.
    pub(super) fn cache(&self) -> &LayerCache {
        &self.0.cache
    }

    /// Starts reading.
    pub(super) fn begin(&self, runtime: &Handle) {
        let reader = self.clone();
        runtime.spawn(async move {
            reader.read().await;
        });
    }

    /// Returns the tag of this build's configurations.
    pub(super) fn tag(&self) -> &str {
        &self.0.tag
    }

    /// Returns the configurations; `None` if reading is not allowed or fails. That is not worth a warning, because the
    /// lookups of steps report the same problem.
    pub(super) async fn read(&self) -> Option<&BaseConfigurations> {
        self.0.configurations.get_or_init(|| self.0.read()).await.as_ref()
    }

    /// Returns the configuration with that digest. The caller verifies it.
    pub(super) async fn configuration(&self, digest: &Digest) -> Option<Vec<u8>> {
        Some(self.read().await?.get(digest)?.to_vec())
    }
}

impl LazyConfigurations {
    async fn read(&self) -> Option<BaseConfigurations> {
        if !self.may_read {
            return None;
        }
        match tokio::time::timeout(TIME_LIMIT, self.cache.manifest(&self.tag)).await {
            Ok(Ok(manifest)) => Some(manifest.map(|bytes| BaseConfigurations::read(&bytes)).unwrap_or_default()),
            Ok(Err(error)) => {
                tracing::debug!("cache: configurations of base images cannot be read: {error}");
                None
            }
            Err(_elapsed) => {
                tracing::debug!("cache: configurations of base images were not read within {} s", TIME_LIMIT.as_secs());
                None
            }
        }
    }
}
