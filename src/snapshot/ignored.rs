//! Paths that no layer gets, whatever happens to them (`--ignore-path`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::context::pattern;

/// Patterns of paths, each matched component by component as Go's `filepath.Match` does, which is kaniko's rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IgnoredPaths {
    patterns: Vec<Vec<Vec<u8>>>,
}

/// A text that is no pattern of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is relative.
    #[error("it is not an absolute path")]
    Relative,
    /// It is the root directory, or leads out of it.
    #[error("it names the root directory, and nothing would be left of the image")]
    Root,
    /// It has `..` in it.
    #[error("it has .. in it")]
    Parent,
    /// A component is malformed.
    #[error(transparent)]
    Pattern(#[from] pattern::BadPattern),
}

impl IgnoredPaths {
    /// Adds a pattern of absolute paths.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn add(&mut self, text: &str) -> Result<(), PatternError> {
        let path = Path::new(text);
        if !path.is_absolute() {
            return Err(PatternError::Relative);
        }
        let mut components = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => {
                    pattern::matches(name.as_bytes(), b"")?;
                    components.push(name.as_bytes().to_vec());
                }
                Component::ParentDir => return Err(PatternError::Parent),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if components.is_empty() {
            return Err(PatternError::Root);
        }
        self.patterns.push(components);
        Ok(())
    }

    /// The patterns as they were added, without the slash they start with.
    #[must_use]
    pub fn patterns(&self) -> Vec<Vec<u8>> {
        self.patterns.iter().map(|components| components.join(&b'/')).collect()
    }

    /// Whether `path`, relative to the root directory, is one of them. What lies below is for the caller to leave out.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        self.patterns.iter().any(|patterns| matches_all(patterns, path))
    }
}

fn matches_all(patterns: &[Vec<u8>], path: &Path) -> bool {
    let mut names = path.iter().map(OsStr::as_bytes);
    // A malformed pattern was refused when it was added.
    patterns.iter().all(|one| names.next().is_some_and(|name| pattern::matches(one, name).unwrap_or(false)))
        && names.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(patterns: &[&str]) -> IgnoredPaths {
        let mut paths = IgnoredPaths::default();
        for pattern in patterns {
            paths.add(pattern).unwrap();
        }
        paths
    }

    #[test]
    fn patterns_match_component_by_component() {
        let paths = ignored(&["/var/cache/", "/home/*/.cache", "/tmp/[a-c]?"]);
        for path in ["var/cache", "home/me/.cache", "tmp/b1"] {
            assert!(paths.contains(Path::new(path)), "{path}");
        }
        for path in ["var", "var/cache/x", "home/.cache", "home/a/b/.cache", "tmp/d1", "tmp/b", ""] {
            assert!(!paths.contains(Path::new(path)), "{path}");
        }
        assert!(!ignored(&[]).contains(Path::new("var")));
    }

    #[test]
    fn what_is_no_path_in_the_image_is_refused() {
        let mut paths = IgnoredPaths::default();
        assert_eq!(paths.add("var/cache"), Err(PatternError::Relative));
        assert_eq!(paths.add(""), Err(PatternError::Relative));
        assert_eq!(paths.add("//."), Err(PatternError::Root));
        assert_eq!(paths.add("/a/../b"), Err(PatternError::Parent));
        assert_eq!(paths.add("/a/[b"), Err(PatternError::Pattern(pattern::BadPattern)));
        assert_eq!(paths, IgnoredPaths::default());
    }
}
