//! Every fault of a registry, wherever it strikes a cache: the build succeeds, its image is whole, and no tag of the cache ever
//! names blobs that are missing.

use super::*;
use crate::support::fake_registry::{Fault, HABITS, Stage, each_fault, side_by_side};

const SMALL: &str = "FROM {base}\nRUN echo one > /one\nRUN cat /one > /two\nCOPY main.txt /main\n";

const READ: &[Stage] = &[
    Stage {
        method: "GET",
        path: "/v2/cache/manifests/",
        damages: &[Fault::ResetMidBody, Fault::ShortBody, Fault::ShortChunkedBody, Fault::CorruptBody, Fault::SlowBody],
    },
    Stage { method: "HEAD", path: "/v2/cache/blobs/", damages: &[] },
    Stage {
        method: "GET",
        path: "/v2/cache/blobs/",
        damages: &[Fault::ResetMidBody, Fault::ShortBody, Fault::ShortChunkedBody, Fault::CorruptBody, Fault::SlowBody],
    },
];

const WRITE: &[Stage] = &[
    Stage { method: "HEAD", path: "/v2/cache/blobs/", damages: &[] },
    Stage { method: "POST", path: "/v2/cache/blobs/uploads/", damages: &[Fault::Without("location"), Fault::SlowBody] },
    Stage { method: "PUT", path: "/v2/cache/blobs/uploads/", damages: &[Fault::BreakUpload(20), Fault::SlowBody] },
    Stage {
        method: "PUT",
        path: "/v2/cache/manifests/",
        damages: &[Fault::Without("docker-content-digest"), Fault::SlowBody],
    },
];

/// The image is that of this Dockerfile: three layers over the base, in the registry.
fn assert_image_whole(bench: &Bench, name: &str) {
    let image = bench.image();
    assert_eq!(image.layers.len(), 4, "{name}");
    for descriptor in image.layers.iter().chain([&image.config]) {
        assert!(bench.registry.has_blob("app", &descriptor.digest), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn faults_of_reading() {
    each_fault(READ, |stage, fault, name| async move {
        let bench = Bench::with(Store::Registry, SMALL, Habits::default()).await;
        bench.build();
        // The layers have to be read.
        bench.workspace.file("main.txt", "edited\n");
        // Enough to lose one layer, after all that is tried again.
        bench.registry.fail(stage.method, stage.path, 0, 5, fault);
        let built = Built(tokio::task::block_in_place(|| run(bench.command().arg("--no-push-cache"))));
        assert_eq!(built.0.code, 0, "{name}:\n{}", built.said());
        assert!(!built.said().contains("panicked"), "{name}");
        assert_image_whole(&bench, &name);
        bench.registry.assert_whole(&name);
        let executed = built.executed();
        assert!((1..=3).contains(&executed), "{name}: {executed}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn faults_of_writing() {
    each_fault(WRITE, |stage, fault, name| async move {
        let bench = Bench::with(Store::Registry, SMALL, Habits::default()).await;
        bench.registry.fail(stage.method, stage.path, 1, u32::MAX, fault);
        let built = Built(tokio::task::block_in_place(|| run(&mut bench.command())));
        assert_eq!(built.0.code, 0, "{name}:\n{}", built.said());
        assert_image_whole(&bench, &name);
        bench.registry.assert_whole(&name);
        bench.assert_entries_whole();
        assert!(built.said().matches("cannot be written").count() <= 1, "{name}:\n{}", built.said());
    })
    .await;
}

/// Registries that are as they may be: a cache there is written and read like any other, over connections that break.
#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn habits_of_registries() {
    side_by_side(HABITS.iter().map(|(name, habit)| async move {
        let registry = FakeRegistry::start_with(*habit).await;
        let config = tempfile::tempdir().unwrap();
        let auth = format!(r#"{{"auths":{{"{}":{{"username":"robot","password":"sesame"}}}}}}"#, registry.host());
        std::fs::write(config.path().join("config.json"), auth).unwrap();
        let bench = Bench::at(Store::Registry, registry, SMALL);
        let build = || {
            bench.registry.forget_faults();
            bench.registry.forget_requests();
            bench.registry.fail("GET", "/v2/cache/blobs/sha256", 0, 1, Fault::ResetMidBody);
            bench.registry.fail("GET", "/v2/cache/manifests/", 0, 1, Fault::Close);
            bench.registry.fail("PUT", "/v2/cache/blobs/uploads/", 0, 1, Fault::BreakUpload(20));
            let mut command = bench.command();
            command.env("DOCKER_CONFIG", config.path());
            Built(tokio::task::block_in_place(|| run(&mut command)).success())
        };
        assert_eq!(build().executed(), 3, "{name}");
        bench.assert_entries_whole();
        assert_eq!(build().executed(), 0, "{name}");
        bench.workspace.file("main.txt", "edited\n");
        let edited = build();
        assert_eq!(edited.cached(), ["RUN cat /one > /two", "RUN echo one > /one"], "{name}: {}", edited.said());
        assert!(!edited.said().contains("cannot be"), "{name}: {}", edited.said());
        assert_image_whole(&bench, name);
        bench.registry.assert_whole(name);
        assert_eq!(bench.registry.open_uploads(), 0, "{name}: uploads were left open");
    }))
    .await;
}

/// A registry that is not there costs a build its cache and a warning, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_down() {
    let bench = Bench::with(Store::Registry, SMALL, Habits::default()).await;
    let mut command = bench.workspace.build();
    command.args(["--cache", "--cache-repo=127.0.0.1:1/cache"]);
    command.arg(format!("--destination={}/app:1", bench.registry.host()));
    let built = Built(run(&mut command).success());
    built.says("the cache 127.0.0.1:1/cache cannot be read").says("connect to 127.0.0.1:1");
    assert_eq!(built.said().matches("warning:").count(), 1, "{}", built.said());
    assert_image_whole(&bench, "down");
}
