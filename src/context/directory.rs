//! The directory of a build's files.

use std::path::PathBuf;

use super::ignore::IgnoreMatcher;

/// A local directory that COPY, ADD and bind mounts take files from.
#[derive(Debug, Clone)]
pub struct Context {
    /// The directory.
    pub root: PathBuf,
    /// The patterns of files that the build does not see.
    pub ignore: IgnoreMatcher,
    /// Its description in messages.
    pub description: String,
}
