//! Unpacks arbitrary bytes as a layer: it must not panic, and whatever the archive says, nothing beside the root directory
//! may appear, disappear or change. What was unpacked must then equal its own baseline.

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crabwright::rootfs::Tree;
use crabwright::snapshot::{Options, compare};
use libfuzzer_sys::fuzz_target;

/// A directory of this process with the root to be and a file that must stay as it is.
fn stage() -> &'static Path {
    static STAGE: OnceLock<PathBuf> = OnceLock::new();
    STAGE.get_or_init(|| {
        let stage = std::env::temp_dir().join(format!("crabwright-fuzz-extract-{}", std::process::id()));
        std::fs::create_dir_all(&stage).expect("stage");
        std::fs::write(stage.join("outside"), "untouched").expect("outside");
        stage
    })
}

fuzz_target!(|layer: &[u8]| {
    let stage = stage();
    let root = stage.join("root");
    let mut tree = Tree::create(&root).expect("tree");
    if tree.apply_layer("fuzzed", layer).is_ok() {
        let changes = compare(&tree, &Options::default()).expect("compared");
        assert!(changes.is_empty(), "{changes:?}");
    }
    drop(tree);
    crabwright::fs::remove_dir_all(&root).expect("removed");
    assert_eq!(std::fs::read_to_string(stage.join("outside")).expect("outside"), "untouched");
    assert_eq!(std::fs::read_dir(stage).expect("list").count(), 1);
});
