//! Determines which paths stay in place while the root directory is swapped, and which directories are merged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Pinned and merged paths relative to the swapped directory, which is the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PinnedPaths {
    /// They stay in place, with everything below them.
    pinned: BTreeSet<PathBuf>,
    /// The directories above pinned paths, the swapped one included. They stay, and their entries are exchanged.
    merged_dirs: BTreeSet<PathBuf>,
}

impl PinnedPaths {
    /// Pins `paths` (absolute, without symbolic links). Paths outside of `base`, and `base` itself, are ignored.
    pub(super) fn new(base: &Path, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let all: BTreeSet<PathBuf> = paths
            .into_iter()
            .filter_map(|path| path.strip_prefix(base).map(Path::to_owned).ok())
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        let pinned: BTreeSet<PathBuf> =
            all.iter().filter(|path| !path.ancestors().skip(1).any(|above| all.contains(above))).cloned().collect();
        let mut merged_dirs: BTreeSet<PathBuf> =
            pinned.iter().flat_map(|path| path.ancestors().skip(1)).map(Path::to_owned).collect();
        merged_dirs.insert(PathBuf::new());
        Self { pinned, merged_dirs }
    }

    /// Returns the merged directories, parents first.
    pub(super) fn merged_dirs(&self) -> impl DoubleEndedIterator<Item = &Path> {
        self.merged_dirs.iter().map(PathBuf::as_path)
    }

    /// Returns the pinned paths.
    pub(super) fn pinned(&self) -> impl Iterator<Item = &Path> {
        self.pinned.iter().map(PathBuf::as_path)
    }

    /// Reports whether `path` is a pinned path or below one.
    pub(super) fn is_under_pinned(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.pinned.contains(above))
    }

    /// Reports whether `path` must not be moved: it is pinned or a merged directory.
    pub(super) fn is_immovable(&self, path: &Path) -> bool {
        self.pinned.contains(path) || self.merged_dirs.contains(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(paths: &[&str]) -> PinnedPaths {
        PinnedPaths::new(Path::new("/"), paths.iter().map(PathBuf::from))
    }

    #[test]
    fn directories_above_pinned_paths_are_merged() {
        let pinned = pinned(&["/", "/proc", "/proc/sys", "/etc/hosts", "/var/run/docker.sock", "/kaniko"]);
        let stay: Vec<&str> = pinned.pinned().filter_map(Path::to_str).collect();
        assert_eq!(stay, ["etc/hosts", "kaniko", "proc", "var/run/docker.sock"]);
        let merged: Vec<&str> = pinned.merged_dirs().filter_map(Path::to_str).collect();
        assert_eq!(merged, ["", "etc", "var", "var/run"]);
        assert!(pinned.is_immovable(Path::new("var")));
        assert!(!pinned.is_immovable(Path::new("var/lib")));
        assert!(!pinned.is_immovable(Path::new("proc/sys")));
        assert!(pinned.is_under_pinned(Path::new("proc/sys")) && !pinned.is_under_pinned(Path::new("etc/passwd")));
    }

    #[test]
    fn without_pinned_paths_only_the_root_is_merged() {
        assert_eq!(pinned(&[]).merged_dirs().count(), 1);
    }
}
