//! Snapshots and layers against a naive reference: compare everything by content, and unpack the layers again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use crabwright::layer::{Layer, LayerOptions, VerifyingReader, reader};
use crabwright::rootfs::archive::{Member, MemberKind, Reader};
use crabwright::rootfs::{Attributes, Change, ChangeKind, FileKind, Tree};
use crabwright::snapshot::{IgnoredPaths, Options, compare};
use proptest::prelude::*;

use crate::support::archive::Archive;

/// Everything an image says of a path, content included.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: u32,
    mode: u32,
    owner: (u32, u32),
    device: u64,
    /// Not of directories: their time alone is no change.
    mtime: Option<(i64, i64)>,
    content: Vec<u8>,
    note: Option<Vec<u8>>,
}

/// All paths of a tree, and the sets of names of files with several.
fn naive(root: &Path) -> (BTreeMap<PathBuf, Seen>, BTreeSet<Vec<PathBuf>>) {
    fn walk(root: &Path, below: &Path, seen: &mut BTreeMap<PathBuf, Seen>, links: &mut HashMap<u64, Vec<PathBuf>>) {
        for entry in std::fs::read_dir(root.join(below)).expect("list") {
            let path = below.join(entry.expect("entry").file_name());
            let full = root.join(&path);
            let metadata = std::fs::symlink_metadata(&full).expect("metadata");
            let kind = metadata.file_type();
            if kind.is_socket() {
                continue;
            }
            let content = if kind.is_file() {
                std::fs::read(&full).expect("read")
            } else if kind.is_symlink() {
                std::fs::read_link(&full).expect("link").as_os_str().as_bytes().to_vec()
            } else {
                Vec::new()
            };
            let mut note = [0; 100];
            let note = match rustix::fs::lgetxattr(&full, "user.note", &mut note[..]) {
                Ok(length) => Some(note[..length].to_vec()),
                Err(_) => None,
            };
            let found = Seen {
                kind: metadata.mode() & 0o170_000,
                mode: if kind.is_symlink() { 0o777 } else { metadata.mode() & 0o7777 },
                owner: (metadata.uid(), metadata.gid()),
                device: metadata.rdev(),
                mtime: (!kind.is_dir()).then(|| (metadata.mtime(), metadata.mtime_nsec())),
                content,
                note,
            };
            seen.insert(path.clone(), found);
            if kind.is_dir() {
                walk(root, &path, seen, links);
            } else {
                links.entry(metadata.ino()).or_default().push(path);
            }
        }
    }
    let (mut seen, mut links) = (BTreeMap::new(), HashMap::new());
    walk(root, Path::new(""), &mut seen, &mut links);
    let mut sets: BTreeSet<Vec<PathBuf>> = links.into_values().filter(|names| names.len() > 1).collect();
    sets = sets
        .into_iter()
        .map(|mut names| {
            names.sort();
            names
        })
        .collect();
    (seen, sets)
}

/// What changed between two looks, parents and links aside.
fn naive_changes(before: &BTreeMap<PathBuf, Seen>, after: &BTreeMap<PathBuf, Seen>) -> Vec<Change> {
    let mut changes = Vec::new();
    let is_directory =
        |path: &Path| path.as_os_str().is_empty() || after.get(path).is_some_and(|seen| seen.kind == 0o040_000);
    for path in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let kind = match (before.get(path), after.get(path)) {
            (Some(before), Some(after)) if before == after => continue,
            (Some(_), Some(_)) => ChangeKind::Modified,
            (None, _) => ChangeKind::Added,
            (Some(_), None) if is_directory(path.parent().expect("parent")) => ChangeKind::Removed,
            (Some(_), None) => continue,
        };
        changes.push(Change { path: path.clone(), kind });
    }
    changes
}

/// As a layer says it: times in whole seconds.
fn whole_seconds(seen: &BTreeMap<PathBuf, Seen>) -> BTreeMap<PathBuf, Seen> {
    let truncated = |seen: &Seen| Seen { mtime: seen.mtime.map(|(seconds, _)| (seconds, 0)), ..seen.clone() };
    seen.iter().map(|(path, seen)| (path.clone(), truncated(seen))).collect()
}

