//! Resolves the destination of an instruction.

use std::path::{Path, PathBuf};

/// A destination, before symbolic links are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    /// Relative to the root and cleaned as text: `a/../b` is `b` even if `a` is a link.
    pub(super) path: PathBuf,
    /// Whether it must be a directory: it ends with a slash, or is the working directory.
    pub(super) is_directory: bool,
}

impl Destination {
    /// Parses the destination as written.
    pub(super) fn new(written: &str, working_directory: &str) -> Self {
        let is_directory = written.is_empty() || written.ends_with('/') || written == "." || written.ends_with("/.");
        let path =
            if written.starts_with('/') { clean(written) } else { clean(&format!("{working_directory}/{written}")) };
        Self { path, is_directory }
    }
}

/// Returns a path relative to the root, without `.` and `..`; `..` does not climb above the root.
pub(super) fn clean(path: &str) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(cleaned.pop()),
            _ => cleaned.push(part),
        }
    }
    cleaned
}

/// Returns a path of a tree in the form for messages.
pub(super) fn shown(path: &Path) -> String {
    Path::new("/").join(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_starts_from_the_working_directory() {
        for (written, working_directory, path, is_directory) in [
            ("/a", "/w", "a", false),
            ("/a/", "/w", "a", true),
            ("a", "/w/x", "w/x/a", false),
            ("./a/", "/w", "w/a", true),
            (".", "/w", "w", true),
            ("", "/w", "w", true),
            ("./", "/", "", true),
            ("a/.", "/", "a", true),
            ("..", "/", "", false),
            ("../up", "/w/x", "w/up", false),
            ("//x//y/../z//", "/", "x/z", true),
            ("/x/./w", "/", "x/w", false),
            ("/", "/w", "", true),
        ] {
            let expected = Destination { path: PathBuf::from(path), is_directory };
            assert_eq!(Destination::new(written, working_directory), expected, "{written} in {working_directory}");
        }
    }
}
