//! Images in a registry as others read them: skopeo, umoci, and the engines that run them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::peers::peers;
use super::program::{Ended, run, stdout};

/// What `skopeo inspect` tells of an image (Digest, Layers, Env, Architecture ...).
#[track_caller]
pub(crate) fn inspect(reference: &str) -> Value {
    let text = stdout(Command::new("skopeo").args(["inspect", "--tls-verify=false", &format!("docker://{reference}")]));
    serde_json::from_str(&text).unwrap()
}

/// The digest of the manifest behind a reference.
#[track_caller]
pub(crate) fn digest(reference: &str) -> String {
    inspect(reference)["Digest"].as_str().unwrap().to_owned()
}

/// The manifest behind a reference.
#[track_caller]
pub(crate) fn manifest(reference: &str) -> Value {
    let mut skopeo = Command::new("skopeo");
    let text = stdout(skopeo.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]));
    serde_json::from_str(&text).unwrap()
}

/// Whether the tag is in the registry.
pub(crate) fn exists(reference: &str) -> bool {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]);
    let ended = run(&mut skopeo);
    let absent = ["manifest unknown", "name unknown", "repository name not known"];
    assert!(ended.code == 0 || absent.iter().any(|words| ended.said.contains(words)), "{}", ended.said);
    ended.code == 0
}

/// Copies an image to an OCI layout and unpacks it with umoci; the files are in `rootfs` under the directory.
#[track_caller]
pub(crate) fn unpack(reference: &str, directory: &Path) {
    let layout = directory.join("layout");
    let image = format!("{}:unpacked", layout.display());
    run(Command::new("skopeo")
        .args(["copy", "--quiet", "--src-tls-verify=false"])
        .args([format!("docker://{reference}"), format!("oci:{image}")]))
    .success();
    let bundle = directory.join("bundle");
    run(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle)).success();
    std::fs::rename(bundle.join("rootfs"), directory.join("rootfs")).unwrap();
}

/// Runs an image under Docker.
#[track_caller]
pub(crate) fn run_with_docker(reference: &str, arguments: &[&str]) -> Ended {
    run(peers().docker().args(["run", "--rm", "--quiet", "--network=host", "--pull=always", reference]).args(arguments))
}

/// Runs an image under podman.
#[track_caller]
pub(crate) fn run_with_podman(reference: &str, arguments: &[&str]) -> Ended {
    let mut podman = peers().podman();
    podman.args(["run", "--rm", "--quiet", "--network=host", "--pull=always", "--tls-verify=false"]);
    // podman asks for its own limits, which a machine without CAP_SYS_RESOURCE refuses to raise
    podman.args(["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]);
    run(podman.arg(reference).args(arguments))
}

/// The names in the last layer of an image, in their order.
#[track_caller]
pub(crate) fn last_layer(reference: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    run(Command::new("skopeo")
        .args(["copy", "--quiet", "--src-tls-verify=false", &format!("docker://{reference}")])
        .arg(format!("dir:{}", directory.path().display())))
    .success();
    let manifest = manifest(reference);
    let digest = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap();
    let blob = directory.path().join(digest.trim_start_matches("sha256:"));
    stdout(Command::new("tar").arg("-tf").arg(blob)).lines().map(str::to_owned).collect()
}
