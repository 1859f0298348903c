//! The request, the limits and the result of a checkout.

use std::path::PathBuf;

use crate::diag::progress::Progress;
use crate::http::{HttpClients, Pace, RetryPolicy};
use crate::location::GitLocation;
use crate::remote::credentials::{Lookup, SshAccess};

/// The limits of a checkout, including submodules. A repository of a few kilobytes can contain one directory a thousand
/// times, at every level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckoutLimits {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Bytes of one file.
    pub file: u64,
}

impl CheckoutLimits {
    /// The limits for repositories that the build itself names. The library reads packed objects as a whole, so that a
    /// file is completely in memory; servers refuse larger files.
    pub const DEFAULT: Self = Self { entries: u64::MAX, bytes: u64::MAX, file: 512 << 20 };
}

/// A checkout, and what it may use.
#[derive(Clone)]
pub struct GitRequest {
    /// The repository and commit.
    pub location: GitLocation,
    /// The lookup of the build's secrets.
    pub secrets: Lookup,
    /// The credentials for ssh servers.
    pub ssh: SshAccess,
    /// The HTTP clients.
    pub clients: HttpClients,
    /// The minimum speed of servers.
    pub pace: Pace,
    /// The limits of the checkout.
    pub limits: CheckoutLimits,
    /// How fetches are retried.
    pub retry: RetryPolicy,
    /// The receiver of progress.
    pub progress: Progress,
}

/// A commit's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The requested directory; files have mode 0644 or 0755.
    pub directory: PathBuf,
    /// The commit's hash.
    pub commit: String,
    /// The commit's time, in seconds since 1970.
    pub commit_time: i64,
}
