//! The main job, end to end: a Dockerfile with an apt-get install, a compiler and three stages goes in, an image that
//! others run and read comes out of a registry; from an unprivileged container, in every mode, with the same digest.

use serde_json::Value;

use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::program::{Workspace, run};

/// Everything that would differ from one build to the next is pinned by this time.
const EPOCH: &str = "1700000000";

/// A build with a compiler that ends in an image without one.
fn three_stages() -> Workspace {
    let base = peers().debian();
    let workspace = Workspace::new(&format!(
        r#"# syntax=docker/dockerfile:1
FROM {base} AS toolchain
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*

FROM toolchain AS build
WORKDIR /src
COPY hello.c .
RUN gcc -O2 -Wall -o /hello hello.c && touch -d @{EPOCH} /hello

FROM {base}
LABEL org.opencontainers.image.title="hello"
COPY --from=build /hello /hello
USER 65534:65534
ENV GREETING="hello from C"
ENTRYPOINT ["/hello"]
CMD ["everyone"]
"#
    ));
    workspace.file(
        "hello.c",
        r#"#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
    printf("%s to %s, uid %d\n", getenv("GREETING"), argc > 1 ? argv[1] : "nobody", (int)getuid());
    return 0;
}
"#,
    );
    workspace
}

#[test]
fn three_stage_debian_job_in_both_sandboxes() {
    let workspace = three_stages();
    let repository = peers().repository("app");
    let (plain, unconfined) = (format!("{repository}:own-root"), format!("{repository}:namespace"));
    let common = ["--context", "dir:///workspace", "--insecure", "--insecure-pull", "--build-arg"];
    let epoch = format!("SOURCE_DATE_EPOCH={EPOCH}");

    // default capabilities, default seccomp profile, no other option than the context
    let said = Pod::new()
        .mount(&workspace.context(), "/workspace:ro")
        .run(&[&common[..], &[&epoch, "--destination", &plain, "--digest-file", "/tmp/d"]].concat())
        .success()
        .said;
    assert!(said.contains("own-root"), "{said}");

    let said = Pod::for_workspace(&workspace)
        .without_seccomp()
        .run(&[&common[..], &[&epoch, "--destination", &unconfined, "--digest-file", "/out/digest"]].concat())
        .success()
        .said;
    assert!(said.contains("namespace"), "{said}");

    let digest = std::fs::read_to_string(workspace.out().join("digest")).unwrap();
    assert_eq!(digest, images::digest(&unconfined), "the digest file names another image");
    assert_eq!(images::digest(&plain), images::digest(&unconfined), "the two sandboxes made different images");

    runs_everywhere(&plain);
    is_read_by_others(&plain, &workspace);
}

fn runs_everywhere(reference: &str) {
    let expected = "hello from C to everyone, uid 65534";
    let docker = images::run_with_docker(reference, &[]).success();
    assert!(docker.said.contains(expected), "{}", docker.said);
    let podman = images::run_with_podman(reference, &[]).success();
    assert!(podman.said.contains(expected), "{}", podman.said);
}

