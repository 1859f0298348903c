//! Which paths stay in place while the root directory is swapped, and which directories are merged because of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Paths relative to the swapped directory; the empty path is the directory itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// They stay with all that is below them.
    stay: BTreeSet<PathBuf>,
    /// The directories above them, the swapped one included: they stay, their entries are exchanged.
    merged: BTreeSet<PathBuf>,
}

impl Held {
    /// Sorts out `paths` (absolute, without symbolic links); those outside of `base`, and `base` itself, do not count.
    pub(super) fn new(base: &Path, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let all: BTreeSet<PathBuf> = paths
            .into_iter()
            .filter_map(|path| path.strip_prefix(base).map(Path::to_owned).ok())
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        let stay: BTreeSet<PathBuf> =
            all.iter().filter(|path| !path.ancestors().skip(1).any(|above| all.contains(above))).cloned().collect();
        let mut merged: BTreeSet<PathBuf> =
            stay.iter().flat_map(|path| path.ancestors().skip(1)).map(Path::to_owned).collect();
        merged.insert(PathBuf::new());
        Self { stay, merged }
    }

    /// The merged directories, each after the ones above it.
    pub(super) fn merged(&self) -> impl DoubleEndedIterator<Item = &Path> {
        self.merged.iter().map(PathBuf::as_path)
    }

    /// The paths that stay as they are.
    pub(super) fn stay(&self) -> impl Iterator<Item = &Path> {
        self.stay.iter().map(PathBuf::as_path)
    }

    /// Whether this path is at or below one that stays.
    pub(super) fn keeps(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.stay.contains(above))
    }

    /// Whether this path is not to be moved: it stays or is merged.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.stay.contains(path) || self.merged.contains(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(paths: &[&str]) -> Held {
        Held::new(Path::new("/"), paths.iter().map(PathBuf::from))
    }

    #[test]
    fn directories_above_what_stays_are_merged() {
        let held = held(&["/", "/proc", "/proc/sys", "/etc/hosts", "/var/run/docker.sock", "/kaniko"]);
        let stay: Vec<&str> = held.stay().filter_map(Path::to_str).collect();
        assert_eq!(stay, ["etc/hosts", "kaniko", "proc", "var/run/docker.sock"]);
        let merged: Vec<&str> = held.merged().filter_map(Path::to_str).collect();
        assert_eq!(merged, ["", "etc", "var", "var/run"]);
        assert!(held.contains(Path::new("var")));
        assert!(!held.contains(Path::new("var/lib")));
        assert!(!held.contains(Path::new("proc/sys")));
        assert!(held.keeps(Path::new("proc/sys")) && !held.keeps(Path::new("etc/passwd")));
    }

    #[test]
    fn without_anything_to_hold_only_the_root_is_merged() {
        assert_eq!(held(&[]).merged().count(), 1);
    }
}
