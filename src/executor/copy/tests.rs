//! COPY and ADD over real trees.
//!
//! A tree records what the file system refuses, so that the tests need no root.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::context::IgnoreMatcher;
use crate::fs::{FileKind, Timestamp};
use crate::rootfs::{Attributes, Tree, Xattrs};

use super::{CopyError, CopySource, copy};
use crate::plan;

const THEN: Timestamp = Timestamp::from_seconds(1_500_000_000);

/// A source and a destination.
struct Trees {
    directory: tempfile::TempDir,
    source: Tree,
    destination: Tree,
    ignore: IgnoreMatcher,
    is_context: bool,
}

fn trees() -> Trees {
    let directory = tempfile::tempdir().expect("temporary directory");
    let source = Tree::create(directory.path().join("source")).expect("source");
    let destination = Tree::create(directory.path().join("destination")).expect("destination");
    Trees { directory, source, destination, ignore: IgnoreMatcher::default(), is_context: true }
}

impl Trees {
    fn source(mut self, build: impl Fn(&mut Tree)) -> Self {
        build(&mut self.source);
        self
    }

    fn destination(mut self, build: impl Fn(&mut Tree)) -> Self {
        build(&mut self.destination);
        self
    }

    fn ignoring(mut self, text: &str) -> Self {
        self.ignore = IgnoreMatcher::parse(text.as_bytes(), Path::new("/c/.dockerignore")).expect("patterns");
        self
    }

    fn of_a_stage(mut self) -> Self {
        self.is_context = false;
        self
    }

    fn try_step(&mut self, step: &plan::Copy) -> Result<(), CopyError> {
        let describe = if self.is_context { "the build context" } else { "stage s" };
        let ignore = self.is_context.then_some(&self.ignore);
        let source = CopySource { tree: &self.source, ignore, reset_owner: self.is_context, describe };
        copy(step, &source, &BTreeMap::new(), &mut self.destination)
    }

    fn step(&mut self, words: &str) -> &mut Self {
        self.try_step(&step(words)).expect(words);
        self
    }

    fn refused(&mut self, words: &str) -> String {
        let error = self.try_step(&step(words)).expect_err(words);
        let mut text = error.to_string();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }

    /// Everything in the destination, one line a path.
    fn listing(&self) -> String {
        let mut lines = String::new();
        list(&self.destination, Path::new(""), &mut lines);
        lines
    }

    fn mtime(&self, path: &str) -> Timestamp {
        self.destination.node(Path::new(path)).expect("look").expect(path).attributes.mtime
    }
}

/// `[ADD] [--parents] [--exclude=] [--chown=] [--chmod=] [<<NAME] SOURCE... DESTINATION`, in the working directory `/w`.
fn step(words: &str) -> plan::Copy {
    let mut step = plan::Copy { working_directory: "/w".to_owned(), ..plan::Copy::default() };
    for word in words.split(' ') {
        if word == "ADD" {
            step.add = true;
            step.unpack = true;
        } else if word == "--parents" {
            step.parents = true;
        } else if let Some(pattern) = word.strip_prefix("--exclude=") {
            step.excludes.push(pattern.to_owned());
        } else if let Some(chown) = word.strip_prefix("--chown=") {
            step.chown = Some(chown.to_owned());
        } else if let Some(chmod) = word.strip_prefix("--chmod=") {
            step.chmod = Some(chmod.to_owned());
        } else if let Some(name) = word.strip_prefix("<<") {
            step.texts.push(plan::TextFile { name: name.to_owned(), content: "text".to_owned() });
        } else {
            step.sources.push(word.to_owned());
        }
    }
    step.destination = step.sources.pop().expect("a destination");
    step
}

fn list(tree: &Tree, below: &Path, lines: &mut String) {
    for name in tree.list(below).expect("list") {
        let path = below.join(name);
        let node = tree.node(&path).expect("look").expect("there");
        let Attributes { kind, mode, uid, gid, .. } = node.attributes;
        let what = match kind {
            FileKind::Directory => "/".to_owned(),
            FileKind::Symlink => format!(" -> {}", node.link_target.expect("target").display()),
            FileKind::File => {
                format!("={}", std::io::read_to_string(tree.open_file(&path).expect("open")).unwrap_or_default())
            }
            other => format!(" {other:?}"),
        };
        let owner = if (uid, gid) == (0, 0) { String::new() } else { format!(" {uid}:{gid}") };
        lines.push_str(&format!("{}{what} {mode:o}{owner}\n", path.display()));
        if kind == FileKind::Directory {
            list(tree, &path, lines);
        }
    }
}

