//! Detects an operating system in this container, as in an agent's image that the program was copied into.
//!
//! own-root would move that system's files away while a command runs, for every other process in the container too.
//!
//! The executor's own images contain only `/kaniko` and, with a shell, `/busybox`. Images that were made from them have
//! the same signs.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use super::in_root;

/// The files in which a system names itself (os-release(5)).
const RELEASES: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// The most bytes of such a file that are read.
const MAX_RELEASE_BYTES: u64 = 64 * 1024;
/// The path of a system's shell.
const SHELL: &str = "bin/sh";
/// The directory of the shell in the executor's image.
const OWN_SHELLS: &str = "busybox";

/// Returns the name of the system whose files are below `root`; `None` if there is none.
pub(super) fn system(root: &Path) -> Option<String> {
    let exists = |path: &str| in_root::resolve(root, Path::new(path)).is_ok_and(|path| path.is_file());
    if RELEASES.into_iter().any(exists) {
        return Some(RELEASES.into_iter().find_map(|path| name(root, path)).unwrap_or_else(|| "a system".to_owned()));
    }
    let shell = in_root::resolve(root, Path::new(SHELL)).ok().filter(|path| path.is_file())?;
    let is_own = shell.starts_with(root.join(OWN_SHELLS));
    (!is_own).then(|| format!("a system with a shell of its own, /{SHELL}"))
}

/// Returns `PRETTY_NAME` without its quotation marks.
fn name(root: &Path, path: &str) -> Option<String> {
    let path = in_root::resolve(root, Path::new(path)).ok()?;
    let file = std::fs::File::open(path).ok()?.take(MAX_RELEASE_BYTES);
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    let name =
        lines.filter_map(|line| Some(line.strip_prefix("PRETTY_NAME=")?.trim().trim_matches(['"', '\'']).to_owned()));
    // The file is not trusted, and its text goes to a terminal.
    name.map(|name| name.chars().filter(|char| !char.is_control()).take(80).collect::<String>())
        .find(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn the_executors_images_have_no_system() {
        assert_eq!(system(tree(&[("kaniko/executor", ""), ("etc/nsswitch.conf", "")]).path()), None);
        let debug = tree(&[("kaniko/executor", ""), ("busybox/busybox", "")]);
        symlink("busybox", debug.path().join("busybox/sh")).unwrap();
        std::fs::create_dir(debug.path().join("bin")).unwrap();
        symlink("/busybox/sh", debug.path().join("bin/sh")).unwrap();
        assert_eq!(system(debug.path()), None);
        std::fs::create_dir_all(debug.path().join("usr/local/bin")).unwrap();
        std::fs::write(debug.path().join("usr/local/bin/jq"), "").unwrap();
        assert_eq!(system(debug.path()), None);
    }

    #[test]
    fn a_system_is_found_by_its_release_file_or_shell() {
        let debian = tree(&[("usr/lib/os-release", "ID=debian\nPRETTY_NAME=\"Debian \u{1b}[1mGNU/Linux 12\"\n")]);
        std::fs::create_dir(debian.path().join("etc")).unwrap();
        symlink("../usr/lib/os-release", debian.path().join("etc/os-release")).unwrap();
        assert_eq!(system(debian.path()).as_deref(), Some("Debian [1mGNU/Linux 12"));
        assert_eq!(system(tree(&[("etc/os-release", "\n")]).path()).as_deref(), Some("a system"));
        let busybox = tree(&[("bin/sh", "")]);
        assert_eq!(system(busybox.path()).as_deref(), Some("a system with a shell of its own, /bin/sh"));
    }
}
