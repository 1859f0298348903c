//! What can be wrong with a build context.

use std::path::PathBuf;

use crate::diag::Hint;
use crate::fs;

use super::pattern::BadPattern;

/// A build context that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The location has a scheme nobody knows.
    #[error("build context {location}: unknown scheme {scheme}; known are dir, tar, git, ssh, http, https, s3 and gs")]
    UnknownScheme {
        /// The location as given, without credentials.
        location: String,
        /// What stands before the colon, with the slashes.
        scheme: String,
    },
    /// The location is empty.
    #[error("no build context given")]
    Empty,
    /// There is no such directory.
    #[error("build context directory {} does not exist", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// There is no such directory within the context.
    #[error("build context {} has no directory {sub_path:?}", root.display())]
    MissingSubPath {
        /// The context.
        root: PathBuf,
        /// The path within it.
        sub_path: String,
    },
    /// The sub-path leads out of the context.
    #[error("context sub-path {sub_path:?} leads out of the build context")]
    SubPathOutside {
        /// The path as given.
        sub_path: String,
    },
    /// It is something else than a directory.
    #[error("build context {} is not a directory", path.display())]
    NotDirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory within the context is a link out of it.
    #[error(
        "context sub-path {sub_path:?} leads out of the build context {} by a symbolic link; name the directory itself with \
         --context",
        root.display()
    )]
    SubPathLink {
        /// The context.
        root: PathBuf,
        /// The path within it.
        sub_path: String,
    },
    /// A Dockerfile or ignore file is something else than a regular file.
    #[error("{} is {kind}; only a regular file can be read here", path.display())]
    NotRegular {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A Dockerfile or ignore file is one that the kernel makes up.
    #[error("{} is a file of the kernel's (/proc), which no build is read from", path.display())]
    Kernel {
        /// Where it is.
        path: PathBuf,
    },
    /// A Dockerfile or ignore file is larger than any sensible one.
    #[error("{} has more than {limit} bytes, too many for a Dockerfile or an ignore file", path.display())]
    TooLarge {
        /// Where it is.
        path: PathBuf,
        /// How many it may have.
        limit: u64,
    },
    /// A pattern of the ignore file is malformed.
    #[error("{}:{line}: bad pattern{}", path.display(), pattern.as_ref().map(|text| format!(" {text:?}")).unwrap_or_default())]
    IgnorePattern {
        /// The ignore file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The pattern as it stands there, if it may be quoted.
        pattern: Option<String>,
        /// What is wrong with it.
        #[source]
        source: IgnoreError,
    },
    /// The file system refused something.
    #[error(transparent)]
    Io(#[from] fs::Error),
}

impl Hint for ContextError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io(error) => error.hint(),
            // What can be done is in the message.
            Self::UnknownScheme { .. }
            | Self::Empty
            | Self::Missing { .. }
            | Self::MissingSubPath { .. }
            | Self::SubPathOutside { .. }
            | Self::NotDirectory { .. }
            | Self::SubPathLink { .. }
            | Self::NotRegular { .. }
            | Self::Kernel { .. }
            | Self::TooLarge { .. }
            | Self::IgnorePattern { .. } => None,
        }
    }
}

/// A pattern that cannot be used to exclude files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// It is malformed.
    #[error(transparent)]
    Syntax(#[from] BadPattern),
    /// A `!` with nothing to include again.
    #[error("illegal exclusion pattern: \"!\"")]
    LoneExclamationMark,
}