fn attributes(kind: FileKind, mode: u32, owner: u32) -> Attributes {
    Attributes { uid: owner, gid: owner, mtime: THEN, ..Attributes::new(kind, mode) }
}

fn file(tree: &mut Tree, path: &str, content: impl AsRef<[u8]>) {
    let attributes = attributes(FileKind::File, 0o644, 0);
    tree.create_file(Path::new(path), &attributes, content.as_ref()).expect(path);
}

fn directory(tree: &mut Tree, path: &str, mode: u32) {
    tree.create_directory(Path::new(path), &attributes(FileKind::Directory, mode, 0)).expect(path);
}

fn link(tree: &mut Tree, path: &str, target: &str) {
    let attributes = attributes(FileKind::Symlink, 0o777, 0);
    tree.create_symlink(Path::new(path), OsStr::new(target), &attributes).expect(path);
}

/// `a`, `b`, and a directory `d` with `c` and `e/f`.
fn usual(tree: &mut Tree) {
    file(tree, "a", "a");
    file(tree, "b", "b");
    directory(tree, "d", 0o750);
    file(tree, "d/c", "c");
    directory(tree, "d/e", 0o711);
    file(tree, "d/e/f", "f");
    still(tree);
}

/// Gives `d` and `d/e` their times back, which filling them has moved.
fn still(tree: &mut Tree) {
    directory(tree, "d/e", 0o711);
    directory(tree, "d", 0o750);
}

#[test]
fn a_file_goes_where_the_destination_says() {
    let mut trees = trees().source(usual).destination(|tree| {
        directory(tree, "dir", 0o700);
        file(tree, "old", "old");
    });
    trees.step("a /x/y/name").step("a /slash/").step("a /dir").step("b /old").step("a rel").step("a b .");
    assert_eq!(
        trees.listing(),
        "dir/ 700\ndir/a=a 644\nold=b 644\nslash/ 755\nslash/a=a 644\nw/ 755\nw/a=a 644\nw/b=b 644\nw/rel=a 644\n\
         x/ 755\nx/y/ 755\nx/y/name=a 644\n"
    );
    assert_eq!(trees.mtime("x/y/name"), THEN);
    trees.step("a b /last");
    assert!(trees.listing().contains("last=b 644\n"), "without a slash every source has the same name");
}

#[test]
fn a_directory_brings_its_contents_and_its_time() {
    let mut trees = trees().source(usual).destination(|tree| {
        directory(tree, "there", 0o700);
        directory(tree, "there/e", 0o755);
        file(tree, "there/c", "old");
    });
    trees.step("d /there").step("d /new");
    assert_eq!(
        trees.listing(),
        "new/ 755\nnew/c=c 644\nnew/e/ 711\nnew/e/f=f 644\nthere/ 700\nthere/c=c 644\nthere/e/ 711\nthere/e/f=f 644\n"
    );
    for path in ["new", "new/e", "there", "there/e"] {
        assert_eq!(trees.mtime(path), THEN, "{path}");
    }
}

#[test]
fn the_top_of_the_source_is_as_far_up_as_a_path_leads() {
    let mut trees = trees().source(usual);
    trees.step("/a ../../b ./d/../d/c /x/").step("/ /all");
    let listing = trees.listing();
    assert!(listing.ends_with("x/ 755\nx/a=a 644\nx/b=b 644\nx/c=c 644\n"), "{listing}");
    assert!(listing.starts_with("all/ 755\nall/a=a 644\n"), "{listing}");
}

