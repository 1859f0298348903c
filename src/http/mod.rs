//! What everything that speaks HTTP shares: one set-up of TLS, names, proxies and time limits, and one way of trying again.
//!
//! Registries and downloads differ in what they send and in what an answer means, which is their own knowledge; how a connection
//! comes about, where a server may lead, and when a request is repeated must not differ.

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
pub use names::{LedAstray, Unjudged};
pub use origin::{host_of, is_loopback, is_private, retry_after};
pub use pace::{Flow, Pace};
pub use retry::{RetryPolicy, Transient, run};
pub use tls::{TlsError, TlsSettings};

/// How this program names itself to servers.
pub const USER_AGENT: &str = concat!("crabwright/", env!("CARGO_PKG_VERSION"));
