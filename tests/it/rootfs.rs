//! Unpacking layers: what a tree holds afterwards, and that hostile archives reach nothing outside of it.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crabwright::diag::with_causes;
use crabwright::rootfs::archive::{MemberKind, Reader};
use crabwright::rootfs::{Attributes, FileKind, RootfsError, Timestamp, Tree};

use crate::support::archive::{Archive, record};

struct Fixture {
    directory: tempfile::TempDir,
    tree: Tree,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(directory.path().join("outside"), "untouched").expect("file");
        let tree = Tree::create(directory.path().join("root")).expect("tree");
        Self { directory, tree }
    }

    fn apply(&mut self, archive: &Archive) -> &mut Self {
        self.tree.apply_layer("sha256:test", archive.bytes().as_slice()).expect("applied");
        self.matches_index();
        self
    }

    /// Applies an archive that must be refused, and gives the error with its causes.
    fn refused(&mut self, archive: &Archive) -> String {
        let error = self.tree.apply_layer("sha256:test", archive.bytes().as_slice()).expect_err("refused");
        assert_eq!(std::fs::read_to_string(self.directory.path().join("outside")).expect("outside"), "untouched");
        let beside: Vec<_> = std::fs::read_dir(self.directory.path()).expect("list").collect();
        assert_eq!(beside.len(), 2, "nothing but the root and the file beside it");
        with_causes(&error)
    }

    fn content(&self, path: &str) -> String {
        let mut content = String::new();
        self.tree.open_file(Path::new(path)).expect(path).read_to_string(&mut content).expect(path);
        content
    }

    fn names(&self, path: &str) -> Vec<String> {
        self.tree.list(Path::new(path)).expect(path).into_iter().map(|name| name.into_string().expect("text")).collect()
    }

    fn exists(&self, path: &str) -> bool {
        self.tree.node(Path::new(path)).expect(path).is_some()
    }

    fn seconds(&self, path: &str) -> i64 {
        self.tree.node(Path::new(path)).expect(path).expect(path).attributes.mtime.seconds
    }

    /// The index holds exactly what is on the disk, so that a compare finds nothing.
    fn matches_index(&self) {
        let changes = crabwright::snapshot::compare(&self.tree, &Default::default()).expect("compared");
        assert_eq!(changes, []);
    }
}

#[test]
fn members_get_their_attributes_and_directories_keep_their_times() {
    let mut fixture = Fixture::new();
    let mut archive = Archive::default().directory("etc/", 0o750).file("etc/passwd", "root");
    archive.push(b'0', "etc/su", "", 0o4755, b"x");
    archive.push(b'6', "etc/pipe", "", 0o640, b"");
    fixture.apply(&archive.symlink("etc/link", "/nowhere").hard_link("etc/hard", "etc/su"));
    assert_eq!(fixture.names("etc"), ["hard", "link", "passwd", "pipe", "su"]);
    assert_eq!(fixture.seconds("etc"), 1_600_000_000);
    let node = fixture.tree.node(Path::new("etc/su")).expect("node").expect("su");
    assert_eq!((node.attributes.mode, node.link_count), (0o644, 2), "a hard link's header describes the file");
    let node = fixture.tree.node(Path::new("etc/link")).expect("node").expect("link");
    assert_eq!(node.link_target.as_deref(), Some(std::ffi::OsStr::new("/nowhere")));
    assert_eq!(node.attributes.mtime, Timestamp::from_seconds(1_600_000_000));
    // A later layer moves no time of a directory it has no member for.
    fixture.apply(&Archive::default().file("etc/new", "").file("etc/.wh.pipe", ""));
    assert_eq!(fixture.seconds("etc"), 1_600_000_000);
    assert!(!fixture.exists("etc/pipe"));
}

#[test]
fn names_that_leave_the_root_are_refused_by_name() {
    for name in ["../outside", "a/../../outside", "/../outside", "a/b/../../../x", ".."] {
        let text = Fixture::new().refused(&Archive::default().file(name, "evil"));
        assert!(text.starts_with(&format!("failed to unpack {name:?}: ")), "{text}");
        assert!(text.contains("leads out of the root"), "{text}");
    }
    let text = Fixture::new().refused(&Archive::default().hard_link("link", "../outside"));
    assert!(text.contains("\"../outside\" leads out of the root"), "{text}");
    assert!(Fixture::new().refused(&Archive::default().file("../.wh.outside", "")).contains("leads out"));
    assert!(Fixture::new().refused(&Archive::default().file("../.wh..wh..opq", "")).contains("leads out"));
}

