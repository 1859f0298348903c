//! What is in an image, read out of an OCI layout by crates that have nothing to do with the program under test.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde_json::Value;

/// A file of an image's root file system, without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    content: Vec<u8>,
    link: Vec<u8>,
    attributes: BTreeMap<String, Vec<u8>>,
    /// The first path that this file had; that of another one for a hard link.
    first: Vec<u8>,
}

/// An image as far as two builds of one project may not differ.
#[derive(Debug)]
pub(super) struct Image {
    digest: String,
    layers: usize,
    config: Value,
    root: BTreeMap<Vec<u8>, Node>,
}

impl Image {
    /// Reads the only image of a layout.
    pub(super) fn read(layout: &Path) -> Self {
        let json = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
        let digest = |descriptor: &Value| descriptor["digest"].as_str().unwrap().to_owned();
        let blob = |descriptor: &Value| layout.join("blobs").join(digest(descriptor).replace(':', "/"));
        let index = json(&layout.join("index.json"));
        let manifest = json(&blob(&index["manifests"][0]));
        let layers = manifest["layers"].as_array().unwrap();
        let mut root = BTreeMap::new();
        for layer in layers {
            apply(&mut root, &blob(layer));
        }
        let mut config = json(&blob(&manifest["config"]));
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), layers.len());
        without_times(&mut config);
        Self { digest: digest(&index["manifests"][0]), layers: layers.len(), config, root }
    }

    /// What tells this image from another; nothing if they are the same. `exact`: the digests have to be, too.
    pub(super) fn difference(&self, other: &Self, exact: bool) -> Option<String> {
        let show = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        for (path, node) in &self.root {
            match other.root.get(path) {
                None => return Some(format!("/{} is in the first image only", path.escape_ascii())),
                Some(found) if found != node => {
                    return Some(format!("/{} differs:\n  {}\n  {}", show(path), describe(node), describe(found)));
                }
                Some(_same) => {}
            }
        }
        if let Some(path) = other.root.keys().find(|path| !self.root.contains_key(*path)) {
            return Some(format!("/{} is in the second image only", path.escape_ascii()));
        }
        if self.config != other.config {
            return Some(format!("the configurations differ:\n  {}\n  {}", self.config, other.config));
        }
        if self.layers != other.layers {
            return Some(format!("one has {} layers, the other {}", self.layers, other.layers));
        }
        (exact && self.digest != other.digest).then(|| format!("the digests differ: {} {}", self.digest, other.digest))
    }
}

fn describe(node: &Node) -> String {
    let Node { kind, mode, owner, content, link, attributes, first } = node;
    let content = content.get(..content.len().min(200)).unwrap_or_default();
    format!(
        "{kind:?} {mode:o} {owner:?} content {:?} link {:?} attributes {attributes:?} first /{}",
        content.escape_ascii().to_string(),
        link.escape_ascii().to_string(),
        first.escape_ascii()
    )
}

/// Everything that says when something was made.
fn without_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("created");
            // By their diffIDs layers differ where times do.
            fields.remove("diff_ids");
            fields.values_mut().for_each(without_times);
        }
        Value::Array(values) => values.iter_mut().for_each(without_times),
        _ => {}
    }
}

/// Lays a layer over a tree.
fn apply(root: &mut BTreeMap<Vec<u8>, Node>, layer: &Path) {
    let file = std::fs::File::open(layer).unwrap();
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(file));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = normal(&entry.path_bytes());
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (directory, name) = path.split_at(start);
        if name == b".wh..wh..opq" {
            root.retain(|other, _| !other.starts_with(directory) || other.as_slice() == directory);
            continue;
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            remove(root, &[directory, hidden].concat());
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let mut attributes = BTreeMap::new();
        for record in entry.pax_extensions().unwrap().into_iter().flatten() {
            let record = record.unwrap();
            if let Some(name) = record.key().unwrap().strip_prefix("SCHILY.xattr.") {
                attributes.insert(name.to_owned(), record.value_bytes().to_vec());
            }
        }
        let kind = entry.header().entry_type();
        let link = entry.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
        let node = match kind {
            tar::EntryType::Link => root.get(&normal(&link)).expect("the target of a hard link").clone(),
            _ => Node {
                kind,
                mode: entry.header().mode().unwrap(),
                owner: (entry.header().uid().unwrap(), entry.header().gid().unwrap()),
                content,
                link,
                attributes,
                first: path.clone(),
            },
        };
        if kind != tar::EntryType::Directory {
            remove(root, &path);
        }
        root.insert(path, node);
    }
}

fn remove(root: &mut BTreeMap<Vec<u8>, Node>, path: &[u8]) {
    let below = [path, b"/"].concat();
    root.retain(|other, _| other != path && !other.starts_with(&below));
}

/// Without `./` and slashes around it.
fn normal(path: &[u8]) -> Vec<u8> {
    let path: std::path::PathBuf = Path::new(std::ffi::OsStr::from_bytes(path))
        .components()
        .filter(|component| matches!(component, std::path::Component::Normal(_)))
        .collect();
    path.into_os_string().as_bytes().to_vec()
}
