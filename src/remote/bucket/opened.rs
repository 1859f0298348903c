//! An open bucket of any service.

use std::time::Duration;

use object_store::{ObjectStore, RetryConfig};

/// The limits for retries: number and total time.
const RETRIES: usize = 4;
const RETRY_TIME: Duration = Duration::from_secs(180);

/// The bucket of a location, and the source of its credentials.
pub(super) struct Opened {
    pub(super) store: Box<dyn ObjectStore>,
    /// No credentials were found.
    pub(super) anonymous: bool,
}

/// Returns how requests are retried.
pub(super) fn retries() -> RetryConfig {
    RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIME, ..RetryConfig::default() }
}
