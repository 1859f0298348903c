//! Archives that `ADD` unpacks: how they are recognized, and that no member leaves the destination.

use std::io::Write;

use super::*;

/// Members as `(name, kind letter, content or target, mode, owner)`.
type Members<'a> = &'a [(&'a str, char, &'a str, u32, u64)];

fn tar(members: Members<'_>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content, mode, owner) in members {
        let mut header = tar::Header::new_ustar();
        // The tar builder would refuse hostile names.
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
fn archives_are_recognized_by_content() {
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
            "failed to unpack \"s/inside\" of \"/a\": /etc: no such",
        ),
        (
            &[("f", 'f', "", 0o644, 0), ("f/x", 'f', "", 0o644, 0)][..],
            "failed to unpack \"f/x\" of \"/a\": /f: not a directory",
        ),
        (&[("h", 'h', "../gone", 0o644, 0)][..], "failed to unpack \"h\" of \"/a\": /gone: no such"),
        (
            &[("o", 'l', "o", 0o777, 0), ("o/x", 'f', "", 0o644, 0)][..],
            "failed to unpack \"o/x\" of \"/a\": /o: too many",
        ),
    ] {
        let mut trees = super::trees().source(|tree| file(tree, "a", tar(archive)));
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
fn archives_that_cannot_be_unpacked_are_named() {
    let mut damaged = tar(&[("f", 'f', "f", 0o644, 0), ("g", 'f', "g", 0o644, 0)]);
    damaged[1024 + 148] ^= 0x55;
    let mut trees = trees().source(|tree| {
        file(tree, "a", tar(SMALL));
        file(tree, "damaged", &damaged);
    });
    trees = trees.destination(|tree| file(tree, "file", ""));
    assert_eq!(trees.refused("ADD a /file"), "failed to unpack \"/a\" to /file: not a directory");
    assert!(trees.refused("ADD damaged /x").starts_with("failed to unpack \"/damaged\": no tar header at byte 1024"));
}
