//! What a reader makes of an archive.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crabwright::image::Digest;
use crabwright::rootfs::Tree;
use serde::Deserialize;

use super::generate::Sample;

/// A tree, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The archive is refused.
    Refused,
    /// What lies below the root.
    Tree(BTreeMap<PathBuf, Node>),
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    kind: &'static str,
    /// 0 for symbolic links.
    mode: u32,
    owner: (u32, u32),
    /// Seconds and nanoseconds; none for directories that the archive does not mention.
    time: Option<(i64, i64)>,
    /// Digest of the content, or what a link holds.
    content: String,
    /// The first of its names.
    name: PathBuf,
}

impl Outcome {
    /// Whether two readers made the same of an archive, as far as `roughly` can be told: Python's times are fractions in base 2.
    pub(super) fn agrees(&self, other: &Self, roughly: bool) -> bool {
        let (Self::Tree(one), Self::Tree(other)) = (self, other) else { return self == other };
        let rough = |node: &Node| match roughly {
            true => Node { time: node.time.map(|(seconds, _)| (seconds, 0)), ..node.clone() },
            false => node.clone(),
        };
        one.len() == other.len()
            && one
                .iter()
                .zip(other)
                .all(|((path, node), (other_path, other))| path == other_path && rough(node) == rough(other))
    }
}

/// Our own.
pub(super) fn ours(directory: &Path, sample: &Sample) -> Outcome {
    let mut tree = Tree::create(directory).unwrap();
    match tree.apply_layer("sample", sample.bytes.as_slice()) {
        Ok(_) => looked_at(directory, sample),
        Err(_) => Outcome::Refused,
    }
}

/// GNU tar's, which takes a bad header as a reason to look for the next good one, and says so at its end.
pub(super) fn gnu_tar(directory: &Path, archive: &Path, sample: &Sample) -> Outcome {
    let mut command = Command::new("tar");
    command.args(["--extract", "--preserve-permissions", "--same-owner", "--numeric-owner"]);
    command.args(["--delay-directory-restore", "--file"]);
    extracted(command, directory, archive, sample)
}

/// That of libarchive.
pub(super) fn bsdtar(directory: &Path, archive: &Path, sample: &Sample) -> Outcome {
    let mut command = Command::new("bsdtar");
    command.args(["-x", "-p", "--same-owner", "--numeric-owner", "-f"]);
    extracted(command, directory, archive, sample)
}

fn extracted(mut command: Command, directory: &Path, archive: &Path, sample: &Sample) -> Outcome {
    std::fs::create_dir(directory).unwrap();
    let status = command
        .arg(archive)
        .current_dir(directory)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: run tests/setup"));
    if status.success() { looked_at(directory, sample) } else { Outcome::Refused }
}

fn looked_at(root: &Path, sample: &Sample) -> Outcome {
    let mut found = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    look(root, Path::new(""), sample, &mut first_names, &mut found);
    Outcome::Tree(found)
}

fn look(
    root: &Path,
    below: &Path,
    sample: &Sample,
    first_names: &mut BTreeMap<u64, PathBuf>,
    found: &mut BTreeMap<PathBuf, Node>,
) {
    let mut names: Vec<OsString> =
        std::fs::read_dir(root.join(below)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = below.join(name);
        let metadata = root.join(&path).symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let (kind, content) = if kind.is_dir() {
            ("directory", String::new())
        } else if kind.is_symlink() {
            ("link", root.join(&path).read_link().unwrap().to_string_lossy().into_owned())
        } else if kind.is_fifo() {
            ("pipe", String::new())
        } else {
            ("file", Digest::sha256_of(&std::fs::read(root.join(&path)).unwrap()).to_string())
        };
        let is_mentioned = kind != "directory" || sample.directories.iter().any(|known| Path::new(known) == path);
        let node = Node {
            kind,
            mode: if kind == "link" { 0 } else { metadata.mode() & 0o7777 },
            owner: (metadata.uid(), metadata.gid()),
            time: is_mentioned.then(|| (metadata.mtime(), metadata.mtime_nsec())),
            content,
            name: first_names.entry(metadata.ino()).or_insert_with(|| path.clone()).clone(),
        };
        found.insert(path.clone(), node);
        if kind == "directory" {
            look(root, &path, sample, first_names, found);
        }
    }
}

