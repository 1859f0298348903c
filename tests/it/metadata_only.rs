//! A base whose regular files are not unpacked gives the layers that an unpacked one gives.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use crabwright::executor::copy::{CopySource, copy};
use crabwright::layer::{self, LayerOptions};
use crabwright::plan;
use crabwright::rootfs::archive::{Member, Reader};
use crabwright::rootfs::{Attributes, FileKind, Timestamp, Tree};
use crabwright::snapshot::{Options, compare};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::archive::Archive;
use crate::support::program::{Workspace, run};

const KEPT: &[&str] = &["etc/passwd", "etc/group"];
const PASSWD: &str = "app:x:1000:100::/:/bin/sh\n";

/// The same base twice, and what is copied onto it.
struct Pair {
    directory: tempfile::TempDir,
    full: Tree,
    metadata_only: Tree,
    context: Tree,
}

impl Pair {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let full = Tree::create(directory.path().join("full")).expect("tree");
        let metadata_only = Tree::create_metadata_only(directory.path().join("metadata_only"), KEPT).expect("tree");
        let mut context = Tree::create(directory.path().join("context")).expect("tree");
        // As the members of the archives look: copied over such a file, it is no change.
        let mut attributes = Attributes::new(FileKind::File, 0o644);
        attributes.mtime = Timestamp::from_seconds(1_600_000_000);
        let directories = Attributes { mode: 0o755, kind: FileKind::Directory, ..attributes.clone() };
        for path in ["t", "t/b", "t/b/c"] {
            context.create_directory(Path::new(path), &directories).expect(path);
        }
        for path in ["f", "t/a", "t/b/a", "t/b/c/a"] {
            context.create_file(Path::new(path), &attributes, &b"one"[..]).expect(path);
        }
        let link = Attributes { mode: 0o777, kind: FileKind::Symlink, ..attributes };
        context.create_symlink(Path::new("t/l"), "b".as_ref(), &link).expect("link");
        Self { directory, full, metadata_only, context }
    }

    /// Applies a layer to both: whether it can be is the same, too.
    fn apply(&mut self, archive: &Archive) -> bool {
        let full = self.full.apply_layer("layer", archive.bytes().as_slice());
        let metadata_only = self.metadata_only.apply_layer("layer", archive.bytes().as_slice());
        assert_eq!(full.is_ok(), metadata_only.is_ok(), "{full:?} {metadata_only:?}");
        if let (Ok(full), Ok(metadata_only)) = (&full, &metadata_only) {
            assert_eq!(full, metadata_only);
        }
        full.is_ok()
    }

    /// Copies onto both, and compares what comes out: messages or layers. False after an error.
    fn copy(&mut self, sources: &[&str], destination: &str, chown: Option<&str>) -> bool {
        let step = plan::Copy {
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            destination: destination.to_owned(),
            working_directory: "/".to_owned(),
            chown: chown.map(str::to_owned),
            ..plan::Copy::default()
        };
        let source = CopySource { tree: &self.context, ignore: None, reset_owner: true, describe: "the context" };
        let mut results = Vec::new();
        for tree in [&mut self.full, &mut self.metadata_only] {
            let copied = copy(&step, &source, &BTreeMap::new(), tree);
            results.push(copied.map_err(|error| text(&error, tree.path())).map(|()| {
                let changes = compare(tree, &Options::default()).expect("compared");
                // The clock differs.
                let options = LayerOptions { clamp_mtime: Some(0), ..LayerOptions::default() };
                let spool = self.directory.path().join("layer");
                let layer = layer::write(tree, &changes, &spool, &options).expect("written");
                tree.absorb(&changes, &layer.hashes, None).expect("absorbed");
                (changes, layer.descriptor.digest)
            }));
        }
        assert_eq!(results[0], results[1]);
        results[0].is_ok()
    }
}

/// An error with its causes, without the tree's place.
fn text(error: &dyn Error, root: &Path) -> String {
    let causes = error.source().map(|cause| text(cause, root)).unwrap_or_default();
    format!("{error}: {causes}").replace(&root.display().to_string(), "")
}

