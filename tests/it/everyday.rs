//! The Dockerfiles people write every day, as they write them: a Go program with cached modules and a private one, a Node
//! application that binds its package files, a service for an ordinary user with a health check. Their base images are
//! stand-ins, put in place by `--build-context` so that the Dockerfiles need not know.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::images;
use crate::support::leaks::{check, check_directory, check_image};
use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::program::{Ended, Workspace, crabwright, run, source_directory, stdout};

/// Base images by the names the Dockerfiles use, and what stands in for them.
const STAND_INS: [(&str, &str); 5] = [
    ("golang:1.25", "golang"),
    ("node:22-slim", "node"),
    ("debian:12-slim", "runtime"),
    ("gcr.io/distroless/static-debian12:nonroot", "runtime"),
    ("gcr.io/distroless/static-debian12", "runtime"),
];

/// Strings that may be nowhere but in the secrets themselves.
const SECRETS: [&str; 2] = ["hunter2-netrc", "hunter2-signing"];

fn everyday(name: &str) -> PathBuf {
    source_directory().join("testdata/everyday").join(name)
}

/// The `--build-context` flags that put the stand-ins in place; the first call builds them.
fn stand_ins() -> &'static [String] {
    static FLAGS: OnceLock<Vec<String>> = OnceLock::new();
    FLAGS.get_or_init(|| {
        let repository = peers().repository("stand-in");
        for name in ["golang", "node", "runtime"] {
            let work = tempfile::tempdir().unwrap();
            let directory = everyday("stand-ins").join(name);
            run(crabwright()
                .arg(format!("--context={}", directory.display()))
                .arg(format!("--dockerfile={}", directory.join("Dockerfile").display()))
                .arg(format!("--work-dir={}", work.path().display()))
                .arg(format!("--build-arg=BASE={}", peers().busybox()))
                .arg(format!("--destination={repository}-{name}:1"))
                .args(["--insecure", "--insecure-pull"]))
            .success();
        }
        STAND_INS
            .iter()
            .map(|(image, name)| format!("--build-context={image}=docker-image://{repository}-{name}:1"))
            .collect()
    })
}

/// A workspace with a copy of an everyday project.
fn project(name: &str) -> Workspace {
    let dockerfile = std::fs::read_to_string(everyday(name).join("Dockerfile")).unwrap();
    let workspace = Workspace::new(&dockerfile);
    copy_directory(&everyday(name), &workspace.context());
    workspace
}

