//! The one client for every registry (OCI distribution spec; Docker's token authentication).
//!
//! Its shape is that of go-containerregistry's transport: a ping tells how to authenticate, tokens are fetched for scopes
//! that grow, a 401 is answered once with what its challenge asks for. Retries happen in one place (`http::run`),
//! and credentials go to the registry they were meant for and nowhere else: not to where a blob is redirected, not to
//! where an upload continues on another host, and into no message.

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
pub use upload::Mount;
pub use upload_session::UploadSession;