#[test]
fn wildcards_match_names_of_one_directory() {
    let mut trees = trees().source(|tree| {
        usual(tree);
        file(tree, ".h", "h");
        file(tree, "d/e/deep", "deep");
    });
    trees.step("? /one/").step("* /all/").step("*/c /under/").step("d/**/f /stars/").step("d/e/[d]* /renamed");
    trees.step("**/deep /nothing/").step("*.zip /nothing/").step("a nothing* /some/");
    assert_eq!(
        trees.listing(),
        "all/ 755\nall/.h=h 644\nall/a=a 644\nall/b=b 644\nall/c=c 644\nall/e/ 711\nall/e/deep=deep 644\nall/e/f=f 644\n\
         one/ 755\none/a=a 644\none/b=b 644\none/c=c 644\none/e/ 711\none/e/deep=deep 644\none/e/f=f 644\n\
         renamed=deep 644\nsome/ 755\nsome/a=a 644\nstars/ 755\nstars/f=f 644\nunder/ 755\nunder/c=c 644\n"
    );
    assert!(trees.refused("[ /x").starts_with("bad pattern \"[\": syntax error in pattern"));
    assert!(trees.refused("a\\* /x").starts_with("\"/a\\\\*\": not found"), "an escape alone makes no pattern");
}

#[test]
fn a_star_in_brackets_matches_a_star_of_a_stage_only() {
    let build = |tree: &mut Tree| file(tree, "st*r", "x");
    let mut context = trees().source(build);
    assert_eq!(context.step("st[*]r /x").listing(), "");
    let mut stage = trees().source(build).of_a_stage();
    assert_eq!(stage.step("st[*]r /x").listing(), "x=x 644\n");
}

#[test]
fn context_files_are_roots_and_bare() {
    let build = |tree: &mut Tree| {
        let mut owned = attributes(FileKind::File, 0o4755, 7);
        owned.xattrs =
            Xattrs::from([("security.capability".into(), b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec())]);
        directory(tree, "d", 0o755);
        tree.create_file(Path::new("d/owned"), &owned, &b""[..]).expect("file");
    };
    let xattrs =
        |trees: &Trees| trees.destination.node(Path::new("x/owned")).expect("look").expect("there").attributes.xattrs;
    let mut context = trees().source(build);
    assert_eq!(context.step("d /x").listing(), "x/ 755\nx/owned= 4755\n");
    assert!(xattrs(&context).is_empty());
    let mut stage = trees().source(build).of_a_stage();
    assert_eq!(stage.step("d /x").listing(), "x/ 755\nx/owned= 4755 7:7\n");
    assert_eq!(xattrs(&stage).len(), 1);
}

#[test]
fn owner_and_octal_mode_count_for_new_directories_too() {
    let mut trees = trees().source(usual).destination(|tree| directory(tree, "old", 0o755));
    trees.step("--chown=5:6 --chmod=640 d /p/q").step("--chown=5 --chmod=600 d /old").step("--chmod=u+s,go= a /r/s");
    assert_eq!(
        trees.listing(),
        "old/ 755\nold/c=c 600 5:5\nold/e/ 600 5:5\nold/e/f=f 600 5:5\np/ 640 5:6\np/q/ 640 5:6\np/q/c=c 640 5:6\n\
         p/q/e/ 640 5:6\np/q/e/f=f 640 5:6\nr/ 755\nr/s=a 4600\n"
    );
    assert!(trees.refused("--chmod=77777 a /x").starts_with("invalid chmod parameter"));
    let mut scratch = super::tests::trees().source(usual);
    assert!(scratch.refused("--chown=app a /x").starts_with("invalid user app"));
}

#[test]
fn links_given_are_followed_and_links_found_are_kept() {
    let mut trees = trees().source(|tree| {
        usual(tree);
        link(tree, "to-file", "/d/c");
        link(tree, "to-directory", "../../d");
        link(tree, "dangling", "gone");
        link(tree, "circle", "circle");
        link(tree, "d/kept", "../../etc");
    });
    trees.step("to-file to-directory /x/").step("to-directory/e/f /y").step("to-f* /z/");
    assert_eq!(
        trees.listing(),
        "x/ 755\nx/c=c 644\nx/e/ 711\nx/e/f=f 644\nx/kept -> ../../etc 777\nx/to-file=c 644\ny=f 644\nz/ 755\nz/to-file=c 644\n"
    );
    assert!(trees.refused("dangling /x").starts_with("\"/dangling\": not found in the build context"));
    assert!(trees.refused("circle /x").contains("too many symbolic links"));
}

