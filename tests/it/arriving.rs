//! Layers of a base are unpacked while they come. Whatever happens to them on the way, the image is the same, or there is none.

use serde_json::Value;

use crate::support::fake_registry::{FakeRegistry, Fault, Habits};
use crate::support::program::{Ended, Workspace, run};

/// Pushes a base of two layers, of which the second is larger than what is read ahead; gives that one's digest.
async fn push_base(registry: &FakeRegistry) -> String {
    let workspace = Workspace::new("FROM scratch\nCOPY small /small\nCOPY large /large\n");
    workspace.file("small", "small");
    // Nothing that compresses well: xorshift.
    let noise = std::iter::successors(Some(1_u64), |last| {
        let mixed = last ^ (last << 13);
        let mixed = mixed ^ (mixed >> 7);
        Some(mixed ^ (mixed << 17))
    });
    let letters: String = noise.take(7 << 20).map(|number| char::from(b' ' + (number >> 58) as u8)).collect();
    workspace.file("large", &letters);
    let mut command = workspace.build();
    command.arg(format!("--destination={}/base:1", registry.host()));
    run_beside(command).await.success();
    let manifest: Value = serde_json::from_slice(&registry.manifest("base", "1").unwrap()).unwrap();
    let layer = &manifest["layers"][1];
    assert!(layer["size"].as_u64().unwrap() > 4 << 20, "{layer}");
    layer["digest"].as_str().unwrap().to_owned()
}

async fn run_beside(mut command: std::process::Command) -> Ended {
    tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap()
}

/// Copies the files of the base; the image's digest comes with what was said.
async fn build(registry: &FakeRegistry) -> (Ended, Option<String>) {
    let workspace =
        Workspace::new(&format!("FROM {}/base:1 AS base\nFROM scratch\nCOPY --from=base / /\n", registry.host()));
    let digest = workspace.out().join("digest");
    let mut command = workspace.build();
    command
        .args(["--no-push", "--reproducible", "--verbosity=debug"])
        .arg(format!("--digest-file={}", digest.display()));
    let ended = run_beside(command).await;
    assert_eq!(std::fs::read_dir(workspace.out().join("work")).unwrap().count(), 0, "nothing is left: {}", ended.said);
    (ended, std::fs::read_to_string(digest).ok())
}

#[tokio::test]
async fn faults_on_the_way_change_nothing() {
    for no_range in [false, true] {
        let registry = FakeRegistry::start(Habits { no_range, ..Habits::default() }).await;
        let layer = push_base(&registry).await;
        let (ended, right) = build(&registry).await;
        ended.success();
        assert!(right.is_some());
        for fault in [
            Fault::ResetMidBody,
            Fault::ShortBody,
            Fault::ShortChunkedBody,
            Fault::CorruptBody,
            Fault::SlowBody,
            Fault::Close,
            Fault::Status(503, vec![], String::new()),
        ] {
            registry.fail("GET", format!("/v2/base/blobs/{layer}"), 0, 1, fault.clone());
            let (ended, digest) = build(&registry).await;
            let ended = ended.success();
            assert_eq!(digest, right, "{fault:?}, no_range {no_range}: {}", ended.said);
            // What was there to be read and then was not the right content any more.
            let again = match fault {
                Fault::CorruptBody => true,
                Fault::ResetMidBody | Fault::ShortChunkedBody => no_range,
                _ => false,
            };
            assert_eq!(ended.said.contains("once more, with the layer"), again, "{fault:?}: {}", ended.said);
        }
    }
}

#[tokio::test]
async fn a_layer_that_is_never_right_is_an_error_of_its_download() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let layer = push_base(&registry).await;
    registry.fail("GET", format!("/v2/base/blobs/{layer}"), 0, u32::MAX, Fault::CorruptBody);
    let (ended, digest) = build(&registry).await;
    ended.refused(1, &["fetch layer", &layer, "digest"]);
    assert_eq!(digest, None);
}
