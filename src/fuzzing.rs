//! The targets of libFuzzer: a function for each kind of untrusted bytes. Each is in a `fuzzing` module next to the
//! code that it tests, so that nothing is made public for it. `fuzz/run` builds and runs them; the seeds in
//! `fuzz/corpus` also run as a unit test.
//!
//! A target must not panic, must end soon and use bounded memory, and may check the promises of its code.

#![allow(clippy::disallowed_methods, reason = "no command runs while a target does")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Processes an input like the program would.
pub type Target = fn(&[u8]);

/// The targets by name. Each has its seeds in `fuzz/corpus/NAME`.
pub const TARGETS: &[(&str, Target)] = &[
    ("accounts", crate::executor::fuzzing::accounts),
    ("cache_archive", crate::executor::fuzzing::cache_archive),
    ("cache_entry", crate::cache::fuzzing::cache_entry),
    ("challenge", crate::registry::fuzzing::challenge),
    ("context_archive", crate::executor::fuzzing::context_archive),
    ("decompress", crate::layer::fuzzing::decompress),
    ("docker_config", crate::registry::credentials::fuzzing::docker_config),
    ("dockerfile", crate::dockerfile::fuzzing::dockerfile),
    ("error_body", crate::registry::fuzzing::error_body),
    ("expand", crate::dockerfile::fuzzing::expansion),
    ("extract", crate::layer::fuzzing::extract),
    ("gitmodules", crate::remote::fuzzing::gitmodules),
    ("ignore", crate::context::fuzzing::ignore),
    ("journal", crate::sandbox::fuzzing::journal),
    ("link", crate::registry::fuzzing::link),
    ("location", crate::location::fuzzing::location),
    ("manifest", crate::registry::fuzzing::manifest),
    ("mount", crate::dockerfile::fuzzing::mount),
    ("mountinfo", crate::sandbox::fuzzing::mountinfo),
    ("oci_layout", crate::image::fuzzing::oci_layout),
    ("pack", crate::remote::fuzzing::pack),
    ("reference", crate::image::fuzzing::reference),
    ("report", crate::sandbox::fuzzing::report),
    ("saved_image", crate::image::fuzzing::saved_image),
];

/// A directory for one input, removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("crabwright-fuzz-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for the input");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Creates a file with this content, and its parent directories.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("a name")).expect("directories of the input");
        std::fs::write(&path, content).expect("a file of the input");
        path
    }

    /// Creates an empty directory.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir(&path).expect("a directory of the input");
        path
    }

    /// Lets `work` fill the directory `name`, and panics if anything outside of it changes.
    pub(crate) fn work_in(&self, name: &str, work: impl FnOnce(&Path)) {
        let outside = self.file("outside", b"untouched");
        work(&self.0.join(name));
        assert_eq!(std::fs::read(&outside).expect("outside"), b"untouched");
        let found = std::fs::read_dir(&self.0).expect("list").map(|entry| entry.expect("list").file_name());
        let strays: Vec<_> = found.filter(|found| found != name && found != "outside").collect();
        assert!(strays.is_empty(), "{strays:?}");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        crate::fs::remove_dir_all(&self.0).expect("the input's directory is removed");
    }
}

/// Splits an input into parts at its first zero bytes.
pub(crate) fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut parts = input.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn corpus() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
    }

    #[test]
    fn every_target_has_seeds() {
        let found = std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let named = TARGETS.iter().map(|(name, _)| (*name).to_owned());
        assert_eq!(found.collect::<BTreeSet<_>>(), named.collect());
    }

    #[test]
    fn the_seeds_pass() {
        for (name, target) in TARGETS {
            for entry in std::fs::read_dir(corpus().join(name)).unwrap() {
                target(&std::fs::read(entry.unwrap().path()).unwrap());
            }
        }
    }
}
