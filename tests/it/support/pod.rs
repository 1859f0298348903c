//! The executor's image in a container, as a pipeline runs it: `docker run` with the engine's default capabilities and
//! seccomp profile, which are those of a Kubernetes pod, unless a test says otherwise.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::peers::peers;
use super::program::{Ended, Workspace, run, source_directory, stdout};

/// Options of a container that runs the executor once.
pub(crate) struct Pod {
    options: Vec<String>,
}

impl Pod {
    /// Default capabilities, default seccomp profile, the host's network; nothing mounted.
    pub(crate) fn new() -> Self {
        Self { options: vec!["--network=host".to_owned()] }
    }

    /// The same with a context at /workspace (read-only) and its other directory at /out.
    pub(crate) fn for_workspace(workspace: &Workspace) -> Self {
        Self::new().mount(&workspace.context(), "/workspace:ro").mount(&workspace.out(), "/out")
    }

    /// Any option of `docker run`.
    pub(crate) fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// Without a seccomp profile, as most clusters run pods that do not ask for one.
    pub(crate) fn without_seccomp(self) -> Self {
        self.option("--security-opt=seccomp=unconfined")
    }

    /// As another user than root.
    pub(crate) fn user(self, uid: u32) -> Self {
        self.option(&format!("--user={uid}"))
    }

    /// With a limit on memory, page cache included.
    pub(crate) fn memory(self, limit: &str) -> Self {
        self.option(&format!("--memory={limit}")).option(&format!("--memory-swap={limit}"))
    }

    /// A directory of this machine at a place in the pod; `:ro` at its end makes it read-only.
    pub(crate) fn mount(self, here: &Path, there: &str) -> Self {
        self.option(&format!("--volume={}:{there}", here.display()))
    }

    fn command(&self, verb: &[&str], arguments: &[&str]) -> Command {
        let mut command = peers().docker();
        command.args(verb).args(&self.options).arg(executor_image()).args(arguments);
        command
    }

    /// Runs the executor with these arguments to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(&["run", "--rm"], arguments))
    }

    /// Starts the executor; what it says is kept by the engine.
    #[track_caller]
    pub(crate) fn start(&self, arguments: &[&str]) -> RunningPod {
        let id = stdout(&mut self.command(&["run", "--detach"], arguments));
        RunningPod { id }
    }

    /// Makes the container and does not start it yet.
    #[track_caller]
    pub(crate) fn create(&self, arguments: &[&str]) -> RunningPod {
        let id = stdout(&mut self.command(&["create"], arguments));
        RunningPod { id }
    }
}

/// A pod that runs; removed when dropped.
pub(crate) struct RunningPod {
    id: String,
}

impl RunningPod {
    /// What it said until now.
    pub(crate) fn said(&self) -> String {
        run(peers().docker().args(["logs", &self.id])).said
    }

