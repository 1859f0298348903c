//! How long trees exist, and that digests of their files are not used for other trees.

use super::*;

/// Digests of a tree's files are stored by inode. A stage that takes over a tree has the same inodes, and so may a tree
/// whose directory was made after the first was removed.
#[test]
fn digests_of_a_tree_are_dropped_when_a_stage_takes_it_over() {
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
    assert_eq!(root("t1"), root("s2"), "same inode: s2 took over the tree of s1");
}

/// The initial state of s2 exists until s2 has a tree, although s2 finishes long before.
#[test]
fn files_of_a_stage_exist_until_all_stages_that_start_from_it_have_trees() {
    let bench = Bench::new();
    let dockerfile = "FROM scratch AS s1\nCOPY a /v\n\
         FROM s1 AS s2\nCOPY b /w\n\
         FROM scratch AS t1\nCOPY --from=s1 /v /out\n\
         FROM scratch AS t2\nCOPY --from=s2 /w /out\n\
         FROM scratch\nCOPY --from=t1 /out /o1\nCOPY --from=t2 /out /o2\n";
    let first = bench.build(dockerfile, 1);
    let second = bench.build_with(dockerfile, 1, first.with_hits(|_, stage| ["s1", "s2"].contains(&stage)));
    assert_eq!(second.layers(), first.layers());
    assert_eq!((second.unpacked(&first.made("s1", 0)), second.unpacked(&first.made("s2", 0))), (1, 1));
    assert!(second.remaining.is_empty(), "{:?}", second.remaining);
}

/// The same for a stage without steps: it finishes at once, and has no tree until its files are read.
#[test]
fn a_stage_without_steps_passes_its_base_on() {
    let bench = Bench::new();
    let dockerfile = "FROM scratch AS first\nCOPY a /v\n\
         FROM first AS second\n\
         FROM first AS third\nCOPY b /w\n\
         FROM second\nCOPY --from=third /w /w\n";
    let first = bench.build(dockerfile, 1);
    let second = bench.build_with(dockerfile, 1, first.with_hits(|_, stage| stage == "first"));
    assert_eq!(second.layers(), first.layers());
    assert_eq!(second.unpacked(&first.made("first", 0)), 1);
    for round in 0..20 {
        let build = bench.build_with(dockerfile, 8, first.with_hits(|_, stage| stage == "first"));
        assert_eq!(build.layers(), first.layers(), "round {round}");
        assert!(build.remaining.is_empty(), "{:?}", build.remaining);
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
    assert!(build.remaining.is_empty(), "{:?}", build.remaining);
}

#[test]
fn a_tree_with_other_readers_is_copied() {
    let bench = Bench::new();
    let build = bench.build(
        "FROM scratch AS a\nCOPY a /a\nFROM a AS b\nRUN [\"write\", \"/a\", \"b\"]\nFROM b\nCOPY --from=a /a /b\n",
        1,
    );
    let list = bench.build("FROM scratch AS a\nCOPY a /a\nFROM a AS b\nCOPY b /a\nFROM b\nCOPY --from=a /a /b\n", 1);
    assert_eq!(build.layers(), list.layers(), "/b has the content from a, not from b");
    assert!(build.remaining.is_empty(), "{:?}", build.remaining);
}

/// If two stages need files that cannot be made, the reason is reported, whichever stage fails first.
#[test]
fn the_reason_for_missing_files_is_reported() {
    let bench = Bench::new();
    let dockerfile = "FROM scratch AS s\nCOPY a /v\n\
         FROM scratch AS t1\nCOPY --from=s /v /out\n\
         FROM scratch AS t2\nCOPY --from=s /v /out\n\
         FROM scratch\nCOPY --from=t1 /out /o1\nCOPY --from=t2 /out /o2\n";
    let first = bench.build(dockerfile, 1);
    let BlobSource::File(blob) = first.made("s", 0).blob.source else { panic!("a layer in a file") };
    std::fs::write(blob, "damaged").unwrap();
    for round in 0..20 {
        let build = bench.build_with(dockerfile, 8, first.with_hits(|_, stage| stage == "s"));
        let error = build.result.expect_err("the layer is damaged");
        assert!(matches!(error, ExecutorError::CachedLayer { .. }), "round {round}: {error}");
        assert!(build.remaining.is_empty(), "{:?}", build.remaining);
    }
}
