//! A bucket that can be asked, whichever service it is of.

use std::time::Duration;

use object_store::{ObjectStore, RetryConfig};

/// How often a request is tried again, and how long in all.
const RETRIES: usize = 4;
const RETRY_TIME: Duration = Duration::from_secs(180);

/// The bucket of a location, ready to be asked, and where its credentials are from.
pub(super) struct Opened {
    pub(super) store: Box<dyn ObjectStore>,
    /// No credentials were found.
    pub(super) anonymous: bool,
}

/// How requests are tried again.
pub(super) fn retries() -> RetryConfig {
    RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIME, ..RetryConfig::default() }
}