#[test]
fn a_file_that_is_as_it_was_is_no_change_and_others_are() {
    let mut pair = Pair::new();
    let base = Archive::default().directory("d/", 0o2750).file("d/f", "one").file("d/g", "two").file("d/h", "one");
    pair.apply(&base);
    assert!(!pair.metadata_only.path().join("d/f").exists() && pair.full.path().join("d/f").exists());
    let changes = |pair: &Pair| compare(&pair.metadata_only, &Options::default()).expect("compared");
    assert_eq!(changes(&pair), []);
    assert!(pair.copy(&["f"], "/d/f", None) && pair.copy(&["f"], "/d/g", None) && pair.copy(&["f"], "/d/h", Some("5")));
    assert!(pair.copy(&["t"], "/d/", None) && pair.copy(&["f"], "/d/n/n/", None));
    assert!(!pair.copy(&["f"], "/d/g/x", None), "a file is in the way");
}

#[test]
fn links_whiteouts_and_opaque_directories_of_the_base_count() {
    let mut pair = Pair::new();
    pair.apply(
        &Archive::default()
            .directory("usr", 0o755)
            .directory("usr/bin", 0o711)
            .file("usr/bin/f", "one")
            .hard_link("usr/bin/g", "usr/bin/f")
            .symlink("bin", "usr/bin")
            .symlink("usr/bin/l", "f")
            .directory("o", 0o700)
            .file("o/a", "one")
            .directory("w", 0o700)
            .file("w/a", "one"),
    );
    let mut upper = Archive::default().directory("o", 0o755).file("o/.wh..wh..opq", "").file(".wh.w", "");
    upper.push(b'1', "linked", "usr/bin/g", 0o600, b"");
    pair.apply(&upper.file("o/b", "one").directory("m", 0o755).file("m/.wh.none", ""));
    for destination in ["/bin/f", "/bin/l", "/bin/g", "/linked", "/o/a", "/o/b", "/w/a", "/bin/l/x", "/usr/bin/g/"] {
        pair.copy(&["f"], destination, None);
    }
    pair.copy(&["t"], "/bin", None);
    pair.copy(&["t"], "/", None);
}

#[test]
fn users_are_looked_up_in_the_base() {
    let mut pair = Pair::new();
    pair.apply(&Archive::default().directory("etc", 0o755).file("etc/passwd", PASSWD).file("etc/shadow", "x"));
    assert!(pair.copy(&["f"], "/f", Some("app")) && pair.copy(&["f"], "/g", Some("nobody")));
    let owner = |tree: &Tree| tree.node(Path::new("f")).expect("node").expect("file").attributes;
    assert_eq!((owner(&pair.metadata_only).uid, owner(&pair.metadata_only).gid), (1000, 100));
    assert!(
        pair.metadata_only.path().join("etc/passwd").exists() && !pair.metadata_only.path().join("etc/shadow").exists()
    );
    assert!(!pair.metadata_only.is_omitted(Path::new("etc/passwd")).expect("known"));
    pair.apply(&Archive::default().symlink("etc/passwd", "shadow"));
    assert!(pair.metadata_only.is_omitted(Path::new("etc/passwd")).expect("known"));
}

#[test]
fn a_copy_of_a_skeleton_is_one() {
    let mut pair = Pair::new();
    pair.apply(&Archive::default().directory("d", 0o700).file("d/f", "one").file("g", "two"));
    assert!(pair.copy(&["f"], "/g", None));
    pair.metadata_only = pair.metadata_only.copy_to(pair.directory.path().join("copied")).expect("copied");
    assert!(pair.copy(&["f"], "/d/f", None) && pair.copy(&["f"], "/d/g", None));
    assert!(!pair.copy(&["f"], "/d/f/x", None));
}

/// The members of the last layer of an OCI layout.
fn last_layer(layout: &Path) -> Vec<Member> {
    let blob = |digest: &Value| layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    let json = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let manifest = json(&blob(&json(&layout.join("index.json"))["manifests"][0]["digest"]));
    let layer = manifest["layers"].as_array().unwrap().last().unwrap();
    let file = std::fs::File::open(blob(&layer["digest"])).unwrap();
    let mut reader = Reader::new(layer::reader(file, layer["mediaType"].as_str().unwrap()).unwrap());
    std::iter::from_fn(|| reader.next_member().unwrap()).collect()
}

/// The same of the image of `workspace`, whose `FROM base` is the image of `base`.
fn last_layer_on(base: &Workspace, workspace: &Workspace) -> Vec<Member> {
    let (layout, out) = (base.out().join("layout"), workspace.out().join("layout"));
    run(base.build().arg("--no-push").arg("--oci-layout-path").arg(&layout)).success();
    let context = format!("base=oci-layout://{}", layout.display());
    run(workspace.build().args(["--no-push", "--build-context", &context]).arg("--oci-layout-path").arg(&out))
        .success();
    last_layer(&out)
}

