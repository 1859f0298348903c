//! `crabwright cache prune`.

use std::time::{Duration, SystemTime};

use super::*;
use crate::support::program::crabwright;

fn prune(bench: &Bench, arguments: &[&str]) -> Ended {
    run(crabwright().args(["cache", "prune", "--insecure", "--cache-repo", &bench.place.to_string()]).args(arguments))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_goes_and_the_rest_stays() {
    for store in STORES {
        let bench = Bench::new(store).await;
        bench.build();
        // Four entries, the record of the build and what is known of its base. What is not ours is not looked at.
        let latest = match store {
            Store::Registry => {
                let image = bench.registry.manifest("app", "1").unwrap();
                bench.registry.put_manifest("cache", "latest", crabwright::image::media_type::OCI_MANIFEST, image);
                Some(())
            }
            Store::Directory => None,
        };
        assert!(prune(&bench, &[]).success().said.contains("0 deleted, 6 kept"), "{store:?}");
        assert_eq!(bench.build().executed(), 0);
        assert!(prune(&bench, &["--keep=2"]).success().said.contains("4 deleted, 2 kept"), "{store:?}");
        std::thread::sleep(Duration::from_millis(2100));
        assert!(prune(&bench, &["--cache-ttl=1s"]).success().said.contains("2 deleted, 0 kept"), "{store:?}");
        assert_eq!(bench.keys(), Vec::<String>::new());
        if latest.is_some() {
            assert_eq!(bench.registry.tags("cache"), ["latest"]);
        }
        assert_eq!(bench.build().executed(), 7);
        bench.assert_entries_whole();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_nothing_leads_to_go_unless_they_are_new() {
    let bench = Bench::new(Store::Directory).await;
    bench.build();
    let blobs = bench.place.directory().join("blobs/sha256");
    let count = || std::fs::read_dir(&blobs).unwrap().count();
    let all = count();
    // As a writer leaves it that was killed: there is none any more.
    std::fs::write(blobs.join("0123.partial.1.0.7"), "half").unwrap();
    assert!(prune(&bench, &["--cache-ttl=0s", "--keep=0"]).success().said.contains("6 deleted, 0 kept"));
    assert_eq!(count(), all, "another build may be about to name them");
    let old = SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    for entry in std::fs::read_dir(&blobs).unwrap() {
        std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_modified(old).unwrap();
    }
    assert!(prune(&bench, &[]).success().said.contains("freed"));
    assert_eq!(count(), 0);
    assert_eq!(bench.build().executed(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_does_not_delete_is_said_to_be_one() {
    let habits = Habits { no_delete: true, ..Habits::default() };
    let bench = Bench::with(Store::Registry, DOCKERFILE, habits).await;
    bench.build();
    let keys = bench.keys();
    prune(&bench, &["--keep=0"]).refused(1, &["does not delete manifests", "405", "REGISTRY_STORAGE_DELETE_ENABLED"]);
    assert_eq!(bench.keys(), keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_not_there_is_empty() {
    let bench = Bench::new(Store::Registry).await;
    assert!(prune(&bench, &[]).success().said.contains("0 deleted, 0 kept"));
    run(crabwright().args(["cache", "prune", "--cache-repo=oci:/nonexistent"])).refused(1, &["/nonexistent"]);
}