#[test]
fn links_out_of_the_root_stay_inside() {
    let mut fixture = Fixture::new();
    let outside = fixture.directory.path().join("outside").display().to_string();
    fixture.apply(
        &Archive::default()
            .directory("etc", 0o755)
            .symlink("up", "../../../..")
            .symlink("absolute", "/etc")
            .symlink("away", &outside)
            .file("up/above", "a")
            .file("absolute/file", "b")
            .file("/rooted", "c")
            .file("x/../y", "d"),
    );
    assert_eq!(fixture.names(""), ["above", "absolute", "away", "etc", "rooted", "up", "y"]);
    assert_eq!(fixture.content("etc/file"), "b");
    // What is at a link's place is replaced, not written through.
    fixture.apply(&Archive::default().file("away", "inside").directory("absolute", 0o755));
    assert_eq!(fixture.content("away"), "inside");
    assert!(fixture.names("absolute").is_empty());
    assert_eq!(std::fs::read_to_string(outside).expect("outside"), "untouched");
}

#[test]
fn a_hard_link_through_a_link_finds_only_what_is_inside() {
    let mut fixture = Fixture::new();
    let beside = fixture.directory.path().display().to_string();
    let text = fixture.refused(&Archive::default().symlink("away", &beside).hard_link("stolen", "away/outside"));
    assert!(text.contains("which is not a file in this or a lower layer"), "{text}");
    let mut fixture = Fixture::new();
    let archive = Archive::default().directory("d", 0o755).file("d/f", "x").symlink("l", "/d").hard_link("h", "l/f");
    fixture.apply(&archive);
    assert_eq!(fixture.tree.node(Path::new("h")).expect("node").expect("h").link_count, 2);
    assert!(
        Fixture::new().refused(&Archive::default().directory("d", 0o755).hard_link("h", "d")).contains("not a file")
    );
}