fn copy_directory(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[track_caller]
fn build(workspace: &Workspace, destination: &str, more: &[&str]) -> Ended {
    run(workspace.build().args(stand_ins()).arg(format!("--destination={destination}")).args(more)).success()
}

/// The same build in a plain pod, where `RUN` has the container's own root directory.
#[track_caller]
fn build_in_pod(workspace: &Workspace, destination: &str, more: &[&str]) -> Ended {
    let destination = format!("--destination={destination}");
    let mut arguments = vec!["--context=dir:///workspace", "--insecure", "--insecure-pull", &destination];
    arguments.extend(stand_ins().iter().map(String::as_str));
    arguments.extend(more);
    let ended = Pod::for_workspace(workspace).run(&arguments).success();
    assert!(ended.said.contains("own-root"), "{}", ended.said);
    ended
}

fn put_secrets(workspace: &Workspace) {
    let path = workspace.out().join("netrc");
    std::fs::write(path, "machine example.com login builder password hunter2-netrc\n").unwrap();
}

#[test]
fn go_build_with_caches_and_secrets() {
    let workspace = project("go");
    put_secrets(&workspace);
    let repository = peers().repository("everyday-go");
    let netrc = format!("--secret=id=netrc,src={}", workspace.out().join("netrc").display());
    let build = |tag: &str, more: &[&str]| {
        let mut command = workspace.build();
        command.env("KEY", "hunter2-signing").args(stand_ins()).args(["--verbosity=trace", &netrc]);
        command.args(["--secret=id=signing-key,env=KEY", &format!("--destination={repository}:{tag}")]).args(more);
        run(&mut command).success()
    };

    let first = build("1", &["--build-arg=VERSION=1.0"]).said;
    assert!(
        first.contains("go: downloading example.com/private/lib") && first.contains("go: compiling lib"),
        "{first}"
    );
    let served = images::run_with_docker(&format!("{repository}:1"), &[]).success().said;
    assert!(served.contains("serving 1.0 for linux/") && served.contains("as 65532"), "{served}");

    // another version: the caches are there, the modules need no password
    workspace.file("cmd/server/main.go", "package main\n\nfunc main() {}\n");
    let second = build("2", &["--build-arg=VERSION=2.0"]).said;
    assert!(!second.contains("go: downloading") && second.contains("go: lib is cached"), "{second}");

    for (said, tag) in [(first, "1"), (second, "2")] {
        check(&SECRETS, said.as_bytes(), "what the build said");
        check_image(&SECRETS, &format!("{repository}:{tag}"));
    }
    check_directory(&SECRETS, &workspace.out().join("work"));
}

#[test]
fn go_build_is_the_same_image_in_a_plain_pod() {
    let workspace = project("go");
    put_secrets(&workspace);
    let repository = peers().repository("everyday-go-pod");
    let pinned = ["--build-arg=SOURCE_DATE_EPOCH=1700000000", "--reproducible", "--secret=id=signing-key,env=KEY"];
    let netrc = format!("--secret=id=netrc,src={}", workspace.out().join("netrc").display());
    let mut command = workspace.build();
    command.env("KEY", "hunter2-signing").args(stand_ins()).args(pinned).arg(netrc);
    run(command.arg(format!("--destination={repository}:here"))).success();

    let destination = format!("--destination={repository}:pod");
    let mut arguments = vec!["--context=dir:///workspace", "--insecure", "--insecure-pull", &destination];
    arguments.extend(stand_ins().iter().map(String::as_str));
    arguments.extend(pinned);
    arguments.push("--secret=id=netrc,src=/secrets/netrc");
    let pod = Pod::new().mount(&workspace.context(), "/workspace:ro").mount(&workspace.out(), "/secrets:ro");
    let pod = pod.option("--env=KEY=hunter2-signing");
    let said = pod.run(&arguments).success().said;
    assert!(said.contains("own-root"), "{said}");
    assert_eq!(images::digest(&format!("{repository}:here")), images::digest(&format!("{repository}:pod")));
    check_image(&SECRETS, &format!("{repository}:pod"));
}

#[test]
fn node_build_with_bound_package_files() {
    let workspace = project("node");
    let repository = peers().repository("everyday-node");
    let (here, pod) = (format!("{repository}:here"), format!("{repository}:pod"));
    let said = build(&workspace, &here, &[]).said;
    assert!(said.contains("npm: fetching router") && said.contains("npm: fetching bundler"), "{said}");
    let started = images::run_with_docker(&here, &[]).success().said;
    assert!(started.contains("shop in production as 1000 with dist: bundle.js node_modules: router"), "{started}");

    let again = build(&workspace, &here, &[]).said;
    assert!(again.contains("npm: router from the cache") && !again.contains("npm: fetching"), "{again}");

    build_in_pod(&workspace, &pod, &[]);
    for reference in [&here, &pod] {
        let unpacked = tempfile::tempdir().unwrap();
        images::unpack(reference, unpacked.path());
        let application = unpacked.path().join("rootfs/usr/src/app");
        let mut names: Vec<_> =
            std::fs::read_dir(&application).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["dist", "node_modules", "package.json"], "{reference}");
        assert!(!unpacked.path().join("rootfs/root/.npm").exists(), "{reference} has the cache or its mount point");
    }
}

#[test]
fn service_for_an_ordinary_user_becomes_healthy() {
    let workspace = project("service");
    let repository = peers().repository("everyday-service");
    let (here, pod) = (format!("{repository}:here"), format!("{repository}:pod"));
    let pinned = ["--build-arg=SOURCE_DATE_EPOCH=1700000000", "--reproducible"];
    build(&workspace, &here, &pinned);
    build_in_pod(&workspace, &pod, &pinned);
    assert_eq!(images::digest(&here), images::digest(&pod));

    let container = stdout(peers().docker().args(["run", "--detach", "--network=host", "--quiet", &here]));
    let health = || stdout(peers().docker().args(["inspect", "--format={{.State.Health.Status}}", &container]));
    let end = Instant::now() + Duration::from_secs(60);
    let mut status = health();
    while status == "starting" && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
        status = health();
    }
    let said = run(peers().docker().args(["logs", &container])).said;
    stdout(peers().docker().args(["rm", "--force", &container]));
    assert_eq!(status, "healthy", "{said}");
    assert!(said.contains("serving on port 8080 as 65532:65532"), "{said}");
}
