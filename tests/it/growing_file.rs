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
            assert_eq!(
                ended.said.contains("unpacked again after its second download"),
                again,
                "{fault:?}: {}",
                ended.said
            );
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

/// A large layer of a base that nobody wants when it has been read is never on the disk as a whole, and whoever wants it has
/// it.
#[tokio::test]
async fn a_layer_is_kept_for_those_who_want_it_and_no_one_else() {
    for no_mount in [false, true] {
        let registry = FakeRegistry::start(Habits { no_mount, ..Habits::default() }).await;
        let workspace = Workspace::new("FROM scratch\nCOPY large /large\n");
        let mut noise = vec![0; 100 << 20];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
        std::fs::write(workspace.context().join("large"), noise).unwrap();
        let mut command = workspace.build();
        command.arg(format!("--destination={}/base:1", registry.host()));
        run_beside(command).await.success();

        let archive = format!("--tar-path={}", workspace.out().join("archive.tar").display());
        let to = |name: &str| format!("--destination={}/{name}:1", registry.host());
        let mut digests = Vec::new();
        // Mounting may take longer than reading: what is kept then is for nobody to say.
        for (arguments, is_kept) in [
            (vec!["--no-push".to_owned()], Some(false)),
            (vec!["--no-push".to_owned(), archive, to("archived")], Some(true)),
            (vec![to("pushed")], no_mount.then_some(true)),
        ] {
            let workspace = Workspace::new(&format!("FROM {}/base:1\nCOPY Dockerfile /\n", registry.host()));
            let mut command = workspace.build();
            command.arg("--reproducible").args(&arguments);
            let ended = run_beside(command).await.success();
            let line = |start: &str| ended.said.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
            let on_disk = line("disk ").contains(" 10") && line("disk ").contains(" MB peak");
            if let Some(is_kept) = is_kept {
                assert_eq!(on_disk, is_kept, "{arguments:?}: {}", ended.said);
            }
            digests.push(line("digest "));
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
        registry.assert_whole("a layer that was not kept");
    }
}
