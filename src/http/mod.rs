//! Shared HTTP code: one set-up of TLS, name resolution, proxies and time limits, and one place that retries.
//!
//! Registries and downloads know by themselves what they send and what a response means. How a connection is made,
//! where a server may refer to, and when a request is repeated must be the same for all.

mod amazon;
mod clients;
mod error;
mod lead;
mod names;
mod network_scope;
mod origin;
mod pace;
mod retry;
mod tls;

pub use crate::diag::interrupt::Interrupted;

pub use amazon::{AmazonChain, AmazonSettings};
pub use clients::{HttpClients, SetupError};
pub use error::HttpError;
pub use lead::Lead;
pub use names::{ForbiddenReference, HostRefused};
pub use origin::{host_of, is_loopback, is_private, retry_after};
pub use pace::{Flow, Pace};
pub use retry::{RetryPolicy, Transient, run};
pub use tls::{TlsError, TlsSettings};

/// The `User-Agent` of this program.
pub const USER_AGENT: &str = concat!("crabwright/", env!("CARGO_PKG_VERSION"));
