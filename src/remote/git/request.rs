//! What a checkout is asked for, what it may use, and its result.

use std::path::PathBuf;

use crate::diag::progress::Progress;
use crate::http::{HttpClients, Pace, RetryPolicy};
use crate::location::GitLocation;
use crate::remote::credentials::{Lookup, SshAccess};

/// How much a checkout may be, submodules included. A repository of some kilobytes can name one directory a thousand times, and
/// so on within it.
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
    /// For what the build itself has chosen to fetch. The library reads no packed object piece by piece, so that a file is in
    /// memory as a whole; servers refuse larger ones long before.
    pub const DEFAULT: Self = Self { entries: u64::MAX, bytes: u64::MAX, file: 512 << 20 };
}

/// What a checkout needs besides the location.
#[derive(Clone)]
pub struct GitRequest {
    /// What to check out.
    pub location: GitLocation,
    /// Where the build's secrets are.
    pub secrets: Lookup,
    /// How to log in to ssh servers.
    pub ssh: SshAccess,
    /// What servers are spoken to over HTTP with.
    pub clients: HttpClients,
    /// How slowly they may answer.
    pub pace: Pace,
    /// How much it may be.
    pub limits: CheckoutLimits,
    /// How often a fetch is tried again.
    pub retry: RetryPolicy,
    /// Where the transfer reports.
    pub progress: Progress,
}

/// A commit's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The directory asked for: files have mode 0644 or 0755.
    pub directory: PathBuf,
    /// The commit's hash.
    pub commit: String,
    /// The commit's time, in seconds since 1970.
    pub commit_time: i64,
}