#[test]
fn a_base_with_its_users_behind_a_link_is_unpacked_after_all() {
    let base = Workspace::new("FROM scratch\nCOPY root /\n");
    base.file("root/data/accounts", PASSWD).file("root/etc/group", "");
    std::os::unix::fs::symlink("../data/accounts", base.context().join("root/etc/passwd")).unwrap();
    let workspace = Workspace::new("FROM base\nCOPY --chown=app f /f\n");
    workspace.file("f", "1");
    let owners: Vec<_> =
        last_layer_on(&base, &workspace).into_iter().map(|member| (member.name, member.uid, member.gid)).collect();
    assert_eq!(owners, [(b"f".to_vec(), 1000, 100)]);
}

#[test]
fn links_alone_need_nothing_of_their_base() {
    let base = Workspace::new("FROM scratch\nCOPY f /usr/f\n");
    base.file("f", "1");
    let workspace =
        Workspace::new("FROM base AS one\nCOPY --link f /usr/f\nFROM one\nENV A=b\nCOPY --link --chown=3 f /g/\n");
    workspace.file("f", "2");
    let names: Vec<_> = last_layer_on(&base, &workspace).into_iter().map(|member| (member.name, member.uid)).collect();
    assert_eq!(names, [(b"g/".to_vec(), 3), (b"g/f".to_vec(), 3)]);
}

const NAMES: [&str; 12] = ["a", "b", "d", "d/a", "d/b", "d/d", "d/d/a", "l", "l/a", "etc/passwd", "etc", "d/l"];
const TARGETS: [&str; 7] = ["d", "/d/d", "a", "../a", "nowhere", "l", "d/a"];

#[derive(Debug, Clone)]
enum MemberOf {
    File(&'static str, &'static str),
    Directory(&'static str, u32),
    Symlink(&'static str, &'static str),
    HardLink(&'static str, &'static str),
    Whiteout(&'static str),
    Opaque(&'static str),
}

fn member() -> impl Strategy<Value = MemberOf> {
    let name = || prop::sample::select(&NAMES[..]);
    prop_oneof![
        4 => (name(), prop::sample::select(&["one", "two", PASSWD][..])).prop_map(|(a, b)| MemberOf::File(a, b)),
        3 => (name(), prop::sample::select(&[0o755, 0o2750][..])).prop_map(|(a, b)| MemberOf::Directory(a, b)),
        2 => (name(), prop::sample::select(&TARGETS[..])).prop_map(|(a, b)| MemberOf::Symlink(a, b)),
        2 => (name(), name()).prop_map(|(a, b)| MemberOf::HardLink(a, b)),
        1 => name().prop_map(MemberOf::Whiteout),
        1 => name().prop_map(MemberOf::Opaque),
    ]
}

fn archive(members: &[MemberOf]) -> Archive {
    members.iter().fold(Archive::default(), |archive, member| match member {
        MemberOf::File(name, content) => archive.file(name, content),
        MemberOf::Directory(name, mode) => archive.directory(name, *mode),
        MemberOf::Symlink(name, target) => archive.symlink(name, target),
        MemberOf::HardLink(name, target) => archive.hard_link(name, target),
        MemberOf::Whiteout(name) => {
            let (above, name) = name.rsplit_once('/').map_or(("", *name), |(above, name)| (above, name));
            archive.file(&format!("{above}/.wh.{name}"), "")
        }
        MemberOf::Opaque(name) => archive.file(&format!("{name}/.wh..wh..opq"), ""),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_base_is_the_layers_are_the_same(
        layers in prop::collection::vec(prop::collection::vec(member(), 1..8), 1..4),
        copies in prop::collection::vec(
            (
                prop::sample::select(&["f", "t", "t/l", "t/b"][..]),
                prop::sample::select(&NAMES[..]),
                any::<bool>(),
                prop::sample::select(&[None, Some("app"), Some("7:8")][..]),
            ),
            1..4,
        ),
    ) {
        let mut pair = Pair::new();
        if layers.iter().all(|layer| pair.apply(&archive(layer)))
            // Where users are somewhere else, the executor takes a full tree.
            && !KEPT.iter().any(|kept| pair.metadata_only.is_omitted(Path::new(kept)).unwrap_or(false))
        {
            for (source, destination, slash, chown) in copies {
                let destination = format!("/{destination}{}", if slash { "/" } else { "" });
                if !pair.copy(&[source], &destination, chown) {
                    break;
                }
            }
        }
    }
}