fn base() -> Vec<u8> {
    Archive::default()
        .directory("d", 0o755)
        .file("d/a", "aaaa")
        .file("d/b", "bbbb")
        .directory("d/e", 0o755)
        .file("d/e/a", "inner")
        .directory("d/e/g", 0o755)
        .directory("d/e/g/h", 0o755)
        .file("d/e/g/h/a", "deep")
        .hard_link("d/e/h", "d/a")
        .file("one", "linked")
        .hard_link("two", "one")
        .hard_link("three", "one")
        .symlink("link", "d/a")
        .file("d-", "sorts between")
        .file("f", "some content")
        .bytes()
}

const NAMES: [&str; 18] = [
    "one",
    "two",
    "three",
    "link",
    "f",
    "d",
    "d-",
    "d/a",
    "d/b",
    "d/e",
    "d/e/a",
    "d/e/h",
    "new",
    "d/new",
    "d/e/g",
    "d/e/g/h",
    "d/e/g/h/a",
    "d/e/g/h/new",
];

#[derive(Debug, Clone)]
enum Edit {
    Write(String),
    /// Same size, and the time set back: only the change time tells.
    Sneak,
    Append,
    Truncate,
    Chmod(u32),
    Chown(u32),
    Touch(i64),
    Rename(usize),
    Link(usize),
    Symlink(String),
    Directory,
    Fifo,
    Remove,
    Note(u8),
    /// Replaced by a copy with equal content and time.
    CopyOver,
}

fn edits() -> impl Strategy<Value = Vec<(usize, Edit)>> {
    let edit = prop_oneof![
        "[ab]{0,4}".prop_map(Edit::Write),
        Just(Edit::Sneak),
        Just(Edit::Append),
        Just(Edit::Truncate),
        prop_oneof![Just(0o644), Just(0o600), Just(0o4755), Just(0o1777)].prop_map(Edit::Chmod),
        (0_u32..3).prop_map(Edit::Chown),
        prop_oneof![Just(1_600_000_000), Just(-5), Just(5_000_000_000)].prop_map(Edit::Touch),
        (0..NAMES.len()).prop_map(Edit::Rename),
        (0..NAMES.len()).prop_map(Edit::Link),
        "[ad]".prop_map(Edit::Symlink),
        Just(Edit::Directory),
        Just(Edit::Fifo),
        Just(Edit::Remove),
        (0_u8..2).prop_map(Edit::Note),
        Just(Edit::CopyOver),
    ];
    proptest::collection::vec((0..NAMES.len(), edit), 0..10)
}

