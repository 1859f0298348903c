//! Paths that no layer contains (`--ignore-path`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::context::pattern;

/// Patterns of paths, matched component by component like Go's `filepath.Match`, as in kaniko.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IgnoredPaths {
    patterns: Vec<Vec<Vec<u8>>>,
}

/// Why a text is not a valid pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The pattern is relative.
    #[error("it is not an absolute path")]
    Relative,
    /// The pattern names the root directory, or leads out of it.
    #[error("it names the root directory, so the image would be empty")]
    Root,
    /// The pattern contains `..`.
    #[error("it contains ..")]
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

    /// Returns the patterns as they were added, without their leading slashes.
    #[must_use]
    pub fn patterns(&self) -> Vec<Vec<u8>> {
        self.patterns.iter().map(|components| components.join(&b'/')).collect()
    }

    /// Reports whether `path`, relative to the root directory, matches. The caller leaves out the paths below it.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        self.patterns.iter().any(|patterns| matches_all(patterns, path))
    }
}

fn matches_all(patterns: &[Vec<u8>], path: &Path) -> bool {
    let mut names = path.iter().map(OsStr::as_bytes);
    // Malformed patterns are refused when they are added.
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
    fn other_paths_are_refused() {
        let mut paths = IgnoredPaths::default();
        assert_eq!(paths.add("var/cache"), Err(PatternError::Relative));
        assert_eq!(paths.add(""), Err(PatternError::Relative));
        assert_eq!(paths.add("//."), Err(PatternError::Root));
        assert_eq!(paths.add("/a/../b"), Err(PatternError::Parent));
        assert_eq!(paths.add("/a/[b"), Err(PatternError::Pattern(pattern::BadPattern)));
        assert_eq!(paths, IgnoredPaths::default());
    }
}
