//! Pods of Kubernetes manifests, run by `podman kube play`, one at a time: podman's first pod on a machine makes its pause
//! image, its control groups and its locks, and two that are first disturb each other.

use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::peers::peers;
use super::pod::image_archive;
use super::program::{Ended, run, source_directory, stdout};

const IMAGES: [&str; 2] = ["localhost/crabwright:dev", "localhost/crabwright:debug"];

/// podman itself failed, not what it ran: the exit code of its manual.
const PODMAN_FAILED: i32 = 125;

/// A manifest of the project with stand-ins for the names in it.
pub(crate) fn manifest(path: &str, names: &[(&str, &str)]) -> Value {
    let mut text = std::fs::read_to_string(source_directory().join(path)).unwrap();
    for (name, stand_in) in names {
        assert!(text.contains(name), "{path} does not name {name}");
        text = text.replace(name, stand_in);
    }
    serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A pod, and what it needs; all of it goes when dropped.
pub(crate) struct Kube {
    name: String,
    directory: TempDir,
    secrets: Vec<String>,
    volumes: Vec<String>,
    /// Held by one pod of the machine; the last field, let go when all is gone.
    _turn: File,
}

impl Kube {
    /// Names in podman's storage are everybody's: `name` is made this test's own.
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let turn = File::create(std::env::temp_dir().join("crabwright-kube.lock")).unwrap();
        turn.lock().unwrap();
        Self { name, directory: tempfile::tempdir().unwrap(), secrets: Vec::new(), volumes: Vec::new(), _turn: turn }
    }

    /// A name that nobody else has.
    pub(crate) fn own(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Makes the executor's images known to podman; by name, as a manifest says it.
    pub(crate) fn load_images(&self) -> [&'static str; 2] {
        for archive in ["executor.tar", "debug.tar"] {
            run(podman().arg("load").arg("--quiet").arg("--input").arg(image_archive(archive))).success();
        }
        IMAGES
    }

    /// A secret with one file. podman before 4.4 hands out what a Secret's `data` says without decoding it.
    pub(crate) fn secret(&mut self, name: &str, file: &str, content: &str) {
        let decodes = stdout(Command::new("podman").args(["version", "--format", "{{.Client.Version}}"]));
        let decodes = decodes.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>() >= vec![4, 4];
        let content = if decodes { base64(content) } else { content.to_owned() };
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {file: content}});
        let path = self.directory.path().join("secret.yaml");
        std::fs::write(&path, secret.to_string()).unwrap();
        run(podman().args(["secret", "create", name]).arg(&path)).success();
        self.secrets.push(name.to_owned());
        self.volumes.push(name.to_owned());
    }

    /// A volume with these files, which a PersistentVolumeClaim names.
    pub(crate) fn volume(&mut self, name: &str, files: &[(&str, &str)]) {
        run(podman().args(["volume", "create", name])).success();
        let place = stdout(podman().args(["volume", "inspect", "--format", "{{.Mountpoint}}", name]));
        for (file, content) in files {
            std::fs::write(std::path::Path::new(&place).join(file), content).unwrap();
        }
        self.volumes.push(name.to_owned());
    }

    /// Runs the pod until its containers have ended: how the last one did, and what they said.
    #[track_caller]
    pub(crate) fn play(&self, mut pod: Value) -> Ended {
        pod["metadata"]["name"] = self.name.clone().into();
        let path = self.directory.path().join("pod.yaml");
        std::fs::write(&path, pod.to_string()).unwrap();
        let play = || {
            run(podman()
                .args(["kube", "play", "--replace", "--network=host", "--log-driver=k8s-file"])
                .arg(&path)
                .env("CONTAINERS_CONF", self.configuration()))
        };
        let mut played = play();
        if played.code == PODMAN_FAILED {
            println!("podman could not start the pod, once more:\n{}", played.said);
            played = play();
        }
        let played = played.success();
        // Those that come first have ended, and are gone.
        let containers = pod["spec"]["containers"].as_array().unwrap();
        let mut ended = Ended { code: played.code, said: played.said };
        let start = Instant::now();
        for container in containers {
            let name = format!("{}-{}", self.name, container["name"].as_str().unwrap());
            while stdout(podman().args(["inspect", "--format", "{{.State.Running}}", &name])) == "true" {
                assert!(start.elapsed() < Duration::from_secs(120), "{name} does not end");
                std::thread::sleep(Duration::from_millis(100));
            }
            ended.said.push_str(&run(podman().args(["logs", &name])).said);
            ended.code = stdout(podman().args(["inspect", "--format", "{{.State.ExitCode}}", &name])).parse().unwrap();
        }
        ended
    }

    /// podman asks for its own limits, which a machine without CAP_SYS_RESOURCE refuses to raise.
    fn configuration(&self) -> std::path::PathBuf {
        let path = self.directory.path().join("containers.conf");
        std::fs::write(&path, "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n").unwrap();
        path
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        run(podman().args(["pod", "rm", "--force", "--ignore", &self.name]));
        for secret in &self.secrets {
            run(podman().args(["secret", "rm", secret]));
        }
        for volume in &self.volumes {
            run(podman().args(["volume", "rm", "--force", volume]));
        }
        run(podman().arg("rmi").args(IMAGES));
    }
}

fn podman() -> Command {
    peers().podman()
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