#[test]
fn links_of_the_destination_are_followed_inside_it_but_not_replaced_by_contents() {
    let mut trees = trees().source(usual).destination(|tree| {
        directory(tree, "real", 0o755);
        link(tree, "up", "../../../../real");
        link(tree, "dangling", "/not/yet");
        link(tree, "real/c", "elsewhere");
    });
    trees.step("a /up/x").step("b /dangling").step("d /up");
    assert_eq!(
        trees.listing(),
        "dangling -> /not/yet 777\nnot/ 755\nnot/yet=b 644\nreal/ 755\nreal/c=c 644\nreal/e/ 711\nreal/e/f=f 644\n\
         real/x=a 644\nup -> ../../../../real 777\n"
    );
}

#[test]
fn names_of_one_file_stay_together_within_a_source() {
    let build = |tree: &mut Tree| {
        directory(tree, "d", 0o755);
        file(tree, "d/one", "1");
        tree.create_hard_link(Path::new("d/one"), Path::new("d/two")).expect("link");
    };
    let mut trees = trees().source(build);
    trees.step("d /x").step("d/one d/two /y/");
    let identity = |path| trees.destination.node(Path::new(path)).expect("look").expect(path).identity;
    assert_eq!(identity("x/one"), identity("x/two"));
    assert_ne!(identity("y/one"), identity("y/two"));
    assert_eq!(trees.mtime("x/two"), THEN);
}

#[test]
fn special_files_are_copied_and_sockets_are_not() {
    let mut trees = trees().source(|tree| {
        directory(tree, "d", 0o755);
        tree.create_special(Path::new("d/pipe"), &attributes(FileKind::Fifo, 0o620, 0)).expect("pipe");
        let null = FileKind::CharDevice { major: 1, minor: 3 };
        tree.create_special(Path::new("d/null"), &attributes(null, 0o666, 0)).expect("device");
        drop(UnixListener::bind(tree.path().join("d/socket")).expect("socket"));
    });
    trees.step("d /x").step("d/pipe /p");
    assert_eq!(trees.listing(), "p Fifo 620\nx/ 755\nx/null CharDevice { major: 1, minor: 3 } 666\nx/pipe Fifo 620\n");
}

#[test]
fn ignored_files_are_not_there() {
    let mut trees = trees().source(|tree| {
        usual(tree);
        link(tree, "to-c", "d/c");
    });
    trees = trees.ignoring("d\n!d/e/f\nb\n");
    trees.step(". /x").step("? /y/");
    assert_eq!(
        trees.listing(),
        "x/ 755\nx/a=a 644\nx/d/ 750\nx/d/e/ 711\nx/d/e/f=f 644\nx/to-c -> d/c 777\ny/ 755\ny/a=a 644\ny/e/ 711\ny/e/f=f 644\n"
    );
    assert_eq!(trees.mtime("x/d/e"), THEN);
    assert_eq!(
        trees.refused("b /x"),
        "\"/b\": not found in the build context (excluded by the pattern \"b\" of .dockerignore)"
    );
    assert!(trees.refused("to-c /x").contains("excluded by the pattern \"d\""));
    assert!(trees.refused("d/c /x").contains("\"/d/c\": not found"));
    trees = trees.ignoring("d\n");
    assert!(trees.refused("d /x").contains("\"/d\": not found"));
    assert!(trees.refused("d/e/f /x").contains("\"/d/e/f\": not found"));
    trees = trees.ignoring("*\n");
    assert!(trees.step(". /empty/").listing().ends_with(
        "empty/ 755\nx/ 755\nx/a=a 644\nx/d/ 750\nx/d/e/ 711\nx/d/e/f=f 644\n\
         x/to-c -> d/c 777\ny/ 755\ny/a=a 644\ny/e/ 711\ny/e/f=f 644\n"
    ));
}

#[test]
fn a_missing_source_stops_everything() {
    let mut trees = trees().source(|tree| file(tree, "package.json", "{}")).of_a_stage();
    assert_eq!(
        trees.refused("package.json pakage.json /x/"),
        "\"/pakage.json\": not found in stage s (did you mean \"/package.json\"?)"
    );
    assert_eq!(trees.refused("package.json/x /x/"), "\"/package.json/x\": not found in stage s");
    assert_eq!(trees.listing(), "");
}

