//! One cache for many builds: at once, on machines that differ, and for some that do not live to their end.

use std::process::Stdio;
use std::time::Duration;

use super::*;
use crate::support::images;
use crate::support::pod::Pod;

/// Sixteen builds of four Dockerfiles fill one cache at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_builds_side_by_side() {
    for store in STORES {
        let bench = Bench::new(store).await;
        let builds: Vec<_> = (0..16)
            .map(|number| {
                let mut command = bench.workspace.build();
                command.args(["--cache", "--cache-repo", &bench.place.to_string(), "--isolation=namespace"]);
                command.arg(format!("--destination={}/app{number}:1", bench.registry.host()));
                command.arg(format!("--build-arg=VERSION={}", number % 4));
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for build in builds {
            let output = build.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !said.contains("cannot be"), "{store:?}: {said}");
        }
        bench.assert_entries_whole();
        for version in 0..4 {
            let built = bench.build_with(&[&format!("--build-arg=VERSION={version}")]);
            // What one build left of a step and another of the next does not go together, and is made again.
            let again = bench.build_with(&[&format!("--build-arg=VERSION={version}")]);
            assert_eq!(again.executed(), 0, "{store:?}: {}\n{}", built.said(), again.said());
        }
    }
}

/// A build that is killed while it writes leaves entries that are whole, or none.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle() {
    for store in STORES {
        let bench = Bench::new(store).await;
        let mut found = 0;
        for moment in 1..=12 {
            let mut child = bench.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(moment * 60));
            child.kill().unwrap();
            child.wait().unwrap();
            if store == Store::Directory && !bench.place.directory().join("index.json").exists() {
                continue;
            }
            bench.assert_entries_whole();
            found = bench.keys().len();
        }
        bench.build();
        assert_eq!(bench.build().executed(), 0, "{store:?}, after {found} keys");
    }
}

/// A build that fails keeps what it made until then.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_build_made_is_kept() {
    for store in STORES {
        let dockerfile = "FROM {base}\nRUN echo one > /one\nCOPY main.txt /main\nRUN grep edited /main\n";
        let bench = Bench::with(store, dockerfile, Habits::default()).await;
        run(&mut bench.command()).refused(1, &["grep edited"]);
        bench.assert_entries_whole();
        bench.workspace.file("main.txt", "edited\n");
        assert_eq!(bench.build().cached(), ["RUN echo one > /one"], "{store:?}");
    }
}

/// Two entries that were made by two builds, each of which ran the command for itself, are not put together.
#[tokio::test(flavor = "multi_thread")]
async fn layers_of_two_builds_are_not_mixed() {
    let dockerfile = "FROM {base}\nRUN cat /proc/sys/kernel/random/uuid > /one\nRUN cat /one > /two\n";
    let one = Bench::with(Store::Directory, dockerfile, Habits::default()).await;
    let other = Bench::with(Store::Directory, dockerfile, Habits::default()).await;
    one.build();
    other.build();
    // The first step's entries of one cache, the second step's of the other.
    let (first, second) = (one.image().layers[1].digest.clone(), other.image().layers[2].digest.clone());
    let (layout, other_layout) = (one.place.layout(), other.place.layout());
    let mut index = layout.index().unwrap();
    index.manifests.retain(|entry| {
        let manifest = layout.manifest(entry).unwrap();
        manifest.layers.first().is_some_and(|layer| layer.digest == first)
    });
    for entry in other_layout.index().unwrap().manifests {
        let manifest = other_layout.manifest(&entry).unwrap();
        if manifest.layers.first().is_some_and(|layer| layer.digest == second) {
            let copied = manifest.layers.iter().chain([&manifest.config]).map(|part| part.digest.clone());
            for digest in copied.chain([entry.digest.clone()]) {
                std::fs::copy(other_layout.blob_path(&digest), layout.blob_path(&digest)).unwrap();
            }
            index.manifests.push(entry);
        }
    }
    std::fs::write(one.place.directory().join("index.json"), index.to_bytes().unwrap()).unwrap();
    let built = one.build();
    assert_eq!(built.executed(), 1, "the second command has to run again: {}", built.said());
    assert_eq!(one.image().layers[1].digest, first);
}

/// Pods with other users, names, times and processors find what the others left.
#[test]
fn pods_share_their_keys() {
    let workspace = Workspace::new(&DOCKERFILE.replace("{base}", &peers().busybox()));
    workspace.file("req.txt", "1\n").file("main.txt", "main\n");
    let repository = peers().repository("shared-cache");
    let cache = format!("--cache-repo={repository}/cache");
    let build = |pod: Pod, name: &str| {
        let destination = format!("--destination={repository}:{name}");
        let arguments =
            ["--context=dir:///workspace", "--insecure", "--insecure-pull", "--cache", &cache, &destination];
        Built(pod.run(&arguments).success())
    };
    let mounted = || Pod::new().mount(&workspace.context(), "/workspace:ro");
    let first = build(mounted().option("--hostname=one").option("--cpuset-cpus=0"), "one");
    assert_eq!(first.executed(), 7);
    let second = build(mounted().without_seccomp().option("--hostname=two").option("--env=TZ=Asia/Tokyo"), "two");
    assert_eq!(second.executed(), 0, "{}", second.said());
    let user = mounted().user(4321);
    let third = build(user, "three");
    assert_eq!(third.executed(), 0, "{}", third.said());
    let layers = |name: &str| images::manifest(&format!("{repository}:{name}"))["layers"].clone();
    assert!(layers("one") == layers("two") && layers("one") == layers("three"));
}