#[test]
fn implied_directories_do_not_depend_on_the_clock() {
    let mut fixture = Fixture::new();
    fixture.apply(&Archive::default().file("a/b/c", "x"));
    assert_eq!((fixture.seconds("a"), fixture.seconds("a/b")), (0, 0));
    let text = Fixture::new().refused(&Archive::default().file("a", "x").file("a/b", "y"));
    assert!(text.contains("\"a\" is not a directory"), "{text}");
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_else() {
    let base = Archive::default()
        .directory("d", 0o755)
        .file("d/a", "1")
        .file("d/b", "2")
        .directory("d/s", 0o755)
        .file("d/s/c", "3")
        .file("keep", "4");
    // The marks stand before and after this layer's own entries.
    let opaque =
        Archive::default().directory("d", 0o755).file("d/a", "new").file("d/.wh..wh..opq", "").file("d/z", "z");
    let mut fixture = Fixture::new();
    fixture.apply(&base).apply(&opaque);
    assert_eq!(fixture.names("d"), ["a", "z"]);
    assert_eq!(fixture.content("d/a"), "new");

    let inner = Archive::default().file("d/s/own", "own").file("d/.wh..wh..opq", "");
    let mut fixture = Fixture::new();
    fixture.apply(&base).apply(&inner);
    assert_eq!((fixture.names("d"), fixture.names("d/s")), (vec!["s".to_owned()], vec!["own".to_owned()]));

    let single = Archive::default().file("d/.wh.a", "").file("d/.wh.s", "").file(".wh.missing", "").file("x/.wh.y", "");
    let mut fixture = Fixture::new();
    fixture.apply(&base).apply(&single);
    assert_eq!(
        (fixture.names(""), fixture.names("d")),
        (vec!["d".to_owned(), "keep".to_owned()], vec!["b".to_owned()])
    );

    // The same name hidden and brought by one layer is there, in whichever order.
    for archive in [
        Archive::default().file(".wh.keep", "").file("keep", "5"),
        Archive::default().file("keep", "5").file(".wh.keep", ""),
    ] {
        let mut fixture = Fixture::new();
        fixture.apply(&base).apply(&archive);
        assert_eq!(fixture.content("keep"), "5");
    }
    assert!(Fixture::new().refused(&Archive::default().file(".wh.", "")).contains("names no file"));
    assert!(Fixture::new().refused(&Archive::default().file(".wh...", "")).contains("names no file"));
    let mut fixture = Fixture::new();
    fixture.apply(&Archive::default().file(".wh..wh.plnk", "").file(".wh..wh.aufs", ""));
    assert!(fixture.names("").is_empty());
}

#[test]
fn one_kind_replaces_another() {
    let mut fixture = Fixture::new();
    fixture.apply(&Archive::default().directory("d", 0o755).file("d/x", "x").file("f", "f").symlink("l", "d"));
    fixture.apply(&Archive::default().file("d", "file").directory("f", 0o700).file("f/y", "y").directory("l", 0o711));
    assert_eq!((fixture.content("d"), fixture.content("f/y")), ("file".to_owned(), "y".to_owned()));
    assert!(fixture.names("l").is_empty());
    fixture.apply(&Archive::default().symlink("f", "d").directory("d", 0o755).file("l/f", "z").file("l", "l"));
    assert_eq!(fixture.content("l"), "l");
}

/// Small files are made by several threads: what comes next in the archive finds them all the same.
#[test]
fn members_depend_on_files_that_are_still_being_written() {
    let mut archive = Archive::default();
    for number in 0..300 {
        let (file, link) = (format!("d{}/file-{number}", number % 7), format!("link-{number}"));
        archive = archive.file(&file, format!("first {number}"));
        archive = match number % 5 {
            0 => archive.file(&file, format!("second {number}")),
            1 => archive.hard_link(&link, &file),
            2 => archive.directory(&file, 0o755).file(&format!("{file}/below"), "third"),
            3 => archive.directory(&file, 0o755).file(&file, format!("fourth {number}")),
            _ => archive.symlink(&file, "elsewhere"),
        };
    }
    let mut fixture = Fixture::new();
    fixture.apply(&archive);
    for number in 0..300 {
        let file = format!("d{}/file-{number}", number % 7);
        match number % 5 {
            0 => assert_eq!(fixture.content(&file), format!("second {number}")),
            1 => assert_eq!(fixture.content(&format!("link-{number}")), format!("first {number}")),
            2 => assert_eq!(fixture.content(&format!("{file}/below")), "third"),
            3 => assert_eq!(fixture.content(&file), format!("fourth {number}")),
            _ => assert_eq!(fixture.tree.node(Path::new(&file)).unwrap().unwrap().attributes.kind, FileKind::Symlink),
        }
    }
    let below_a_file = Archive::default().file("d0/new", "x").file("d0/new/below", "x");
    assert!(
        fixture.refused(&below_a_file).starts_with("failed to unpack \"d0/new/below\": \"d0/new\" is not a directory")
    );
}

#[test]
fn a_file_that_cannot_be_written_is_the_one_that_is_named() {
    let long = format!("dir/{}", "n".repeat(300));
    let mut archive = Archive::default().file("dir/first", "1");
    archive = archive.pax(&record("path", &long)).file("short", "2");
    for number in 0..100 {
        archive = archive.file(&format!("dir/later-{number}"), "3");
    }
    let text = Fixture::new().refused(&archive);
    assert!(text.starts_with(&format!("failed to unpack {long:?}: failed to write file: ")), "{text}");
}

#[test]
fn files_of_every_size_are_what_the_archive_says() {
    let mut fixture = Fixture::new();
    let sizes = [0, 1, 131_071, 131_072, 131_073, 524_287, 524_288, 524_289, 2_000_000];
    let content = |size: usize, zeros: bool| -> Vec<u8> {
        (0..size).map(|at| if zeros { 0 } else { u8::try_from(at % 251).unwrap_or_default() }).collect()
    };
    let mut archive = Archive::default();
    for size in sizes {
        archive =
            archive.file(&format!("n{size}"), content(size, false)).file(&format!("z{size}"), content(size, true));
    }
    fixture.apply(&archive);
    for (size, zeros) in sizes.into_iter().flat_map(|size| [(size, false), (size, true)]) {
        let path = fixture.directory.path().join("root").join(format!("{}{size}", if zeros { "z" } else { "n" }));
        assert!(std::fs::read(&path).expect("file") == content(size, zeros), "{}", path.display());
        let blocks = std::fs::metadata(&path).expect("metadata").blocks();
        assert!(!zeros || size < 131_072 || blocks * 512 < size as u64, "{} has {blocks} blocks", path.display());
    }
}

#[test]
fn a_replaced_name_does_not_change_its_hard_links() {
    let mut fixture = Fixture::new();
    fixture.apply(&Archive::default().file("one", "1").hard_link("two", "one").hard_link("three", "two"));
    fixture.apply(&Archive::default().file("two", "2"));
    assert_eq!(
        (fixture.content("one"), fixture.content("two"), fixture.content("three")),
        ("1".into(), "2".into(), "1".into())
    );
    assert_eq!(fixture.tree.node(Path::new("one")).expect("node").expect("one").link_count, 2);
    fixture.apply(&Archive::default().file(".wh.three", ""));
    assert_eq!(fixture.tree.node(Path::new("one")).expect("node").expect("one").link_count, 1);
}

#[test]
fn capabilities_survive_and_large_ids_fit() {
    let mut fixture = Fixture::new();
    let mut capability = vec![1, 0, 0, 2, 0, 4, 0, 0];
    capability.resize(20, 0);
    let record = [b"54 SCHILY.xattr.security.capability=".as_slice(), &capability, b"\n"].concat();
    assert_eq!(record.len(), 57);
    let record = [b"57", &record[2..]].concat();
    let records = [record.as_slice(), b"15 uid=3000000\n", b"20 mtime=1500000.75\n"].concat();
    let archive = Archive::default().pax(&records).file("ping", "x").hard_link("ping2", "ping");
    fixture.apply(&archive);
    let node = fixture.tree.node(Path::new("ping")).expect("node").expect("ping");
    let name = std::ffi::OsStr::new("security.capability");
    assert_eq!(node.attributes.xattrs.get(name), Some(&capability), "kept by the link that does not repeat it");
    fixture.apply(&Archive::default().pax(b"15 uid=3000000\n20 mtime=1500000.75\n").file("big", "x"));
    let node = fixture.tree.node(Path::new("big")).expect("node").expect("big");
    assert_eq!(node.attributes.uid, 3_000_000);
    assert_eq!(node.attributes.mtime, Timestamp { seconds: 1_500_000, nanoseconds: 750_000_000 });
}

#[test]
fn archives_of_gnu_tar_read_as_gnu_tar_wrote_them() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(200));
    std::fs::create_dir(directory.path().join("d".repeat(120))).expect("directory");
    std::fs::write(directory.path().join(&long), "long").expect("file");
    symlink("t".repeat(180), directory.path().join("link")).expect("link");
    let sparse = std::fs::File::create(directory.path().join("sparse")).expect("file");
    sparse.set_len(50 << 20).expect("length");
    for at in [0_u64, 5 << 20, 30 << 20] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", at).expect("write");
    }
    for format in [
        ["--format=gnu", ""],
        ["--format=posix", ""],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
    ] {
        let output = std::process::Command::new("tar")
            .args(["-c", "-S", "-C"])
            .arg(directory.path())
            .args(format.iter().filter(|option| !option.is_empty()))
            .arg(".")
            .output()
            .expect("GNU tar");
        assert!(output.stdout.len() < 1 << 20, "tar made a sparse member");
        let mut fixture = Fixture::new();
        fixture.tree.apply_layer("gnu", output.stdout.as_slice()).expect("applied");
        fixture.matches_index();
        assert_eq!(fixture.content(&long), "long", "{format:?}");
        let path = fixture.tree.path().join("sparse");
        assert_eq!(std::fs::read(&path).expect("read"), std::fs::read(directory.path().join("sparse")).expect("read"));
        assert!(std::fs::metadata(path).expect("metadata").blocks() < 10_000, "holes stay holes");
        assert!(fixture.exists("link"));
    }
}

