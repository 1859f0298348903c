//! The directory that a build's files come from.

use std::path::PathBuf;

use super::ignore::IgnoreMatcher;

/// A local directory that COPY, ADD and bind mounts take files from.
#[derive(Debug, Clone)]
pub struct Context {
    /// The directory.
    pub root: PathBuf,
    /// What of it the build does not see.
    pub ignore: IgnoreMatcher,
    /// How to speak of it in messages.
    pub description: String,
}
