//! The configurations of the last build's base images: with them, an unchanged build asks for no blob at all.

use std::os::unix::fs::MetadataExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crabwright::image::{Descriptor, media_type};
use serde_json::Value;

use super::*;
use crate::support::fake_registry::Fault;

/// The field that has them.
const FIELD: &str = "dev.crabwright.cache.bases";

/// Three images of the bench's registry: two that stages start from, one that is copied from.
const THREE_BASES: &str = "\
FROM {host}/one:1 AS build
COPY main.txt /in
RUN cat /in > /out
FROM {host}/two:1
COPY --from=build /out /out
COPY --from={host}/three:1 /file /three
";

/// Pushes an image to the bench's registry that holds a file with `content`.
fn push_base(bench: &Bench, name: &str, content: &str) {
    let base = Workspace::new(&format!("FROM {}\nCOPY file /file\nENV CONTENT={content}\n", peers().busybox()));
    base.file("file", content);
    let destination = format!("--destination={}/{name}:1", bench.registry.host());
    tokio::task::block_in_place(|| run(base.build().arg(destination))).success();
}

async fn bench_of_three(store: Store) -> Bench {
    let bench = Bench::with(store, "", Habits::default()).await;
    bench.workspace.file("Dockerfile", &THREE_BASES.replace("{host}", &bench.registry.host()));
    for name in ["one", "two", "three"] {
        push_base(&bench, name, name);
    }
    bench
}

/// How many blobs were fetched since the last build began.
fn fetched(bench: &Bench) -> usize {
    bench.registry.count("GET", "/blobs/")
}

/// Which of the three bases' configurations were.
fn configurations_fetched(bench: &Bench) -> Vec<&'static str> {
    let is_fetched = |name: &&str| {
        let manifest: Manifest = serde_json::from_slice(&bench.registry.manifest(name, "1").unwrap()).unwrap();
        bench.registry.count("GET", &manifest.config.digest.to_string()) > 0
    };
    ["one", "two", "three"].into_iter().filter(is_fetched).collect()
}

/// Does something that writes nothing into the cache.
#[track_caller]
fn without_writing<T>(bench: &Bench, work: impl FnOnce() -> T) -> T {
    // The index is another file after every write.
    let index =
        || std::fs::metadata(bench.place.directory().join("index.json")).map(|file| (file.ino(), file.mtime_nsec()));
    let before = index().ok();
    let result = work();
    assert_eq!(index().ok(), before);
    assert_eq!(bench.registry.count("PUT", "/v2/cache/"), 0);
    result
}

/// The tag and the manifest that they lie under.
fn kept(bench: &Bench) -> (String, Manifest) {
    let tags: Vec<String> = bench.place.tags().into_iter().filter(|tag| tag.starts_with("bases-")).collect();
    let [tag] = tags.as_slice() else { panic!("not one tag but {tags:?}") };
    (tag.clone(), bench.place.manifest(tag))
}

