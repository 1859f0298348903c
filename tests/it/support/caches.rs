//! Where builds keep caches, looked at and damaged past the program: what has a tag there, and whether that is there as a whole.

use std::fmt;
use std::path::{Path, PathBuf};

use crabwright::image::layout::{LayoutReader, REF_NAME};
use crabwright::image::{Descriptor, Digest, Manifest, media_type};

use super::fake_registry::FakeRegistry;
use super::program::Workspace;

/// The two kinds of places that caches can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Registry,
    Directory,
}

pub(crate) const STORES: [Store; 2] = [Store::Registry, Store::Directory];

/// A repository of a registry or an OCI layout in a directory, shown as flags name it (`--cache-repo`).
pub(crate) struct CachePlace {
    pub(crate) store: Store,
    registry: FakeRegistry,
    repository: &'static str,
    directory: PathBuf,
}

impl CachePlace {
    /// The repository of this name, or the directory of this name among the workspace's results.
    pub(crate) fn new(store: Store, registry: &FakeRegistry, workspace: &Workspace, name: &'static str) -> Self {
        Self { store, registry: registry.clone(), repository: name, directory: workspace.out().join(name) }
    }

    /// Where the layout is, or would be.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The layout, which must be there.
    #[track_caller]
    pub(crate) fn layout(&self) -> LayoutReader {
        LayoutReader::open(&self.directory).unwrap()
    }

    /// What there is, by tag.
    pub(crate) fn tags(&self) -> Vec<String> {
        match self.store {
            Store::Registry => self.registry.tags(self.repository),
            Store::Directory if !self.directory.exists() => Vec::new(),
            Store::Directory => {
                let manifests = self.layout().manifests().unwrap();
                manifests.iter().map(|descriptor| descriptor.annotations[REF_NAME].clone()).collect()
            }
        }
    }

    /// The manifest of a tag that is there.
    #[track_caller]
    pub(crate) fn manifest(&self, tag: &str) -> Manifest {
        match self.store {
            Store::Registry => serde_json::from_slice(&self.registry.manifest(self.repository, tag).unwrap()).unwrap(),
            Store::Directory => {
                let layout = self.layout();
                layout.manifest(&layout.find(tag).unwrap().unwrap()).unwrap()
            }
        }
    }

    /// Every part of what these tags name is there, and in a directory it is what its digest says.
    #[track_caller]
    pub(crate) fn assert_whole(&self, tags: &[String]) {
        for tag in tags {
            let manifest = self.manifest(tag);
            for descriptor in manifest.layers.iter().chain([&manifest.config]) {
                match self.store {
                    Store::Registry => {
                        assert!(self.registry.has_blob(self.repository, &descriptor.digest), "{tag}");
                    }
                    Store::Directory => drop(self.layout().verified_blob(descriptor).unwrap()),
                }
            }
        }
    }

    /// The bytes of a blob that is there.
    pub(crate) fn blob(&self, digest: &Digest) -> Vec<u8> {
        match self.store {
            Store::Registry => self.registry.blob_content(self.repository, digest),
            Store::Directory => std::fs::read(self.layout().blob_path(digest)).unwrap(),
        }
    }

    /// Takes a blob away, or puts other bytes in its place.
    pub(crate) fn damage_blob(&self, digest: &Digest, content: Option<Vec<u8>>) {
        match self.store {
            Store::Registry => self.registry.damage_blob(self.repository, digest, content),
            Store::Directory => {
                let path = self.layout().blob_path(digest);
                match content {
                    Some(content) => std::fs::write(path, content).unwrap(),
                    None if path.exists() => std::fs::remove_file(path).unwrap(),
                    None => {}
                }
            }
        }
    }

    /// Puts another manifest under a tag that is there.
    pub(crate) fn damage_manifest(&self, tag: &str, content: &[u8]) {
        match self.store {
            Store::Registry => {
                self.registry.put_manifest(self.repository, tag, media_type::OCI_MANIFEST, content.to_vec());
            }
            Store::Directory => {
                let descriptor = Descriptor::of(media_type::OCI_MANIFEST, content);
                let layout = self.layout();
                std::fs::write(layout.blob_path(&descriptor.digest), content).unwrap();
                let mut index = layout.index().unwrap();
                for entry in &mut index.manifests {
                    if entry.annotations[REF_NAME] == tag {
                        entry.digest = descriptor.digest.clone();
                        entry.size = descriptor.size;
                    }
                }
                std::fs::write(self.directory.join("index.json"), index.to_bytes().unwrap()).unwrap();
            }
        }
    }
}

impl fmt::Display for CachePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.store {
            Store::Registry => write!(f, "{}/{}", self.registry.host(), self.repository),
            Store::Directory => write!(f, "oci:{}", self.directory.display()),
        }
    }
}
