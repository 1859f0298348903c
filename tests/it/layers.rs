//! How many layers an image gets, and what they are compressed with.

use serde_json::Value;

use crate::support::program::{Workspace, run};

/// The manifest and configuration of a build that is kept as an OCI layout only.
fn built(workspace: &Workspace, flags: &[&str]) -> (Value, Value) {
    let layout = workspace.out().join("layout");
    run(workspace.build().arg("--no-push").arg("--oci-layout-path").arg(&layout).args(flags)).success();
    let blob = |descriptor: &Value| -> Value {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        serde_json::from_slice(&std::fs::read(layout.join("blobs").join(digest)).unwrap()).unwrap()
    };
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest = blob(&index["manifests"][0]);
    let config = blob(&manifest["config"]);
    (manifest, config)
}

/// Two stages, the upper with a `COPY --link` in the middle.
fn workspace() -> Workspace {
    let text = "FROM scratch AS lower\nCOPY one /\nWORKDIR /a\nFROM lower\nCOPY one /b/\nCOPY --link two /b/\nUSER me\nCOPY two /c\n";
    let workspace = Workspace::new(text);
    workspace.file("one", "1").file("two", "2");
    workspace
}

#[test]
fn single_snapshot_gives_each_stage_one_layer() {
    let (manifest, config) = built(&workspace(), &["--single-snapshot"]);
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    let history = config["history"].as_array().unwrap();
    let full: Vec<&str> = history
        .iter()
        .filter(|entry| entry["empty_layer"] != true)
        .map(|entry| entry["created_by"].as_str().unwrap())
        .collect();
    assert_eq!((history.len(), full), (6, vec!["WORKDIR /a", "COPY two /c # buildkit"]));
}

#[test]
fn zstd_layers_say_so_and_hold_the_same() {
    let (gzip, plain) = built(&workspace(), &["--compression=gzip", "--compression-level=1", "--reproducible"]);
    let (zstd, same) = built(&workspace(), &["--compression", "zstd", "--compression-level", "19", "--reproducible"]);
    let types = |manifest: &Value| -> Vec<String> {
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["mediaType"].as_str().unwrap().rsplit('+').next().unwrap().to_owned()).collect()
    };
    assert_eq!(types(&gzip), ["gzip"; 5]);
    assert_eq!(types(&zstd), ["zstd"; 5]);
    assert_eq!(plain["rootfs"], same["rootfs"], "what is compressed is the same");
}
