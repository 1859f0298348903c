//! Layers reach the registry while later steps run, each once; a build that fails then leaves neither a tag nor an open upload.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::fake_registry::{FakeRegistry, Fault, Habits};
use crate::support::peers::peers;
use crate::support::program::{Ended, Workspace, run};
use crate::support::web::{Answer, Web};

const PATIENCE: Duration = Duration::from_secs(60);

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

    fn workspace(&self, end: &str) -> Workspace {
        let (base, url) = (peers().busybox(), self.web.url("/wait"));
        let workspace =
            Workspace::new(&format!("FROM {base}\nCOPY file /\nRUN busybox wget -q -O /answer {url} && {end}\n"));
        workspace.file("file", "content");
        workspace
    }

    /// Builds, and lets the RUN go on as soon as `enough` of the registry is true.
    async fn build(&self, end: &str, registry: &FakeRegistry, enough: impl Fn(&FakeRegistry) -> bool) -> Ended {
        let workspace = self.workspace(end);
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