/// What a program in a container might do; that it fails is fine.
fn apply(root: &Path, name: usize, edit: &Edit) -> std::io::Result<()> {
    let path = root.join(NAMES[name]);
    let time = |path: &Path, seconds: i64, nanoseconds: i64| {
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
    };
    let metadata = || std::fs::symlink_metadata(&path);
    let is_file = metadata().is_ok_and(|metadata| metadata.is_file());
    match edit {
        Edit::Write(content) if is_file || metadata().is_err() => std::fs::write(&path, content)?,
        Edit::Sneak if is_file => {
            let before = metadata()?;
            let content: Vec<u8> = std::fs::read(&path)?.iter().map(|byte| byte ^ 1).collect();
            std::fs::write(&path, content)?;
            time(&path, before.mtime(), before.mtime_nsec())?;
        }
        Edit::Append if is_file => std::fs::OpenOptions::new().append(true).open(&path)?.write_all(b"more")?,
        Edit::Truncate if is_file => drop(std::fs::File::create(&path)?),
        Edit::Chmod(mode) if !path.is_symlink() => {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode))?;
        }
        Edit::Chown(owner) => lchown(&path, Some(*owner), Some(*owner))?,
        Edit::Touch(seconds) => time(&path, *seconds, 0)?,
        Edit::Rename(to) => std::fs::rename(&path, root.join(NAMES[*to]))?,
        Edit::Link(to) => std::fs::hard_link(&path, root.join(NAMES[*to]))?,
        Edit::Symlink(target) if std::fs::remove_file(&path).is_ok() => {
            symlink(target, &path)?;
        }
        Edit::Directory => std::fs::create_dir(&path)?,
        Edit::Fifo => {
            let name = CString::new(path.as_os_str().as_bytes())?;
            rustix::fs::mkfifoat(rustix::fs::CWD, name, rustix::fs::Mode::RUSR)?;
        }
        Edit::Remove => {
            std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path))?;
        }
        Edit::Note(value) if is_file => {
            rustix::fs::setxattr(&path, "user.note", &[*value], rustix::fs::XattrFlags::empty())?;
        }
        Edit::CopyOver if is_file => {
            let before = metadata()?;
            let copy = root.join("copy");
            std::fs::copy(&path, &copy)?;
            chown(&copy, Some(before.uid()), Some(before.gid()))?;
            std::fs::set_permissions(&copy, before.permissions())?;
            time(&copy, before.mtime(), before.mtime_nsec())?;
            std::fs::rename(copy, &path)?;
        }
        _ => {}
    }
    Ok(())
}

fn write(tree: &mut Tree, changes: &[Change], spool: &Path) -> Layer {
    let layer = crabwright::layer::write(tree, changes, spool, &LayerOptions::default()).expect("layer");
    tree.absorb(changes, &layer.hashes, None).expect("absorbed");
    layer
}

fn unpack(tree: &mut Tree, layer: &Layer) {
    let blob = std::fs::File::open(&layer.path).expect("blob");
    let plain = reader(blob, &layer.descriptor.media_type).expect("reader");
    tree.apply_layer("layer", VerifyingReader::new(plain, &layer.diff_id)).expect("applied");
}

fn members(layer: &Layer) -> Vec<Member> {
    let blob = std::fs::File::open(&layer.path).expect("blob");
    let mut members = Reader::new(reader(blob, "").expect("reader"));
    std::iter::from_fn(|| members.next_member().expect("member")).collect()
}

/// Two layers of edits: the changes are those a full comparison of contents finds, and the unpacked layers are the tree.
fn check(rounds: &[Vec<(usize, Edit)>]) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut tree = Tree::create(directory.path().join("tree")).expect("tree");
    let mut copy = Tree::create(directory.path().join("copy")).expect("tree");
    copy.apply_layer("base", base().as_slice()).expect("base");
    tree.apply_layer("base", base().as_slice()).expect("base");
    for (round, edits) in rounds.iter().enumerate() {
        let (before, _) = naive(tree.path());
        for (name, edit) in edits {
            drop(apply(tree.path(), *name, edit));
        }
        let (after, links) = naive(tree.path());
        let changes = compare(&tree, &Options::default()).expect("compared");
        assert!(changes.is_sorted());
        let own: Vec<Change> = changes.iter().filter(|change| change.kind != ChangeKind::Parent).cloned().collect();
        assert_eq!(own, naive_changes(&before, &after));
        for change in &changes {
            let parent = change.path.parent().expect("parent");
            assert!(parent.as_os_str().is_empty() || changes.iter().any(|change| change.path == parent));
        }
        let layer = write(&mut tree, &changes, &directory.path().join(format!("layer{round}")));
        assert_eq!(compare(&tree, &Options::default()).expect("compared"), [], "absorbed");
        unpack(&mut copy, &layer);
        assert_eq!(compare(&copy, &Options::default()).expect("compared"), [], "applied");
        let (unpacked, unpacked_links) = naive(copy.path());
        assert_eq!(whole_seconds(&unpacked), whole_seconds(&after));
        // Of the names the layer holds, those are linked that are one file. With names in lower layers it is as with
        // BuildKit: a new name is not linked to them, and a copy with equal times does not part from them.
        let written: BTreeSet<&PathBuf> = own.iter().map(|change| &change.path).collect();
        let within = |sets: &BTreeSet<Vec<PathBuf>>| -> BTreeSet<Vec<PathBuf>> {
            let sets = sets.iter().map(|set| set.iter().filter(|name| written.contains(name)).cloned().collect());
            sets.filter(|set: &Vec<PathBuf>| set.len() > 1).collect()
        };
        assert_eq!(within(&unpacked_links), within(&links));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_are_those_of_a_full_comparison_and_layers_reproduce_the_tree(
        first in edits(), second in edits()
    ) {
        check(&[first, second]);
    }
}

