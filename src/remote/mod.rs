//! What comes over the network besides images: files behind URLs, and git repositories.
//!
//! Both come to lie in a directory of the build, complete and checked, before anything looks at them. Whoever serves them is
//! not trusted: sizes are bounded, names cannot leave the directory, and credentials go to the host they are meant for alone.

mod credentials;
mod git;
mod http;

pub use credentials::{Lookup, SshAccess, git_authorization, http_authorization};
pub use git::{Checkout, GitError, GitRequest, checkout};
pub use http::{DownloadError, Downloaded, Downloader};