#[test]
fn damaged_archives_are_errors() {
    let whole = Archive::default().file("a", "content").file("b", "more").bytes();
    for end in [100, 512 + 3, 1024 + 511] {
        let mut reader = Reader::new(&whole[..end]);
        let result = std::iter::from_fn(|| reader.next_member().transpose()).find(Result::is_err);
        assert!(result.is_some(), "cut at {end}");
    }
    let mut flipped = whole;
    flipped[1] ^= 1;
    assert!(Reader::new(flipped.as_slice()).next_member().is_err());
    let huge = b"30 path=../../../../../../etc/x\n";
    assert!(Reader::new(Archive::default().pax(huge).file("a", "").bytes().as_slice()).next_member().is_err());
    // A member that claims an enormous extended header.
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(1 << 33);
    header.set_cksum();
    let error = Reader::new(header.as_bytes().as_slice()).next_member().expect_err("refused");
    assert!(error.to_string().contains("the limit is"), "{error}");
}

/// The attributes, names and records of others are bounded one by one, whatever the whole archive has of them.
#[test]
fn what_a_header_says_is_bounded() {
    let refused = |archive: &Archive| {
        let bytes = archive.bytes();
        let mut reader = Reader::new(bytes.as_slice());
        let error = std::iter::from_fn(|| reader.next_member().transpose()).find_map(Result::err);
        error.expect("refused").to_string()
    };
    let attribute = |size: usize| record("SCHILY.xattr.user.note", &"v".repeat(size));
    let taken = |size: usize| {
        let bytes = Archive::default().pax(&attribute(size)).file("a", "").bytes();
        Reader::new(bytes.as_slice()).next_member().map(|member| member.expect("a member").xattrs)
    };
    assert_eq!(taken((64 << 10) - 9).expect("fits").len(), 1);
    let error = taken((64 << 10) - 8).expect_err("too large").to_string();
    assert!(error.ends_with("has 65537 bytes of extended attributes, the limit is 65536"), "{error}");
    // Those that no image carries are not even counted.
    let foreign = record("SCHILY.xattr.trusted.note", &"v".repeat(100 << 10));
    let bytes = Archive::default().pax(&foreign).file("a", "").bytes();
    assert!(Reader::new(bytes.as_slice()).next_member().expect("read").expect("a member").xattrs.is_empty());
    for kind in [b'x', b'g', b'L', b'K'] {
        let text = refused(&Archive::default().member(kind, "x", "", &vec![0; (1 << 20) + 1]).file("a", ""));
        assert!(text.ends_with("has 1048577 bytes of extended header, the limit is 1048576"), "{text}");
    }
    for (records, field) in
        [(record("path", &"n/".repeat(2049)), "name"), (record("linkpath", &"n/".repeat(2049)), "link name")]
    {
        let text = refused(&Archive::default().pax(&records).symlink("a", "b"));
        assert!(text.ends_with(&format!("has 4098 bytes of {field}, the limit is 4096")), "{text}");
    }
    // The holes of all files of an archive count together: 179 compressed bytes kept a build busy for ever.
    let sparse = |size: u64| {
        [
            record("GNU.sparse.size", &size.to_string()),
            record("GNU.sparse.numblocks", "0"),
            record("GNU.sparse.map", &format!("{size},0")),
        ]
        .concat()
    };
    let text = refused(&Archive::default().pax(&sparse(i64::MAX.unsigned_abs())).file("a", ""));
    assert!(text.ends_with("has 9223372036854775807 bytes of holes, the limit is 1099511627776"), "{text}");
    let half = || Archive::default().pax(&sparse(1 << 39)).file("a", "").pax(&sparse(1 << 39)).file("b", "");
    let whole = half().bytes();
    let mut reader = Reader::new(whole.as_slice());
    assert_eq!(std::iter::from_fn(|| reader.next_member().transpose()).filter(Result::is_ok).count(), 2);
    assert!(refused(&half().pax(&sparse(1)).file("c", "")).contains("bytes of holes"));
}