#[test]
fn kinds_do_not_replace_each_other() {
    let mut trees = trees().source(usual).destination(|tree| {
        file(tree, "file", "");
        directory(tree, "c", 0o755);
        directory(tree, "e", 0o755);
        directory(tree, "two", 0o755);
        link(tree, "two/e", "/e");
    });
    assert_eq!(trees.refused("d /file"), "cannot copy to non-directory: /file");
    assert_eq!(trees.refused("a /file/"), "cannot copy to non-directory: /file");
    assert_eq!(trees.refused("a /file/x"), "cannot copy to non-directory: /file/x");
    assert_eq!(trees.refused("d /"), "cannot replace to directory /c with file");
    assert_eq!(trees.refused("d /two"), "cannot copy to non-directory: /two/e");
}

#[test]
fn a_destination_within_the_source_is_not_copied_into_itself() {
    let mut trees = trees().source(usual);
    trees.source = Tree::open(trees.directory.path()).expect("the directory of both");
    trees.step(". /x");
    let listing = trees.listing();
    assert!(listing.contains("x/source/d/e/f=f 644\n") && !listing.contains("x/destination"), "{listing}");
}

// ---- ADD ----------------------------------------------------------------------------------------------------------------

/// Members as `(name, kind letter, content or target, mode, owner)`.
type Members<'a> = &'a [(&'a str, char, &'a str, u32, u64)];

fn tar(members: Members<'_>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content, mode, owner) in members {
        let mut header = tar::Header::new_ustar();
        // The builder would refuse hostile names.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(match kind {
            'd' => tar::EntryType::Directory,
            'l' => tar::EntryType::Symlink,
            'h' => tar::EntryType::Link,
            'p' => tar::EntryType::Fifo,
            _ => tar::EntryType::Regular,
        });
        header.set_mode(*mode);
        header.set_uid(*owner);
        header.set_gid(*owner);
        header.set_mtime(1_500_000_000);
        let mut data = content.as_bytes();
        if matches!(kind, 'l' | 'h') {
            header.set_link_name(content).expect("link name");
            data = b"";
        }
        header.set_size(u64::try_from(data.len()).expect("size"));
        header.set_cksum();
        builder.append(&header, data).expect("member");
    }
    builder.into_inner().expect("archive")
}

const SMALL: Members<'_> = &[("t/", 'd', "", 0o750, 3), ("t/f", 'f', "f", 0o4755, 1000), ("t/l", 'l', "f", 0o777, 0)];

#[test]
fn archives_are_known_by_their_content() {
    let plain = tar(SMALL);
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).and_then(|()| encoder.finish()).expect("gzip")
    };
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    let (half, rest) = plain.split_at(700);
    for (name, data) in [
        ("plain", plain.clone()),
        ("gzip", gzip(&plain)),
        ("gzip in two members", [gzip(half), gzip(rest)].concat()),
        ("bzip2", bzip2.write_all(&plain).and_then(|()| bzip2.finish()).expect("bzip2")),
        ("xz", xz.write_all(&plain).and_then(|()| xz.finish()).expect("xz")),
        ("zstd", zstd::encode_all(&plain[..], 1).expect("zstd")),
    ] {
        let mut trees = trees().source(|tree| file(tree, "some.bin", &data));
        trees.step("ADD some.bin /x");
        assert_eq!(trees.listing(), "x/ 755\nx/t/ 750 3:3\nx/t/f=f 4755 1000:1000\nx/t/l -> f 777\n", "{name}");
        assert_eq!(trees.mtime("x/t"), THEN, "{name}");
    }
    for (name, data) in [
        ("text", b"not a tar at all".to_vec()),
        ("empty", Vec::new()),
        ("an archive of nothing", tar(&[])),
        ("compressed text", gzip(b"text")),
        ("a damaged stream", gzip(&plain)[..20].to_vec()),
        ("a long text", vec![b'x'; 4096]),
    ] {
        let mut trees = trees().source(|tree| file(tree, "some.tar.gz", &data));
        trees.step("ADD some.tar.gz /x/");
        assert!(trees.listing().starts_with("x/ 755\nx/some.tar.gz="), "{name}");
    }
}