fn is_read_by_others(reference: &str, workspace: &Workspace) {
    let skopeo = images::inspect(reference);
    assert_eq!(skopeo["Labels"]["org.opencontainers.image.title"], "hello");
    assert_eq!(skopeo["Created"], "2023-11-14T22:13:20Z");
    let layers = skopeo["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2, "the base's layer and the program: {layers:?}");

    images::unpack(reference, &workspace.out());
    let root = workspace.out().join("rootfs");
    assert!(root.join("hello").exists() && root.join("etc/debian_version").exists());
    assert!(!root.join("usr/bin/gcc").exists(), "the toolchain's files are in the last stage");

    let (manifest, config) = read_with_oci_client(reference);
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    assert_eq!(config["config"]["User"], "65534:65534");
    assert_eq!(config["config"]["Entrypoint"][0], "/hello");
    let history: Vec<_> = config["history"].as_array().unwrap().iter().collect();
    let filled = history.iter().filter(|entry| entry["empty_layer"] != true).count();
    assert_eq!(filled, 2, "{history:?}");
}

/// The manifest and the config as the oci-client crate reads them.
fn read_with_oci_client(reference: &str) -> (Value, Value) {
    use oci_client::client::{Client, ClientConfig, ClientProtocol};
    let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
    let client = Client::new(config);
    let reference = reference.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (manifest, _, config) = runtime
        .block_on(client.pull_manifest_and_config(&reference, &oci_client::secrets::RegistryAuth::Anonymous))
        .unwrap();
    (serde_json::to_value(manifest).unwrap(), serde_json::from_str(&config).unwrap())
}

/// As an ordinary user nothing can be given away, so the Dockerfile has no other users; the base image has.
#[test]
fn ordinary_user_makes_the_same_image_as_root() {
    let base = peers().debian();
    let workspace = Workspace::new(&format!(
        r#"FROM {base}
COPY greeting.txt /greeting.txt
RUN mkdir -p /opt/app/data \
 && tr a-z A-Z < /greeting.txt > /opt/app/loud.txt \
 && ln -s loud.txt /opt/app/link \
 && rm -r /usr/share/doc/base-files \
 && touch -h -d @{EPOCH} /opt/app/loud.txt /opt/app/link /opt/app/data /opt/app /opt /usr/share/doc
CMD ["cat", "/opt/app/loud.txt"]
"#
    ));
    workspace.file("greeting.txt", "hello\n");
    let repository = peers().repository("plain");
    let epoch = format!("SOURCE_DATE_EPOCH={EPOCH}");
    let pods = [
        ("own-root", Pod::for_workspace(&workspace)),
        ("user-namespace", Pod::for_workspace(&workspace).without_seccomp()),
        ("uid-1000", Pod::for_workspace(&workspace).without_seccomp().user(1000)),
    ];
    let mut digests = Vec::new();
    for (mode, pod) in pods {
        let destination = format!("{repository}:{mode}");
        pod.run(&[
            "--context=dir:///workspace",
            "--insecure",
            "--insecure-pull",
            "--build-arg",
            &epoch,
            "--destination",
            &destination,
        ])
        .success();
        digests.push((images::digest(&destination), mode));
    }
    assert!(digests.iter().all(|(digest, _)| *digest == digests[0].0), "{digests:?}");
    let run = images::run_with_docker(&format!("{repository}:uid-1000"), &[]).success();
    assert!(run.said.contains("HELLO"), "{}", run.said);
}

/// Several tags, a repository that needs a password, and the digest files, as kaniko writes them.
#[test]
fn pushes_several_tags_and_writes_the_digest_files() {
    let workspace = Workspace::new(&format!("FROM {}\nRUN echo built > /built\n", peers().busybox()));
    let secured = peers().repository("secured").replacen(peers().registry(), peers().registry_with_password(), 1);
    let open = peers().repository("open");
    let destinations = [format!("{secured}:1"), format!("{secured}:latest"), format!("{open}:1")];
    let mut arguments = vec!["--context=dir:///workspace", "--insecure", "--insecure-pull"];
    for destination in &destinations {
        arguments.extend(["--destination", destination]);
    }
    arguments.extend(["--digest-file=/out/digest", "--image-name-with-digest-file=/out/names"]);
    Pod::for_workspace(&workspace)
        .mount(std::path::Path::new(peers().docker_config()), "/kaniko/.docker:ro")
        .run(&arguments)
        .success();
    let digest = std::fs::read_to_string(workspace.out().join("digest")).unwrap();
    assert_eq!(digest, images::digest(&destinations[2]));
    let names = std::fs::read_to_string(workspace.out().join("names")).unwrap();
    assert_eq!(names, format!("{secured}@{digest}\n{secured}@{digest}\n{open}@{digest}\n"));
}

/// `make demo` and people at a shell name the work directory from where they are.
#[test]
fn work_directory_may_be_relative() {
    let workspace = Workspace::new(&format!("FROM {}\nRUN echo relative > /out\n", peers().busybox()));
    run(workspace.build().current_dir(workspace.out()).args([
        "--isolation=namespace",
        "--work-dir=relative/work",
        "--no-push",
    ]))
    .success();
}
