//! Which files a step copies, where to, and with which attributes.

use std::os::unix::net::UnixListener;

use crate::rootfs::Xattrs;

use super::*;

#[test]
fn a_file_goes_where_the_destination_says() {
    let mut trees = trees().source(common_source).destination(|tree| {
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
    assert!(trees.listing().contains("last=b 644\n"), "without a slash all sources have the same destination");
}

#[test]
fn contents_of_a_directory_are_copied_with_its_time() {
    let mut trees = trees().source(common_source).destination(|tree| {
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

/// Small files are copied by several threads, and directories get their times when all files are written.
#[test]
fn many_files_and_deep_directories_are_copied_exactly() {
    // A thread of a test has a smaller stack than one of a build.
    let copies = std::thread::Builder::new().stack_size(64 << 20).spawn(copy_many_files_and_deep_directories);
    copies.unwrap().join().unwrap();
}

fn copy_many_files_and_deep_directories() {
    // Deeper than a process may have open files.
    let deep = vec!["d"; 1500].join("/");
    let mut trees = trees().source(|tree| {
        for directory in 0..20 {
            self::directory(tree, &format!("many{directory}"), 0o750);
            for number in 0..30 {
                file(tree, &format!("many{directory}/{number}"), format!("{directory}.{number}"));
            }
            let time = attributes(FileKind::Directory, 0o750, 0);
            tree.set_attributes(Path::new(&format!("many{directory}")), &time).unwrap();
        }
        std::fs::create_dir_all(tree.path().join(&deep)).unwrap();
        file(tree, &format!("{deep}/file"), "deep");
    });
    trees.step(". /all/");
    for directory in 0..20 {
        assert_eq!(trees.mtime(&format!("all/many{directory}")), THEN);
        for number in 0..30 {
            assert_eq!(content(&trees, &format!("all/many{directory}/{number}")), format!("{directory}.{number}"));
        }
    }
    assert_eq!(content(&trees, &format!("all/{deep}/file")), "deep");
}

fn content(trees: &Trees, path: &str) -> String {
    std::fs::read_to_string(trees.destination.path().join(path)).expect(path)
}

#[test]
fn paths_do_not_leave_the_root_of_the_source() {
    let mut trees = trees().source(common_source);
    trees.step("/a ../../b ./d/../d/c /x/").step("/ /all");
    let listing = trees.listing();
    assert!(listing.ends_with("x/ 755\nx/a=a 644\nx/b=b 644\nx/c=c 644\n"), "{listing}");
    assert!(listing.starts_with("all/ 755\nall/a=a 644\n"), "{listing}");
}

#[test]
fn wildcards_match_names_of_one_directory() {
    let mut trees = trees().source(|tree| {
        common_source(tree);
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
    assert!(trees.refused("a\\* /x").starts_with("\"/a\\\\*\": not found"), "an escape alone is not a pattern");
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
fn context_files_belong_to_root_and_have_no_attributes() {
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
    let mut trees = trees().source(common_source).destination(|tree| directory(tree, "old", 0o755));
    trees.step("--chown=5:6 --chmod=640 d /p/q").step("--chown=5 --chmod=600 d /old").step("--chmod=u+s,go= a /r/s");
    assert_eq!(
        trees.listing(),
        "old/ 755\nold/c=c 600 5:5\nold/e/ 600 5:5\nold/e/f=f 600 5:5\np/ 640 5:6\np/q/ 640 5:6\np/q/c=c 640 5:6\n\
         p/q/e/ 640 5:6\np/q/e/f=f 640 5:6\nr/ 755\nr/s=a 4600\n"
    );
    assert!(trees.refused("--chmod=77777 a /x").starts_with("invalid chmod parameter"));
    let mut scratch = super::trees().source(common_source);
    assert!(scratch.refused("--chown=app a /x").starts_with("invalid user app"));
}

#[test]
fn source_links_are_followed_and_links_below_are_copied() {
    let mut trees = trees().source(|tree| {
        common_source(tree);
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
fn links_in_the_destination_are_followed_and_not_replaced() {
    let mut trees = trees().source(common_source).destination(|tree| {
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
fn hard_links_are_preserved_within_a_source() {
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
fn ignored_files_count_as_missing() {
    let mut trees = trees().source(|tree| {
        common_source(tree);
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
fn a_missing_source_prevents_any_copy() {
    let mut trees = trees().source(|tree| file(tree, "package.json", "{}")).of_a_stage();
    assert_eq!(
        trees.refused("package.json pakage.json /x/"),
        "\"/pakage.json\": not found in stage s (did you mean \"/package.json\"?)"
    );
    assert_eq!(trees.refused("package.json/x /x/"), "\"/package.json/x\": not found in stage s");
    assert_eq!(trees.listing(), "");
}

#[test]
fn files_and_directories_do_not_replace_each_other() {
    let mut trees = trees().source(common_source).destination(|tree| {
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
    let mut trees = trees().source(common_source);
    trees.source = Tree::open(trees.directory.path()).expect("the directory of both");
    trees.step(". /x");
    let listing = trees.listing();
    assert!(listing.contains("x/source/d/e/f=f 644\n") && !listing.contains("x/destination"), "{listing}");
}

#[test]
fn here_documents_become_files() {
    let mut trees = trees().source(common_source).destination(|tree| directory(tree, "there", 0o700));
    trees.step("<<one /new/name").step("<<two /there").step("--chown=3:4 --chmod=u+x <<three a /many");
    assert_eq!(trees.listing(), "many=text 744 3:4\nnew/ 755\nnew/name=text 644\nthere/ 700\nthere/two=text 644\n");
    assert!(trees.refused("<<one /new/name/below").contains("/new/name"));
}

#[test]
fn excluded_files_are_left_out_below_a_source_directory() {
    let mut trees = trees().source(common_source);
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
fn parents_are_made_up_to_the_pivot() {
    let mut trees = trees().source(|tree| {
        common_source(tree);
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
fn existing_parents_keep_their_attributes() {
    let mut trees = trees().source(common_source).destination(|tree| {
        directory(tree, "p", 0o700);
        directory(tree, "p/d", 0o711);
    });
    trees.step("--parents d/e/f /p").step("--parents d /p");
    assert_eq!(trees.listing(), "p/ 700\np/d/ 711\np/d/c=c 644\np/d/e/ 711\np/d/e/f=f 644\n");
    assert_eq!(trees.mtime("p/d"), THEN);
}