#[test]
fn only_an_archive_given_to_add_is_unpacked() {
    let mut trees = trees().source(|tree| {
        directory(tree, "d", 0o755);
        file(tree, "d/a.tar", tar(SMALL));
        link(tree, "link", "d/a.tar");
    });
    trees.step("ADD d /kept").step("d/a.tar /copied").step("ADD --chown=7 --chmod=600 link /unpacked/");
    let listing = trees.listing();
    assert!(listing.contains("kept/a.tar=") && listing.contains("copied="), "{listing}");
    assert!(
        listing
            .ends_with("unpacked/ 755 7:7\nunpacked/t/ 750 7:7\nunpacked/t/f=f 4755 7:7\nunpacked/t/l -> f 777 7:7\n"),
        "{listing}"
    );
}

#[test]
fn members_stay_in_the_directory_they_are_unpacked_to() {
    let hostile: Members<'_> = &[
        ("./", 'd', "", 0o711, 7),
        ("/absolute", 'f', "1", 0o644, 0),
        ("../../above", 'f', "2", 0o644, 0),
        ("deep/er/f", 'f', "3", 0o644, 5),
        ("real/", 'd', "", 0o755, 0),
        ("alias", 'l', "/real", 0o777, 0),
        ("alias/in", 'f', "4", 0o644, 0),
        ("climb", 'l', "../../../real", 0o777, 0),
        ("climb/too", 'f', "5", 0o644, 0),
        ("hard", 'h', "/../alias/in", 0o644, 0),
    ];
    let mut trees =
        trees().source(|tree| file(tree, "a", tar(hostile))).destination(|tree| directory(tree, "etc", 0o755));
    trees.step("ADD a /x");
    assert_eq!(
        trees.listing(),
        "etc/ 755\nx/ 755\nx/above=2 644\nx/absolute=1 644\nx/alias -> /real 777\nx/climb -> ../../../real 777\nx/deep/ 755\n\
         x/deep/er/ 755\nx/deep/er/f=3 644 5:5\nx/hard=4 644\nx/real/ 755\nx/real/in=4 644\nx/real/too=5 644\n"
    );
    for (archive, message) in [
        (
            &[("s", 'l', "/etc", 0o777, 0), ("s/inside", 'f', "", 0o644, 0)][..],
            "cannot unpack \"s/inside\" of \"/a\": /etc: no such",
        ),
        (
            &[("f", 'f', "", 0o644, 0), ("f/x", 'f', "", 0o644, 0)][..],
            "cannot unpack \"f/x\" of \"/a\": /f: not a directory",
        ),
        (&[("h", 'h', "../gone", 0o644, 0)][..], "cannot unpack \"h\" of \"/a\": /gone: no such"),
        (&[("o", 'l', "o", 0o777, 0), ("o/x", 'f', "", 0o644, 0)][..], "cannot unpack \"o/x\" of \"/a\": /o: too many"),
    ] {
        let mut trees = super::tests::trees().source(|tree| file(tree, "a", tar(archive)));
        trees.destination = {
            directory(&mut trees.destination, "etc", 0o755);
            trees.destination
        };
        let refused = trees.refused("ADD a /y");
        assert!(refused.starts_with(message), "{refused}");
    }
}

#[test]
fn members_replace_what_is_in_their_way() {
    let members: Members<'_> = &[
        ("dir", 'f', "file now", 0o600, 0),
        ("file/", 'd', "", 0o700, 0),
        ("file/x", 'f', "x", 0o644, 0),
        ("merged/", 'd', "", 0o711, 0),
        ("twice", 'f', "first", 0o644, 0),
        ("twice", 'f', "second", 0o600, 0),
        ("one", 'f', "1", 0o640, 1),
        ("two", 'h', "one", 0o604, 2),
        ("gone/", 'd', "", 0o755, 0),
        ("gone/x", 'f', "", 0o644, 0),
        ("gone", 'l', "merged", 0o777, 0),
        ("gone/y", 'f', "y", 0o644, 0),
        (".wh.merged", 'f', "", 0o644, 0),
        ("pipe", 'p', "", 0o600, 0),
    ];
    let mut trees = trees().source(|tree| file(tree, "a", tar(members))).destination(|tree| {
        directory(tree, "dir", 0o755);
        file(tree, "dir/inner", "");
        file(tree, "file", "");
        directory(tree, "merged", 0o755);
        file(tree, "merged/old", "old");
    });
    trees.step("ADD a /");
    assert_eq!(
        trees.listing(),
        ".wh.merged= 644\ndir=file now 600\nfile/ 700\nfile/x=x 644\ngone -> merged 777\nmerged/ 711\nmerged/old=old 644\n\
         merged/y=y 644\none=1 604 2:2\npipe Fifo 600\ntwice=second 600\ntwo=1 604 2:2\n"
    );
    assert_eq!(trees.mtime("merged"), THEN);
}