#[test]
fn a_change_in_the_tick_of_the_baseline_is_found() {
    for _ in 0..20 {
        check(&[vec![(4, Edit::Sneak)], vec![(4, Edit::Sneak)], vec![(8, Edit::Sneak), (0, Edit::Sneak)]]);
    }
}

#[test]
fn links_joined_parted_and_moved_come_out_right() {
    check(&[
        vec![(0, Edit::CopyOver), (7, Edit::Link(12))],
        vec![(1, Edit::Chmod(0o600)), (12, Edit::Remove), (7, Edit::CopyOver)],
        vec![(3, Edit::Link(12)), (3, Edit::Chown(2)), (2, Edit::Rename(4))],
    ]);
}

fn fixture() -> (tempfile::TempDir, Tree) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut tree = Tree::create(directory.path().join("tree")).expect("tree");
    tree.apply_layer("base", base().as_slice()).expect("base");
    (directory, tree)
}

fn listing(layer: &Layer) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    members(layer)
        .iter()
        .map(|member| match &member.kind {
            MemberKind::HardLink(target) => format!("{} = {}", text(&member.name), text(target)),
            MemberKind::Symlink(target) => format!("{} -> {}", text(&member.name), text(target)),
            _ => text(&member.name),
        })
        .collect()
}

#[test]
fn a_layer_lists_parents_and_whiteouts_in_order() {
    let (directory, mut tree) = fixture();
    let root = tree.path().to_owned();
    std::fs::remove_file(root.join("d/b")).expect("remove");
    std::fs::remove_dir_all(root.join("d/e")).expect("remove");
    std::fs::create_dir(root.join("d/e")).expect("directory");
    std::fs::write(root.join("d/e/b"), "x").expect("write");
    std::fs::remove_file(root.join("f")).expect("remove");
    std::os::unix::net::UnixListener::bind(root.join("socket")).expect("socket");
    let changes = compare(&tree, &Options::default()).expect("compared");
    let layer = write(&mut tree, &changes, &directory.path().join("layer"));
    assert_eq!(listing(&layer), ["d/", "d/.wh.b", "d/e/", "d/e/.wh.a", "d/e/b", "d/e/.wh.g", "d/e/.wh.h", ".wh.f"]);
    let whiteout = members(&layer).swap_remove(1);
    assert_eq!((whiteout.mode, whiteout.mtime.seconds, whiteout.size), (0, 0, 0));
    let mut paths = IgnoredPaths::default();
    paths.add("/new").expect("a path");
    paths.add("/o[mn]e").expect("a pattern");
    let ignored = Options { ignored: paths };
    std::fs::write(root.join("new"), "x").expect("write");
    std::fs::remove_file(root.join("one")).expect("remove");
    assert_eq!(compare(&tree, &ignored).expect("compared"), []);
}

#[test]
fn a_new_name_of_an_old_file_is_a_file_and_new_names_are_linked_to_each_other() {
    let (directory, mut tree) = fixture();
    std::fs::hard_link(tree.path().join("one"), tree.path().join("d/four")).expect("link");
    std::fs::hard_link(tree.path().join("one"), tree.path().join("five")).expect("link");
    let changes = compare(&tree, &Options::default()).expect("compared");
    let layer = write(&mut tree, &changes, &directory.path().join("layer"));
    assert_eq!(listing(&layer), ["d/", "d/four", "five = d/four"]);
}