/// A later extended header replaces an earlier one, and what is said of the whole archive is left alone, as by Go's reader and
/// containerd: members would else be other ones to BuildKit than here (the class of CVE-2025-62518).
#[test]
fn records_hold_for_one_member() {
    let archive = Archive::default()
        .member(b'g', "g", "", &[record("path", "global"), record("SCHILY.xattr.user.global", "g")].concat())
        .pax(&record("SCHILY.xattr.user.first", "1"))
        .pax(&record("SCHILY.xattr.user.second", "2"))
        .file("a", "content")
        .pax(&record("size", "0"))
        .member(b'g', "g", "", &record("size", "5000"))
        .file("b", "more")
        .member(b'L', "L", "", b"long\0")
        .pax(&record("path", "short"))
        .file("c", "");
    let bytes = archive.bytes();
    let mut reader = Reader::new(bytes.as_slice());
    let members: Vec<_> = std::iter::from_fn(|| reader.next_member().expect("a member")).collect();
    let names: Vec<_> = members.iter().map(|member| String::from_utf8_lossy(&member.name).into_owned()).collect();
    assert_eq!(names, ["a", "b", "long"]);
    assert_eq!(members[0].xattrs.keys().collect::<Vec<_>>(), ["user.second"]);
    assert_eq!(members.iter().map(|member| member.size).collect::<Vec<_>>(), [7, 4, 0]);
}

