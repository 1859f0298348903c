//! Fetches everything but images from the network: files from URLs, objects in buckets, and git repositories.
//!
//! Files are stored completely and verified in a directory of the build before they are used. Archives that are build
//! contexts are unpacked while they are downloaded. Servers are not trusted: sizes are bounded, names cannot leave the
//! directory, and credentials are sent only to the host that they are for.

mod bucket;
mod credentials;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod git;
mod http;
mod http_stream;
mod incoming;

pub use bucket::{BucketError, Variables};
pub use credentials::{Lookup, SshAccess, git_authorization, http_authorization};
pub use git::{Checkout, CheckoutLimits, GitError, GitRequest, TransportError, checkout, resolve};
pub use http::{DownloadError, Downloaded, Downloader, Validator};
pub use incoming::{Incoming, TransferError};