/// Writes them anew, changed, with the right digest.
fn change_kept(bench: &Bench, change: impl FnOnce(&mut Value)) {
    let (tag, mut manifest) = kept(bench);
    let mut config: Value =
        serde_json::from_slice(&STANDARD.decode(manifest.config.data.as_ref().unwrap()).unwrap()).unwrap();
    change(&mut config);
    let bytes = serde_json::to_vec(&config).unwrap();
    manifest.config =
        Descriptor { data: Some(STANDARD.encode(&bytes)), ..Descriptor::of(media_type::OCI_CONFIG, &bytes) };
    bench.place.damage_manifest(&tag, &manifest.to_bytes().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_build_fetches_no_blob() {
    for store in STORES {
        let bench = bench_of_three(store).await;
        assert_eq!(bench.build().executed(), 4, "{store:?}");
        let layers = bench.image_layers();
        let unchanged = without_writing(&bench, || bench.build());
        assert_eq!((unchanged.executed(), fetched(&bench)), (0, 0), "{store:?}: {}", unchanged.said());
        assert_eq!(bench.image_layers(), layers, "{store:?}");
        for name in ["one", "two", "three"] {
            assert_eq!(
                bench.registry.count("GET", &format!("/v2/{name}/")),
                1,
                "{store:?}: the manifest of {name} alone"
            );
        }
        let reads = if store == Store::Registry { 1 } else { 0 };
        assert_eq!(bench.registry.count("GET", "/v2/cache/manifests/bases-"), reads);
        // Other steps on the same bases: their configurations are known still.
        bench.workspace.file("main.txt", "edited\n");
        bench.build().says("context file main.txt changed");
        assert_eq!(configurations_fetched(&bench), [""; 0], "{store:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_image_under_the_tag_of_a_base_is_noticed() {
    for store in STORES {
        let bench = bench_of_three(store).await;
        bench.build();
        push_base(&bench, "two", "changed");
        let built = bench.build();
        assert_eq!(configurations_fetched(&bench), ["two"], "{store:?}");
        built.says("not cached: the base image changed");
        let image = bench.image();
        let config: Value = serde_json::from_slice(&bench.registry.blob_content("app", &image.config.digest)).unwrap();
        let variables = config["config"]["Env"].as_array().unwrap();
        assert!(variables.contains(&Value::from("CONTENT=changed")), "{store:?}: {config}");
        let unchanged = bench.build();
        assert_eq!((unchanged.executed(), fetched(&bench)), (0, 0), "{store:?}: {}", unchanged.said());
    }
}

/// One target's bases do not take the place of another's.
#[tokio::test(flavor = "multi_thread")]
async fn targets_have_configurations_of_their_own() {
    let bench = bench_of_three(Store::Registry).await;
    bench.build();
    assert_eq!(bench.build_with(&["--target=build"]).executed(), 1, "a copy that was not part of the image");
    assert_eq!(configurations_fetched(&bench), ["one"], "the others' are those of another target");
    for flags in [&[][..], &["--target=build"]] {
        let unchanged = bench.build_with(flags);
        assert_eq!((unchanged.executed(), fetched(&bench)), (0, 0), "{flags:?}: {}", unchanged.said());
    }
}

/// Whatever somebody wrote in their place: the image is what it was, what is not known is fetched, and the build leaves what
/// the next one can use.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_believed_in_nothing() {
    /// One text in place of every configuration.
    fn replace_all(config: &mut Value, text: &dyn Fn(&str) -> String) {
        for value in config[FIELD].as_object_mut().unwrap().values_mut() {
            *value = Value::from(text(value.as_str().unwrap()));
        }
    }
    type Change = fn(&Bench);
    let changes: [(&str, Change); 7] = [
        ("other configurations", |bench| {
            change_kept(bench, |config| replace_all(config, &|_| r#"{"config":{"Env":["FORGED=1"]}}"#.to_owned()));
        }),
        ("other configurations of the same size", |bench| {
            change_kept(bench, |config| replace_all(config, &|text| text.replace("CONTENT=", "FORGED-=")));
        }),
        ("configurations that are too large", |bench| {
            change_kept(bench, |config| replace_all(config, &|text| format!("{text}{}", " ".repeat(64 << 10))));
        }),
        ("no configurations", |bench| {
            change_kept(bench, |config| drop(config.as_object_mut().unwrap().remove(FIELD)));
        }),
        ("configurations that are none", |bench| {
            change_kept(bench, |config| config[FIELD] = serde_json::json!({"sha256:0": ["x"]}));
        }),
        ("another image", |bench| {
            let image = bench.image().to_bytes().unwrap();
            bench.place.damage_manifest(&kept(bench).0, &image);
        }),
        ("no manifest", |bench| bench.place.damage_manifest(&kept(bench).0, b"<html>\xff")),
    ];
    for store in STORES {
        let bench = bench_of_three(store).await;
        bench.build();
        let image = bench.image_layers();
        for (name, change) in changes {
            change(&bench);
            let built = bench.build();
            assert_eq!((built.executed(), fetched(&bench)), (0, 3), "{store:?}: {name}: {}", built.said());
            assert!(!built.said().contains("warning"), "{store:?}: {name}: {}", built.said());
            let config = bench.registry.blob_content("app", &bench.image().config.digest);
            let config = String::from_utf8(config).unwrap();
            assert!(config.contains("CONTENT=two") && !config.contains("FORGED"), "{store:?}: {name}: {config}");
            assert_eq!(bench.image_layers(), image, "{store:?}: {name}");
            let mended = bench.build();
            assert_eq!((mended.executed(), fetched(&bench)), (0, 0), "{store:?}: {name}: {}", mended.said());
        }
    }
}

/// What cannot be read, or does not come, costs what it would have spared.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_come_is_done_without() {
    let refused = Fault::Status(403, Vec::new(), String::new());
    for fault in [refused, Fault::Status(503, Vec::new(), String::new()), Fault::Close, Fault::Hang] {
        let bench = bench_of_three(Store::Registry).await;
        bench.build();
        bench.registry.fail("GET", "/v2/cache/manifests/bases-", 0, u32::MAX, fault.clone());
        // Nothing is known to be missing.
        let built = without_writing(&bench, || bench.build());
        assert_eq!((built.executed(), fetched(&bench)), (0, 3), "{fault:?}: {}", built.said());
        assert!(!built.said().contains("cannot be read"), "{fault:?}: the entries can: {}", built.said());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_read_and_written_where_the_cache_may_be() {
    let bench = bench_of_three(Store::Registry).await;
    let asked = || bench.registry.count("GET", "/v2/cache/manifests/bases-");
    bench.build_with(&["--no-cache"]);
    assert_eq!((asked(), fetched(&bench) >= 3), (0, true));
    assert_eq!((bench.build().executed(), fetched(&bench)), (0, 0));
    change_kept(&bench, |config| config[FIELD] = serde_json::json!({}));
    for _ in 0..2 {
        without_writing(&bench, || bench.build_with(&["--no-push-cache"]));
        assert_eq!((asked(), fetched(&bench)), (1, 3));
    }
}
