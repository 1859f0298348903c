//! The client for all registries (OCI distribution spec; Docker's token authentication).
//!
//! It is structured like go-containerregistry's transport: a ping determines the authentication scheme, tokens are
//! fetched for growing sets of scopes, and a 401 is retried once with the scopes of its challenge. Retries happen in
//! one place (`http::run`). Credentials are sent only to the registry that they are for: not to the target of a
//! redirect, not to an upload's continuation on a different host, and never into a message.

mod access;
mod answer;
mod authentication;
mod blob_stream;
mod blob_upload;
mod body;
mod challenge;
mod client;
mod config;
pub mod credentials;
mod download;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod local;
mod mirrors;
mod origin;
mod pull;
mod remote_error;
mod request_limit;
mod tags;
mod traffic;
mod transport;
mod trust;
mod upload;
mod upload_session;

pub use blob_stream::StreamedBlob;
pub use body::StreamState;
pub use client::Client;
pub use config::ClientConfig;
pub use credentials::Keychain;
pub use error::{Refusal, RegistryError};
pub use local::LocalBlobs;
pub use mirrors::{MirrorError, Mirrors};
pub use pull::KnownConfigs;
pub use remote_error::RemoteError;
pub use traffic::Traffic;
pub use upload::MountOutcome;
pub use upload_session::UploadSession;
