//! Layers reach the registry while later steps run, large ones from when they are being written, each once; a build that fails or
//! is stopped then leaves neither a tag nor an open upload.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::fake_registry::{FakeRegistry, Fault, Habits};
use crate::support::images;
use crate::support::peers::peers;
use crate::support::program::{Ended, Workspace, run};
use crate::support::web::{Answer, Web};

const PATIENCE: Duration = Duration::from_secs(60);
/// A layer that is not waited for: nothing in it can be compressed.
const LARGE: &str = "RUN busybox head -c 41943040 /dev/urandom > /large\n";

/// A RUN that asks a server, which answers once the registry has seen enough, and that ends with `end`.
struct Waiting {
    web: Web,
    enough: Arc<AtomicBool>,
}

impl Waiting {
    fn new() -> Self {
        let enough: Arc<AtomicBool> = Arc::default();
        let seen = Arc::clone(&enough);
        let web = Web::serve(move |_asked, _before| {
            let start = Instant::now();
            while !seen.load(Ordering::Acquire) {
                if start.elapsed() > PATIENCE {
                    return Answer::status(504);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Answer::ok("seen")
        });
        Self { web, enough }
    }

    /// `before` are instructions.
    fn workspace(&self, before: &str, end: &str) -> Workspace {
        let (base, url) = (peers().busybox(), self.web.url("/wait"));
        let wait = format!("RUN busybox wget -q -O /answer {url} && {end}");
        let workspace = Workspace::new(&format!("FROM {base}\nCOPY file /\n{before}{wait}\n"));
        workspace.file("file", "content");
        workspace
    }

    /// Builds, and lets the RUN go on as soon as `enough` of the registry is true.
    async fn build(&self, end: &str, registry: &FakeRegistry, enough: impl Fn(&FakeRegistry) -> bool) -> Ended {
        self.build_after("", end, registry, enough).await
    }

    /// The same after other instructions.
    async fn build_after(
        &self,
        before: &str,
        end: &str,
        registry: &FakeRegistry,
        enough: impl Fn(&FakeRegistry) -> bool,
    ) -> Ended {
        let workspace = self.workspace(before, end);
        let destinations = [format!("{}/app:1", registry.host()), format!("{}/other:1", registry.host())];
        let build = tokio::task::spawn_blocking(move || {
            let mut command = workspace.build();
            command.arg("--isolation=namespace").args(destinations.map(|name| format!("--destination={name}")));
            run(&mut command)
        });
        while !build.is_finished() {
            if enough(registry) {
                self.enough.store(true, Ordering::Release);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        build.await.unwrap()
    }
}

/// The base has one layer, and the copy makes another.
fn both_layers_arrived(registry: &FakeRegistry) -> bool {
    registry.count("PUT", "/v2/app/blobs/uploads/") >= 2 && registry.open_uploads() == 0
}

#[tokio::test]
async fn layers_are_uploaded_while_later_steps_run() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let ended = Waiting::new().build("true", &registry, both_layers_arrived).await.success();
    // two layers, the command's, and the configuration, whichever repository had them first
    assert_eq!(registry.count("PUT", "/blobs/uploads/"), 4, "{}", ended.said);
    assert_eq!(registry.count("HEAD", "/blobs/"), 8, "each is asked for once in each repository");
    assert_eq!((registry.tags("app"), registry.tags("other")), (vec!["1".to_owned()], vec!["1".to_owned()]));
}

#[tokio::test]
async fn an_upload_that_failed_early_is_tried_again_by_the_push() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let refused = Fault::Status(403, vec![], String::new());
    // The first is the check before the build.
    registry.fail("POST", "/v2/app/blobs/uploads/", 1, 2, refused);
    let enough = |registry: &FakeRegistry| registry.count("POST", "/v2/app/blobs/uploads/") >= 3;
    Waiting::new().build("true", &registry, enough).await.success();
    assert_eq!(registry.tags("app"), ["1"]);
}

#[tokio::test]
async fn a_build_that_fails_leaves_no_open_upload_and_no_tag() {
    let registry = FakeRegistry::start(Habits::default()).await;
    // The registry takes the bytes and never answers.
    registry.fail("PUT", "/blobs/uploads/", 0, u32::MAX, Fault::Hang);
    let enough = |registry: &FakeRegistry| registry.count("PUT", "/blobs/uploads/") >= 2;
    Waiting::new().build("exit 7", &registry, enough).await.refused(7, &["exit code: 7"]);
    assert_eq!(registry.open_uploads(), 0);
    assert_eq!(registry.tags("app"), Vec::<String>::new());
}

/// One request for its content in the first repository, none in the other, which is on the same registry.
#[tokio::test]
async fn a_large_layer_is_sent_once_and_from_when_it_is_written() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let sent = |registry: &FakeRegistry| registry.count("PATCH", "/v2/app/blobs/uploads/") == 1;
    Waiting::new().build_after(LARGE, "true", &registry, sent).await.success();
    assert_eq!((registry.count("PATCH", ""), registry.open_uploads()), (1, 0));
    assert_eq!((registry.tags("app"), registry.tags("other")), (vec!["1".to_owned()], vec!["1".to_owned()]));
    registry.assert_whole("a large layer");
    let lengths = registry.seen().into_iter().filter(|seen| seen.method == "PUT").map(|seen| seen.length);
    assert!(lengths.max().unwrap() < 32 << 20, "the layer's content was sent with another request, too");
}

#[test]
fn a_large_layer_arrives_in_a_registry_of_this_world() {
    let repository = peers().repository("large-layer");
    let workspace = Workspace::new(&format!("FROM {}\n{LARGE}", peers().busybox()));
    let mut command = workspace.build();
    command.args(["--isolation=namespace", "--verbosity=debug", &format!("--destination={repository}:1")]);
    let said = run(&mut command).success().said;
    assert!(said.contains("method=PATCH"), "{said}");
    assert_eq!(images::last_layer(&format!("{repository}:1")), ["large"]);
    assert_eq!(sessions(&repository), 0);
}

/// This registry lets go only of uploads whose last request it has answered.
#[test]
fn a_large_layer_of_a_build_that_fails_is_no_longer_waited_for() {
    let repository = peers().repository("no-large-layer");
    let workspace = Workspace::new(&format!("FROM {}\n{LARGE}RUN exit 7\n", peers().busybox()));
    let mut command = workspace.build();
    command.args(["--isolation=namespace", "--verbosity=debug", &format!("--destination={repository}:1")]);
    let said = run(&mut command).refused(7, &["exit code: 7"]).said;
    assert!(said.contains("method=PATCH"), "{said}");
    assert_eq!(sessions(&repository), 0, "{said}");
}

#[tokio::test]
async fn a_build_that_fails_leaves_nothing_of_a_large_layer() {
    let registry = FakeRegistry::start(Habits::default()).await;
    registry.fail("PATCH", "/blobs/uploads/", 0, u32::MAX, Fault::Hang);
    let sent = |registry: &FakeRegistry| registry.count("PATCH", "/blobs/uploads/") == 1;
    Waiting::new().build_after(LARGE, "exit 7", &registry, sent).await.refused(7, &["exit code: 7"]);
    assert_eq!((registry.open_uploads(), registry.tags("app").len()), (0, 0));
}

#[tokio::test]
async fn a_build_that_is_stopped_leaves_nothing_of_a_large_layer() {
    let registry = FakeRegistry::start(Habits::default()).await;
    registry.fail("PATCH", "/blobs/uploads/", 0, u32::MAX, Fault::Hang);
    // Nobody lets this one go on.
    let waiting = Waiting::new();
    let workspace = waiting.workspace(LARGE, "true");
    let mut command = workspace.build();
    command.args(["--isolation=namespace", &format!("--destination={}/app:1", registry.host())]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let number = child.id().to_string();
    let build = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    while registry.count("PATCH", "") == 0 && !build.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    run(Command::new("kill").args(["-TERM", &number])).success();
    let output = build.await.unwrap();
    waiting.enough.store(true, Ordering::Release);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(143), "{said}");
    assert_eq!((registry.open_uploads(), registry.tags("app").len()), (0, 0), "{said}");
}

/// Uploads that the registry of this world still waits for.
fn sessions(repository: &str) -> usize {
    let storage = peers().registry_storage(repository);
    assert!(storage.is_dir(), "{} is not where the registry keeps it", storage.display());
    let Ok(uploads) = std::fs::read_dir(storage.join("_uploads")) else { return 0 };
    // Of an upload that was ended the state of a hash may stay, and this file goes.
    uploads.flatten().filter(|upload| upload.path().join("startedat").exists()).count()
}