#[test]
fn gnu_tar_unpacks_what_was_written() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut tree = Tree::create(directory.path().join("tree")).expect("tree");
    let mut attributes = Attributes::new(FileKind::File, 0o4711);
    (attributes.uid, attributes.gid) = (3_000_000, 4_000_000);
    attributes.mtime.seconds = -86_400;
    let long = format!("{}/{}", "d".repeat(150), "n".repeat(220));
    let directory_attributes = Attributes::new(FileKind::Directory, 0o1777);
    tree.create_directory(Path::new(&"d".repeat(150)), &directory_attributes).expect("directory");
    tree.create_directory(Path::new("p"), &directory_attributes).expect("directory");
    let split = format!("p/{}", "s".repeat(99));
    tree.create_file(Path::new(&split), &attributes, &b"split"[..]).expect("file");
    tree.create_file(Path::new(&long), &attributes, std::io::repeat(7).take(3_000_000)).expect("file");
    tree.create_hard_link(Path::new(&long), Path::new("hard")).expect("link");
    attributes.xattrs.insert("user.note".into(), b"kept".to_vec());
    let odd = Path::new(std::ffi::OsStr::from_bytes(b"odd \xff\n\xc3\xbc"));
    tree.create_file(odd, &attributes, &b""[..]).expect("file");
    let target = "t".repeat(300);
    tree.create_symlink(Path::new("link"), target.as_ref(), &Attributes::new(FileKind::Symlink, 0o777)).expect("link");
    for (name, kind) in [
        ("pipe", FileKind::Fifo),
        ("null", FileKind::CharDevice { major: 1, minor: 3 }),
        ("loop", FileKind::BlockDevice { major: 7, minor: 300 }),
    ] {
        tree.create_special(Path::new(name), &Attributes::new(kind, 0o620)).expect("special");
    }
    let changes = compare(&tree, &Options::default()).expect("compared");
    let layer = write(&mut tree, &changes, &directory.path().join("layer"));
    let unpacked = directory.path().join("unpacked");
    std::fs::create_dir(&unpacked).expect("directory");
    let output = std::process::Command::new("tar")
        .args(["-x", "-p", "-z", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-f"])
        .arg(&layer.path)
        .arg("-C")
        .arg(&unpacked)
        .output()
        .expect("GNU tar");
    // Times before 1970 make it warn.
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ((ours, our_links), (theirs, their_links)) = (naive(tree.path()), naive(&unpacked));
    assert_eq!(whole_seconds(&ours), whole_seconds(&theirs));
    assert_eq!(our_links, their_links);
    let mut again = Tree::create(directory.path().join("again")).expect("tree");
    unpack(&mut again, &layer);
    assert_eq!(naive(again.path()).0, whole_seconds(&ours));
}

#[test]
fn the_bytes_depend_on_the_changes_alone() {
    let (directory, tree) = fixture();
    std::fs::write(tree.path().join("big"), vec![3; 5 << 20]).expect("write");
    std::fs::write(tree.path().join("f"), "new").expect("write");
    let changes = compare(&tree, &Options::default()).expect("compared");
    let digests: BTreeSet<String> = [1, 2, 3, 0]
        .map(|threads| {
            let options = LayerOptions { threads, clamp_mtime: Some(1_000), ..LayerOptions::default() };
            let spool = directory.path().join("layer");
            let layer = crabwright::layer::write(&tree, &changes, &spool, &options).expect("layer");
            assert!(members(&layer).iter().all(|member| member.mtime.seconds <= 1_000));
            let blob = std::fs::read(&spool).expect("blob");
            assert_eq!(layer.descriptor.size, blob.len() as u64);
            assert_eq!(layer.descriptor.digest, crabwright::image::Digest::sha256_of(&blob));
            format!("{} {}", layer.descriptor.digest, layer.diff_id)
        })
        .into();
    assert_eq!(digests.len(), 1);
}