/// A member as Python lists it.
#[derive(Deserialize)]
struct Listed {
    /// Its name's bytes in hexadecimal digits.
    name: String,
    kind: String,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: f64,
    link: String,
    digest: String,
}

/// What Python's tarfile makes of archives called `0`, `1` and so on: their members, read to the end. It unpacks none.
pub(super) fn python(archives: &Path, samples: &[Sample]) -> Vec<Outcome> {
    let script = include_str!("list.py");
    let child = Command::new("python3")
        .arg("-c")
        .arg(script)
        .arg(archives)
        .arg(samples.len().to_string())
        .env("LC_ALL", "C.UTF-8")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .zip(samples)
        .map(|(line, sample)| {
            let listed: Option<Vec<Listed>> = serde_json::from_str(line).unwrap();
            listed.map_or(Outcome::Refused, |members| put_together(&members, sample))
        })
        .collect()
}

/// The tree of members that follow each other.
fn put_together(members: &[Listed], sample: &Sample) -> Outcome {
    let mut found: BTreeMap<PathBuf, Node> = BTreeMap::new();
    for member in members {
        let path = plain(OsStr::from_bytes(&unhex(&member.name)));
        let mut above = PathBuf::new();
        for component in path.parent().into_iter().flat_map(Path::components) {
            above.push(component);
            found.entry(above.clone()).or_insert_with(|| Node {
                kind: "directory",
                mode: 0o755,
                owner: (0, 0),
                time: None,
                content: String::new(),
                name: above.clone(),
            });
        }
        #[allow(clippy::cast_possible_truncation, reason = "times of samples are small")]
        let time = Some((member.mtime.floor() as i64, 0));
        let link = String::from_utf8_lossy(&unhex(&member.link)).into_owned();
        let mut node = Node {
            kind: match member.kind.as_str() {
                "directory" => "directory",
                "link" => "link",
                "pipe" => "pipe",
                _ => "file",
            },
            mode: if member.kind == "link" { 0 } else { member.mode },
            owner: (member.uid, member.gid),
            time,
            content: if member.kind == "link" { link.clone() } else { member.digest.clone() },
            name: path.clone(),
        };
        if node.kind == "directory" && !sample.directories.iter().any(|known| Path::new(known) == path) {
            node.time = None;
        }
        if member.kind == "hard link" {
            let Some(target) = found.get(&plain(OsStr::new(&link))).cloned() else { continue };
            node = Node { content: target.content, name: target.name.clone(), ..node };
            // The header describes the file, whatever name it has.
            for other in found.values_mut().filter(|other| other.name == target.name) {
                *other = node.clone();
            }
        } else if let Some(replaced) = found.remove(&path) {
            rename(&mut found, &replaced.name);
        }
        found.insert(path, node);
    }
    // The first name is the first in order, as where a tree is looked at.
    let mut named: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for (path, node) in &mut found {
        node.name = named.entry(node.name.clone()).or_insert_with(|| path.clone()).clone();
    }
    Outcome::Tree(found)
}

/// The names that are left of a file whose name `replaced` goes: they are one file still.
fn rename(found: &mut BTreeMap<PathBuf, Node>, replaced: &Path) {
    let unused = PathBuf::from(format!("{}\u{1}", replaced.display()));
    for node in found.values_mut().filter(|node| node.name == replaced) {
        node.name.clone_from(&unused);
    }
}

/// A path without what means nothing in it.
fn plain(path: &OsStr) -> PathBuf {
    Path::new(path).components().filter(|component| matches!(component, std::path::Component::Normal(_))).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
}
