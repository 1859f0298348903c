//! Entries that cannot be used: each is a miss, none is an error, and no image ever holds a wrong layer.

use std::path::Path;
use std::time::Duration;

use super::*;

/// What can become of a cache between two builds.
struct Damage {
    name: &'static str,
    /// Does it to an entry's layer or manifest; once for each key of the entry.
    to: fn(&Bench, &str, &Manifest),
    /// Whether it shows when the entry is read, or not before its layer is.
    shows_at_once: bool,
}

fn changed(manifest: &Manifest, change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let mut manifest = manifest.clone();
    change(&mut manifest);
    manifest.to_bytes().unwrap()
}

const DAMAGES: &[Damage] = &[
    Damage {
        name: "the layer is missing",
        to: |bench, _, manifest| bench.place.damage_blob(&manifest.layers[0].digest, None),
        shows_at_once: true,
    },
    Damage {
        name: "the layer is corrupt",
        to: |bench, _, manifest| {
            let layer = &manifest.layers[0];
            bench.place.damage_blob(&layer.digest, Some(vec![0; layer.size as usize]));
        },
        shows_at_once: false,
    },
    Damage {
        name: "the layer is truncated",
        to: |bench, _, manifest| {
            let layer = &manifest.layers[0];
            bench.place.damage_blob(&layer.digest, Some(vec![0; layer.size as usize - 1]));
        },
        shows_at_once: true,
    },
    Damage {
        name: "the manifest is no JSON",
        to: |bench, key, _| bench.place.damage_manifest(key, b"<html>not found</html>"),
        shows_at_once: true,
    },
    Damage {
        name: "the manifest is truncated",
        to: |bench, key, manifest| {
            let bytes = manifest.to_bytes().unwrap();
            bench.place.damage_manifest(key, &bytes[..bytes.len() / 2]);
        },
        shows_at_once: true,
    },
    Damage {
        name: "the entry is that of another step",
        to: |bench, key, manifest| {
            let other = bench.keys().into_iter().find(|other| bench.place.manifest(other).layers != manifest.layers);
            bench.place.damage_manifest(key, &bench.place.manifest(&other.unwrap()).to_bytes().unwrap());
        },
        shows_at_once: true,
    },
    Damage {
        name: "another image has the tag",
        to: |bench, key, manifest| {
            bench.place.damage_manifest(key, &changed(manifest, |other| other.annotations.clear()));
        },
        shows_at_once: true,
    },
    Damage {
        name: "the entry has no layer",
        to: |bench, key, manifest| bench.place.damage_manifest(key, &changed(manifest, |other| other.layers.clear())),
        shows_at_once: true,
    },
    Damage {
        name: "the layer has a media type that nobody knows",
        to: |bench, key, manifest| {
            let other = changed(manifest, |other| other.layers[0].media_type = "application/x-tar".to_owned());
            bench.place.damage_manifest(key, &other);
        },
        shows_at_once: true,
    },
    Damage {
        name: "the layer is another one than the configuration says",
        to: |bench, key, manifest| {
            let other = bench.keys().into_iter().map(|other| bench.place.manifest(&other));
            let other = other.into_iter().find(|other| other.layers != manifest.layers).unwrap().layers;
            bench.place.damage_manifest(key, &changed(manifest, |own| own.layers = other));
        },
        shows_at_once: false,
    },
];

/// The image of a bench as files: what its three commands wrote.
fn files_of_image(bench: &Bench) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for layer in bench.image_layers().iter().skip(1) {
        let path = directory.path().join("layer");
        std::fs::write(&path, bench.registry.blob_content("app", layer)).unwrap();
        all.push(content_of(&path));
    }
    all
}

fn content_of(layer: &Path) -> String {
    crate::support::program::stdout(Command::new("tar").args(["-xzOf"]).arg(layer))
}

/// A later step needs the files of every layer, so that none goes unread.
const READING: &str = "FROM {base}\nRUN echo one > /one\nRUN echo two > /two\nCOPY main.txt /main\n\
                       RUN cat /one /two /main > /all\n";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_an_entry_is_a_miss() {
    for store in STORES {
        for Damage { name, to, shows_at_once } in DAMAGES {
            let bench = Bench::with(store, READING, Habits::default()).await;
            bench.build();
            let first = bench.image_layers()[1].clone();
            for key in bench.keys() {
                let manifest = bench.place.manifest(&key);
                if manifest.layers.first().is_some_and(|layer| layer.digest == first) {
                    to(&bench, &key, &manifest);
                }
            }
            // The files are needed, and the damage cannot go unnoticed.
            bench.workspace.file("main.txt", "edited\n");
            let built = bench.build_with(&["-v=debug"]);
            let repeated = if *shows_at_once { 3..=4 } else { 2..=4 };
            assert!(repeated.contains(&built.executed()), "{store:?}: {name}:\n{}", built.said());
            let reason = ["cannot be used: ", "is missing"].iter().any(|words| built.said().contains(words));
            assert!(reason, "{store:?}: {name}: no reason is given in\n{}", built.said());
            assert_eq!(files_of_image(&bench), ["one", "two", "edited", "one\ntwo\nedited"], "{store:?}: {name}");
        }
    }
}

/// The image is pushed to a registry that cannot take the layer from the cache, which turns out to be broken only then.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_breaks_at_the_push_is_made_again() {
    for store in STORES {
        let bench = Bench::with(store, READING, Habits::default()).await;
        bench.build();
        for digest in bench.layers() {
            let content = bench.place.blob(&digest).iter().map(|byte| byte ^ 1).collect();
            bench.place.damage_blob(&digest, Some(content));
        }
        let elsewhere = FakeRegistry::start(Habits::default()).await;
        let mut command = bench.workspace.build();
        command.args(["--cache", "--cache-repo", &bench.place.to_string()]);
        command.arg(format!("--destination={}/app:1", elsewhere.host()));
        let built = Built(run(&mut command).success());
        built.says("cannot be used");
        assert_eq!(built.executed(), 4, "{store:?}: {}", built.said());
        let image: Manifest = serde_json::from_slice(&elsewhere.manifest("app", "1").unwrap()).unwrap();
        assert_eq!(image.layers.len(), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_expire() {
    for store in STORES {
        let bench = Bench::new(store).await;
        bench.build();
        std::thread::sleep(Duration::from_millis(2100));
        let built = bench.build_with(&["--cache-ttl=1s", "-v=debug"]);
        assert_eq!(built.executed(), 7);
        built.says("s old");
        assert_eq!(bench.build_with(&["--cache-ttl=1h"]).executed(), 0, "they were written anew");
    }
}

/// What stands where the cache should be is not taken for one, and not written over.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_no_layout_is_left_alone() {
    let bench = Bench::new(Store::Directory).await;
    std::fs::create_dir(bench.place.directory()).unwrap();
    std::fs::write(bench.place.directory().join("index.json"), "[]").unwrap();
    let built = bench.build();
    built.says("cannot be read");
    assert_eq!(std::fs::read(bench.place.directory().join("index.json")).unwrap(), b"[]");
}
