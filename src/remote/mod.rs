//! What comes over the network besides images: files behind URLs, objects in buckets, and git repositories.
//!
//! They come to lie in a directory of the build, complete and checked, before anything looks at them; archives that are
//! contexts are unpacked to it while they come. Whoever serves them is
//! not trusted: sizes are bounded, names cannot leave the directory, and credentials go to the host they are meant for alone.

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
