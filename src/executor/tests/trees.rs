//! How long trees live, and what is remembered of them.

use super::*;

/// The files of a tree are known by their inodes. A stage that takes the tree of another over has the same ones, and so has
/// a tree whose directory was made after the other's was removed.
#[test]
fn nothing_is_remembered_of_a_tree_that_another_stage_has_changed() {
    let bench = Bench::new();
    let build = bench.build(
        "FROM scratch AS s1\nRUN [\"write\", \"/v\", \"aa\"]\n\
         FROM scratch AS t1\nCOPY --from=s1 /v /out\n\
         FROM s1 AS s2\nRUN [\"write\", \"/v\", \"bb\"]\n\
         FROM scratch AS t2\nCOPY --from=s2 /v /out\n\
         FROM scratch\nCOPY --from=t1 /out /o1\nCOPY --from=t2 /out /o2\n",
        1,
    );
    build.layers();
    let contents = build.cache.contents.lock();
    let read = |stage| contents[&build.position(stage, 0)].2.clone();
    assert_ne!(read("t1"), read("t2"), "aa and bb are not the same");
    let roots = build.cache.roots.lock();
    let root = |stage| roots[&build.position(stage, 0)].clone();
    assert_eq!(root("t1"), root("s2"), "the inode is the same: s2 has the tree of s1");
}

/// What s2 starts from is there until s2 has a tree, although s2 is done long before.
#[test]
fn the_files_of_a_stage_are_there_until_all_that_start_from_it_have_theirs() {
    let bench = Bench::new();
    let dockerfile = "FROM scratch AS s1\nCOPY a /v\n\
         FROM s1 AS s2\nCOPY b /w\n\
         FROM scratch AS t1\nCOPY --from=s1 /v /out\n\
         FROM scratch AS t2\nCOPY --from=s2 /w /out\n\
         FROM scratch\nCOPY --from=t1 /out /o1\nCOPY --from=t2 /out /o2\n";
    let first = bench.build(dockerfile, 1);
    let second = bench.build_with(dockerfile, 1, first.knowing(|_, stage| ["s1", "s2"].contains(&stage)));
    assert_eq!(second.layers(), first.layers());
    assert_eq!((second.unpacked(&first.made("s1", 0)), second.unpacked(&first.made("s2", 0))), (1, 1));
    assert!(second.left.is_empty(), "{:?}", second.left);
}

/// The same for a stage that has no steps: it is done at once, and has no tree until something reads it.
#[test]
fn a_stage_without_steps_keeps_what_it_starts_from() {
    let bench = Bench::new();
    let dockerfile = "FROM scratch AS first\nCOPY a /v\n\
         FROM first AS second\n\
         FROM first AS third\nCOPY b /w\n\
         FROM second\nCOPY --from=third /w /w\n";
    let first = bench.build(dockerfile, 1);
    let second = bench.build_with(dockerfile, 1, first.knowing(|_, stage| stage == "first"));
    assert_eq!(second.layers(), first.layers());
    assert_eq!(second.unpacked(&first.made("first", 0)), 1);
    for round in 0..20 {
        let build = bench.build_with(dockerfile, 8, first.knowing(|_, stage| stage == "first"));
        assert_eq!(build.layers(), first.layers(), "round {round}");
        assert!(build.left.is_empty(), "{:?}", build.left);
    }
}

#[test]
fn a_chain_of_stages_has_one_tree() {
    let bench = Bench::new();
    let build = bench.build(
        "FROM scratch AS a\nCOPY a /a\nFROM a AS b\nFROM b AS c\nRUN [\"write\", \"/c\", \"c\"]\nFROM c\nCOPY c /d\n",
        8,
    );
    assert_eq!(build.layers().len(), 3);
    let roots = build.cache.roots.lock();
    assert_eq!(roots.values().collect::<Vec<_>>(), vec![&vec!["root-1".to_owned()]; 3]);
    assert!(build.left.is_empty(), "{:?}", build.left);
}

#[test]
fn a_tree_that_others_read_is_copied() {
    let bench = Bench::new();
    let build = bench.build(
        "FROM scratch AS a\nCOPY a /a\nFROM a AS b\nRUN [\"write\", \"/a\", \"b\"]\nFROM b\nCOPY --from=a /a /b\n",
        1,
    );
    let list = bench.build("FROM scratch AS a\nCOPY a /a\nFROM a AS b\nCOPY b /a\nFROM b\nCOPY --from=a /a /b\n", 1);
    assert_eq!(build.layers(), list.layers(), "/b is a, whatever b did to its own");
    assert!(build.left.is_empty(), "{:?}", build.left);
}

/// Of two stages that ask for files which cannot be made, one says why, whichever is first.
#[test]
fn why_files_cannot_be_made_is_said_whoever_asks() {
    let bench = Bench::new();
    let dockerfile = "FROM scratch AS s\nCOPY a /v\n\
         FROM scratch AS t1\nCOPY --from=s /v /out\n\
         FROM scratch AS t2\nCOPY --from=s /v /out\n\
         FROM scratch\nCOPY --from=t1 /out /o1\nCOPY --from=t2 /out /o2\n";
    let first = bench.build(dockerfile, 1);
    let BlobSource::File(blob) = first.made("s", 0).blob.source else { panic!("a layer in a file") };
    std::fs::write(blob, "damaged").unwrap();
    for round in 0..20 {
        let build = bench.build_with(dockerfile, 8, first.knowing(|_, stage| stage == "s"));
        let error = build.result.expect_err("the layer is damaged");
        assert!(matches!(error, ExecutorError::CachedLayer { .. }), "round {round}: {error}");
        assert!(build.left.is_empty(), "{:?}", build.left);
    }
}
