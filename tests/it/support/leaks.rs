//! Looks for secrets where none may be.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::run;

/// None of `secrets` is among `bytes`.
#[track_caller]
pub(crate) fn check(secrets: &[&str], bytes: &[u8], place: &str) {
    for secret in secrets {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{place} holds a secret");
    }
}

/// No file below a directory holds one.
#[track_caller]
pub(crate) fn check_directory(secrets: &[&str], directory: &Path) {
    for path in files_below(directory) {
        check(secrets, &std::fs::read(&path).unwrap(), &path.display().to_string());
    }
}

/// No layer, configuration or manifest holds one: everything the registry has of an image, decompressed.
#[track_caller]
pub(crate) fn check_image(secrets: &[&str], reference: &str) {
    let directory = tempfile::tempdir().unwrap();
    run(Command::new("skopeo")
        .args(["copy", "--quiet", "--src-tls-verify=false", "--dest-decompress", &format!("docker://{reference}")])
        .arg(format!("dir:{}", directory.path().display())))
    .success();
    let files = files_below(directory.path());
    assert!(files.len() > 3, "{files:?}");
    check_directory(secrets, directory.path());
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files.extend(files_below(&entry.path())),
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}
