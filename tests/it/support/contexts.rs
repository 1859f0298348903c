//! Builds on this machine of contexts that are elsewhere.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::program::{Ended, crabwright, run};

/// A place for a build without a context of its own.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A build of this context, ready to be started; no credentials of this machine reach it.
    pub(crate) fn command(&self, context: &str) -> Command {
        let mut command = crabwright();
        command
            .arg(format!("--context={context}"))
            .arg(format!("--work-dir={}", self.path().join("work").display()))
            .arg(format!("--oci-layout-path={}", self.path().join("layout").display()))
            .args(["--no-push", "--force", "--verbosity=trace"])
            .current_dir(self.path())
            .env("AWS_EC2_METADATA_DISABLED", "true");
        for (name, _) in std::env::vars().filter(|(name, _)| {
            ["AWS_", "AZURE_", "GOOGLE_", "GIT_", "S3_"].iter().any(|start| name.starts_with(start))
        }) {
            command.env_remove(name);
        }
        command
    }

    /// The files of the image that a build of this context makes.
    #[track_caller]
    pub(crate) fn build(&self, command: &mut Command) -> BTreeMap<String, String> {
        run(command).success();
        self.image()
    }

    /// What a build that must fail says; nothing of it may be left.
    #[track_caller]
    pub(crate) fn refused(&self, command: &mut Command, words: &[&str]) -> Ended {
        let ended = run(command).refused(1, words);
        let left: Vec<_> = std::fs::read_dir(self.path().join("work"))
            .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default();
        let builds: Vec<_> = left.iter().filter(|name| name.to_string_lossy().starts_with("build")).collect();
        assert!(builds.is_empty(), "left in the work directory: {left:?}");
        ended
    }

    fn image(&self) -> BTreeMap<String, String> {
        layer_files(&self.path().join("layout"))
    }
}

/// The regular files of the only image in a layout, and links as `-> TARGET`.
pub(crate) fn layer_files(layout: &Path) -> BTreeMap<String, String> {
    let json = |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let blob = |descriptor: &serde_json::Value| {
        layout.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
    };
    let index = json(&layout.join("index.json"));
    let manifest = json(&blob(&index["manifests"][0]));
    let mut files = BTreeMap::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let content = flate2::read::MultiGzDecoder::new(std::fs::File::open(blob(layer)).unwrap());
        for entry in tar::Archive::new(content).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut text = String::new();
            match entry.header().entry_type() {
                tar::EntryType::Regular => drop(entry.read_to_string(&mut text).unwrap()),
                tar::EntryType::Symlink => {
                    text = format!("-> {}", entry.link_name().unwrap().unwrap().display());
                }
                tar::EntryType::Link => text = format!("= {}", entry.link_name().unwrap().unwrap().display()),
                _ => continue,
            }
            files.insert(name, text);
        }
    }
    files
}