/// Attributes that programs can give to files and directories alone are not remembered for links either.
#[test]
fn links_have_no_attributes_of_users() {
    let note = record("SCHILY.xattr.user.note", "n");
    let mut fixture = Fixture::new();
    fixture.apply(&Archive::default().pax(&note).symlink("link", "nowhere").pax(&note).member(b'6', "pipe", "", b""));
    for path in ["link", "pipe"] {
        assert!(fixture.tree.node(Path::new(path)).expect(path).expect(path).attributes.xattrs.is_empty(), "{path}");
    }
}

#[test]
fn content_that_is_not_read_is_skipped() {
    let bytes = Archive::default().file("a", "content").hard_link("b", "a").file("c", "end").bytes();
    let mut reader = Reader::new(bytes.as_slice());
    let names: Vec<_> = std::iter::from_fn(|| reader.next_member().expect("member")).collect();
    assert_eq!(names.len(), 3);
    assert_eq!(names[1].kind, MemberKind::HardLink(b"a".to_vec()));
}

#[test]
fn operations_stay_within_the_tree_and_replace_files() {
    let mut fixture = Fixture::new();
    let beside = fixture.directory.path().display().to_string();
    let file = Attributes::new(FileKind::File, 0o640);
    let tree = &mut fixture.tree;
    tree.create_directory(Path::new("d"), &Attributes::new(FileKind::Directory, 0o700)).expect("directory");
    tree.create_symlink(Path::new("away"), beside.as_ref(), &Attributes::new(FileKind::Symlink, 0)).expect("link");
    assert!(tree.create_file(Path::new("away/outside"), &file, &b"evil"[..]).is_err());
    tree.create_file(Path::new("../d/f"), &file, &b"one"[..]).expect("file");
    tree.create_hard_link(Path::new("d/f"), Path::new("/d/g")).expect("hard link");
    tree.create_file(Path::new("d/f"), &file, &b"two"[..]).expect("replaced");
    assert!(tree.create_file(Path::new("d"), &file, &b""[..]).is_err(), "a directory is in the way");
    assert!(tree.create_directory(Path::new("d/f"), &file).is_err(), "a file is in the way");
    tree.create_special(Path::new("d/null"), &Attributes::new(FileKind::CharDevice { major: 1, minor: 3 }, 0o666))
        .expect("device");
    assert!(matches!(tree.open_file(Path::new("d/null")), Err(RootfsError::Io(_))));
    let node = tree.node(Path::new("d/null")).expect("node").expect("null");
    assert_eq!((node.attributes.kind, node.attributes.mode), (FileKind::CharDevice { major: 1, minor: 3 }, 0o666));
    assert_eq!(tree.resolve(Path::new("d/../x/y"), true).expect("resolved"), Path::new("x/y"));
    assert_eq!((fixture.content("d/f"), fixture.content("d/g")), ("two".to_owned(), "one".to_owned()));
    fixture.tree.remove(Path::new("d")).expect("removed");
    fixture.tree.remove(Path::new("away")).expect("removed");
    fixture.tree.remove(Path::new("nothing/there")).expect("nothing to remove");
    assert!(fixture.names("").is_empty());
    assert_eq!(std::fs::read_to_string(fixture.directory.path().join("outside")).expect("outside"), "untouched");
}

#[test]
fn a_copy_is_the_same_tree_with_the_same_baseline() {
    let mut fixture = Fixture::new();
    let mut archive = Archive::default().directory("d", 0o750).file("d/f", "x").hard_link("g", "d/f").symlink("l", "d");
    archive.push(b'6', "pipe", "", 0o600, b"");
    fixture.apply(&archive.file("gone", "").file("e/f", "same size"));
    // Changes that are not in the baseline are changes of the copy, too.
    std::fs::write(fixture.tree.path().join("new"), "new").expect("write");
    std::fs::remove_file(fixture.tree.path().join("gone")).expect("remove");
    std::fs::write(fixture.tree.path().join("e/f"), "size same").expect("write");
    let copy = fixture.tree.copy_to(fixture.directory.path().join("copy")).expect("copied");
    let changes = |tree: &Tree| crabwright::snapshot::compare(tree, &Default::default()).expect("compared");
    assert_eq!(changes(&copy), changes(&fixture.tree));
    assert_eq!(changes(&copy).len(), 4);
    for path in ["d", "d/f", "g", "l", "pipe", "new", "e/f"] {
        let node = |tree: &Tree| tree.node(Path::new(path)).expect(path).expect(path);
        let (mine, theirs) = (node(&copy), node(&fixture.tree));
        assert_eq!((mine.attributes, mine.size, mine.link_count), (theirs.attributes, theirs.size, theirs.link_count));
    }
}