#[test]
fn what_cannot_be_unpacked_is_named() {
    let mut damaged = tar(&[("f", 'f', "f", 0o644, 0), ("g", 'f', "g", 0o644, 0)]);
    damaged[1024 + 148] ^= 0x55;
    let mut trees = trees().source(|tree| {
        file(tree, "a", tar(SMALL));
        file(tree, "damaged", &damaged);
    });
    trees = trees.destination(|tree| file(tree, "file", ""));
    assert_eq!(trees.refused("ADD a /file"), "cannot unpack \"/a\" to /file: not a directory");
    assert!(trees.refused("ADD damaged /x").starts_with("cannot unpack \"/damaged\": no tar header at byte 1024"));
}

#[test]
fn here_documents_become_files() {
    let mut trees = trees().source(usual).destination(|tree| directory(tree, "there", 0o700));
    trees.step("<<one /new/name").step("<<two /there").step("--chown=3:4 --chmod=u+x <<three a /many");
    assert_eq!(trees.listing(), "many=text 744 3:4\nnew/ 755\nnew/name=text 644\nthere/ 700\nthere/two=text 644\n");
    assert!(trees.refused("<<one /new/name/below").contains("/new/name"));
}

#[test]
fn excluded_files_are_left_out_below_a_source_directory() {
    let mut trees = trees().source(usual);
    trees
        .step("--exclude=d/e --exclude=a . /top")
        .step("--exclude=e --exclude=!e/f d /kept")
        .step("--exclude=* a d /all/");
    assert_eq!(
        trees.listing(),
        "all/ 755\nall/a=a 644\n\
         kept/ 755\nkept/c=c 644\nkept/e/ 711\nkept/e/f=f 644\n\
         top/ 755\ntop/b=b 644\ntop/d/ 750\ntop/d/c=c 644\n"
    );
    assert_eq!(trees.refused("--exclude=[ . /x"), "bad pattern in --exclude: [: syntax error in pattern");
}

#[test]
fn parents_come_along_up_to_the_pivot() {
    let mut trees = trees().source(|tree| {
        usual(tree);
        directory(tree, "d/private", 0o700);
        file(tree, "d/private/x", "x");
        directory(tree, "empty", 0o711);
    });
    trees
        .step("--parents --chown=5:6 d/private/x /one")
        .step("--parents d/./e b /two/")
        .step("--parents **/[fx] /three");
    trees
        .step("--parents --exclude=**/x d/** /four")
        .step("--parents empty/ none* /five")
        .step("--parents ./d/./c /two/");
    assert_eq!(
        trees.listing(),
        "five/ 755\nfive/empty/ 711\n\
         four/ 755\nfour/d/ 750\nfour/d/c=c 644\nfour/d/e/ 711\nfour/d/e/f=f 644\nfour/d/private/ 700\n\
         one/ 755 5:6\none/d/ 750 5:6\none/d/private/ 700 5:6\none/d/private/x=x 644 5:6\n\
         three/ 755\nthree/d/ 750\nthree/d/e/ 711\nthree/d/e/f=f 644\nthree/d/private/ 700\nthree/d/private/x=x 644\n\
         two/ 755\ntwo/b=b 644\ntwo/c=c 644\ntwo/e/ 711\ntwo/e/f=f 644\n"
    );
    assert!(trees.refused("--parents d/./none /x").contains("\"/d/none\": not found"));
    assert!(trees.refused("--parents none /x").contains("\"/none\": not found"));
}

#[test]
fn parents_that_are_there_keep_their_attributes() {
    let mut trees = trees().source(usual).destination(|tree| {
        directory(tree, "p", 0o700);
        directory(tree, "p/d", 0o711);
    });
    trees.step("--parents d/e/f /p").step("--parents d /p");
    assert_eq!(trees.listing(), "p/ 700\np/d/ 711\np/d/c=c 644\np/d/e/ 711\np/d/e/f=f 644\n");
    assert_eq!(trees.mtime("p/d"), THEN);
}