    /// Waits until it has said these words.
    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str, limit: Duration) {
        let start = Instant::now();
        while !self.said().contains(words) {
            assert!(self.is_running(), "ended before it said {words:?}:\n{}", self.said());
            assert!(start.elapsed() < limit, "{words:?} not said in {limit:?}:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Sends signals to its first process as fast as can be, whether it has ended by the last one or not.
    pub(crate) fn signals(&self, names: &[&str]) {
        let Some(process) = self.process() else { return };
        for name in names {
            run(Command::new("kill").args(["-s", name, &process.to_string()]));
        }
    }

    /// The paths in the container that are not as the image has them, after its end too.
    pub(crate) fn changed_files(&self) -> Vec<String> {
        let lines = stdout(peers().docker().args(["diff", &self.id]));
        lines.lines().filter_map(|line| line.get(2..)).map(str::to_owned).collect()
    }

    /// What its `/etc/hosts` says, after its end too.
    pub(crate) fn hosts(&self) -> String {
        let path = stdout(peers().docker().args(["inspect", "--format", "{{.HostsPath}}", &self.id]));
        std::fs::read_to_string(path).unwrap()
    }

    /// Sends a signal to its first process, as Kubernetes does.
    pub(crate) fn signal(&self, name: &str) {
        run(peers().docker().args(["kill", "--signal", name, &self.id])).success();
    }

    /// Runs a program in it.
    pub(crate) fn exec(&self, words: &[&str]) -> Ended {
        run(peers().docker().args(["exec", &self.id]).args(words))
    }

    /// Copies what is in a directory of this machine to a place in its own files.
    pub(crate) fn put(&self, directory: &Path, there: &str) {
        let from = format!("{}/.", directory.display());
        run(peers().docker().args(["cp", &from, &format!("{}:{there}", self.id)])).success();
    }

    /// Starts it for the first time, or again after its end with the files it left.
    pub(crate) fn start_again(&self) {
        run(peers().docker().args(["start", &self.id])).success();
    }

    /// The first process, by its number on this machine; `None` once it has ended.
    pub(crate) fn process(&self) -> Option<u32> {
        let number = stdout(peers().docker().args(["inspect", "--format", "{{.State.Pid}}", &self.id]));
        number.parse().ok().filter(|number| *number != 0)
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&self) -> bool {
        self.process().is_some()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&self, limit: Duration) -> Ended {
        let start = Instant::now();
        while self.is_running() {
            assert!(start.elapsed() < limit, "still running after {limit:?}:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(100));
        }
        let code = stdout(peers().docker().args(["inspect", "--format", "{{.State.ExitCode}}", &self.id]));
        Ended { code: code.parse().unwrap(), said: self.said() }
    }
}

impl Drop for RunningPod {
    fn drop(&mut self) {
        let removal = peers()
            .docker()
            .args(["rm", "--force", &self.id])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .and_then(|mut child: Child| child.wait());
        if let Err(error) = removal {
            eprintln!("cannot remove the container {}: {error}", self.id);
        }
    }
}

/// The executor's image by its digest, loaded into the tests' engine.
#[track_caller]
pub(crate) fn executor_image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| loaded("image", "executor.tar", "crabwright:dev"))
}

/// The image with a shell, the same way.
#[track_caller]
pub(crate) fn debug_image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| loaded("image-debug", "debug.tar", "crabwright:debug"))
}

/// The archive of an image.
pub(crate) fn image_archive(name: &str) -> PathBuf {
    source_directory().join("target").join(name)
}

/// By digest, since several checkouts may test at the same time and all give their images one name.
#[track_caller]
fn loaded(make: &str, name: &str, tag: &str) -> String {
    let archive = image_archive(name);
    assert!(archive.exists(), "{} is missing: run `make {make}`", archive.display());
    assert!(
        modified(&archive) >= newest_source(),
        "{} is older than the sources: run `make {make}` (or `make {make} PROFILE=dev`)",
        archive.display()
    );
    let manifest = stdout(Command::new("tar").arg("-xOf").arg(&archive).arg("manifest.json"));
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest[0]["RepoTags"][0], tag);
    let config = manifest[0]["Config"].as_str().unwrap();
    let hex = config.rsplit(['/', ':']).next().unwrap().trim_end_matches(".json");
    let image = format!("sha256:{hex}");
    if run(peers().docker().args(["image", "inspect", &image])).code != 0 {
        run(peers().docker().arg("load").arg("--input").arg(&archive)).success();
    }
    image
}

fn modified(path: &Path) -> SystemTime {
    std::fs::metadata(path).and_then(|found| found.modified()).unwrap()
}

/// When the youngest file that the executor is made of was written.
fn newest_source() -> SystemTime {
    fn below(path: &Path) -> SystemTime {
        if !path.is_dir() {
            return modified(path);
        }
        let entries = std::fs::read_dir(path).unwrap();
        entries.map(|entry| below(&entry.unwrap().path())).max().unwrap_or(SystemTime::UNIX_EPOCH)
    }
    let sources = ["src", "Cargo.toml", "Cargo.lock", "Dockerfile.executor"];
    sources.iter().map(|name| below(&source_directory().join(name))).max().unwrap()
}
