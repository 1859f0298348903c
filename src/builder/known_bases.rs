//! The configurations of base images that the cache has from the last build. They are read beside the images' manifests: where
//! those are what they were, an unchanged build asks for no blob.

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

/// How long reading them may take: whoever waits for them can ask the image's registry instead. Where the cache is out of reach,
/// the look-ups of steps wait long enough.
const LIMIT: Duration = Duration::from_secs(10);

/// Configurations that are read once; cheap to clone.
#[derive(Clone)]
pub(super) struct KnownBases(Arc<Reading>);

struct Reading {
    cache: LayerCache,
    /// Whether the cache may be read.
    may_read: bool,
    tag: String,
    configurations: OnceCell<Option<BaseConfigurations>>,
}

impl KnownBases {
    /// Those of the last build of what `request` asks for; `None` without a cache. Nothing is read yet.
    pub(super) fn new(request: &BuildRequest, options: &plan::Options, session: &Session) -> Option<Self> {
        let cache = request.cache.layers.as_ref()?;
        let clock = Clock { lifetime: cache.lifetime, now: session.now };
        let tag =
            BaseConfigurations::tag(dockerfile::name(request), options.target.as_deref(), &options.target_platform);
        let may_read = cache.read;
        let cache = LayerCache::new(session.client.clone(), cache.location.clone(), clock)
            .authenticated(cache.authenticator.clone());
        Some(Self(Arc::new(Reading { cache, may_read, tag, configurations: OnceCell::new() })))
    }

    /// The cache of the build, for steps as for base images.
    pub(super) fn cache(&self) -> &LayerCache {
        &self.0.cache
    }

    /// Begins to read.
    pub(super) fn begin(&self, runtime: &Handle) {
        let reader = self.clone();
        runtime.spawn(async move {
            reader.read().await;
        });
    }

    /// Where those of this build belong.
    pub(super) fn tag(&self) -> &str {
        &self.0.tag
    }

    /// What there is. `None`: it may not or cannot be read. That is not worth a warning, because entries are looked for in the
    /// same place.
    pub(super) async fn read(&self) -> Option<&BaseConfigurations> {
        self.0.configurations.get_or_init(|| self.0.read()).await.as_ref()
    }

    /// The configuration with that digest; to be verified.
    pub(super) async fn configuration(&self, digest: &Digest) -> Option<Vec<u8>> {
        Some(self.read().await?.get(digest)?.to_vec())
    }
}

impl Reading {
    async fn read(&self) -> Option<BaseConfigurations> {
        if !self.may_read {
            return None;
        }
        match tokio::time::timeout(LIMIT, self.cache.manifest(&self.tag)).await {
            Ok(Ok(manifest)) => Some(manifest.map(|bytes| BaseConfigurations::read(&bytes)).unwrap_or_default()),
            Ok(Err(error)) => {
                tracing::debug!("cache: configurations of base images cannot be read: {error}");
                None
            }
            Err(_elapsed) => {
                tracing::debug!("cache: configurations of base images did not come within {} s", LIMIT.as_secs());
                None
            }
        }
    }
}