/// Runs the test below where only one user id exists, as in a pod that may make a user namespace but has no id ranges.
#[test]
fn what_a_namespace_cannot_hold_is_recorded() {
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "rootfs::inside_a_namespace_of_one_id", "--ignored"])
        .output()
        .expect("unshare");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run in a user namespace by what_a_namespace_cannot_hold_is_recorded"]
fn inside_a_namespace_of_one_id() {
    let mut fixture = Fixture::new();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let capability = [&b"57 SCHILY.xattr.security.capability="[..], &capability, b"\n"].concat();
    let mut archive = Archive::default().pax(&[&b"12 uid=1000\n"[..], &capability].concat()).file("ping", "x");
    archive = archive.pax(b"12 uid=1000\n10 gid=50\n").directory("home", 0o2770);
    archive.push(b'6', "home/pipe", "", 0o600, b"");
    archive =
        archive.pax(b"12 uid=1000\n").file("home/mine", "mine").pax(b"12 uid=1000\n").symlink("home/link", "mine");
    let mut device = tar::Header::new_ustar();
    device.set_path("null").expect("name");
    device.set_entry_type(tar::EntryType::Char);
    device.set_device_major(1).expect("major");
    device.set_device_minor(3).expect("minor");
    for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_size, tar::Header::set_mtime] {
        set(&mut device, 0);
    }
    device.set_mode(0o666);
    device.set_cksum();
    archive.push_bytes(device.as_bytes());
    fixture.apply(&archive);

    let null = FileKind::CharDevice { major: 1, minor: 3 };
    let check = |tree: &Tree| {
        let found = |path: &str| tree.node(Path::new(path)).expect(path).expect(path).attributes;
        assert_eq!((found("home").uid, found("home").gid, found("home").mode), (1000, 50, 0o2770));
        assert_eq!((found("home/mine").uid, found("home/link").uid, found("home/pipe").uid), (1000, 1000, 0));
        assert_eq!((found("null").kind, found("null").mode), (null, 0o666));
        assert_eq!((found("ping").uid, found("ping").xattrs.len()), (1000, 1));
        assert!(tree.open_file(Path::new("null")).is_err(), "the file that stands for a device is none");
    };
    check(&fixture.tree);
    let copy = fixture.tree.copy_to(fixture.directory.path().join("copy")).expect("copied");
    check(&copy);
    assert_eq!(crabwright::snapshot::compare(&copy, &Default::default()).expect("compared"), []);

    // The record follows a renamed file, and content written by a program keeps the owner but not the capability.
    let root = fixture.tree.path().to_owned();
    std::fs::rename(root.join("home/mine"), root.join("moved")).expect("rename");
    std::fs::write(root.join("ping"), "changed").expect("write");
    std::fs::write(root.join("null"), "a file now").expect("write");
    let changes = crabwright::snapshot::compare(&fixture.tree, &Default::default()).expect("compared");
    let spool = fixture.directory.path().join("layer");
    let layer = crabwright::layer::write(&fixture.tree, &changes, &spool, &Default::default()).expect("layer");
    let blob = std::fs::File::open(&layer.path).expect("blob");
    let mut reader = Reader::new(crabwright::layer::reader(blob, "").expect("reader"));
    let members: Vec<_> = std::iter::from_fn(|| reader.next_member().expect("member")).collect();
    let found: Vec<_> = members
        .iter()
        .map(|member| (String::from_utf8_lossy(&member.name).into_owned(), member.uid, member.xattrs.len()))
        .collect();
    let expected = [("home/", 1000, 0), ("home/.wh.mine", 0, 0), ("moved", 1000, 0), ("null", 0, 0), ("ping", 1000, 0)];
    assert_eq!(found, expected.map(|(name, uid, xattrs)| (name.to_owned(), uid, xattrs)));
    assert_eq!(members[3].kind, MemberKind::File);
}
