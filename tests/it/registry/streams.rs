//! A blob that is uploaded while it is being written: it arrives, or goes the usual way, and leaves nothing open.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crabwright::fs::GrowingFile;
use tokio::runtime::Handle;

use super::*;
use crate::support::fake_registry::HABITS;
use crate::support::tls;

/// Blobs are followed from here on, in these tests.
const LARGE: u64 = 64 << 10;
/// What is written before the registry is looked at, and after it.
const PARTS: [usize; 2] = [3 * LARGE as usize, LARGE as usize];
const PATIENCE: Duration = Duration::from_secs(60);

/// A blob that is written bit by bit.
struct Growing {
    path: PathBuf,
    file: File,
    growing: Arc<GrowingFile>,
    content: Vec<u8>,
}

impl Growing {
    fn new(workspace: &Workspace, name: &str) -> Self {
        let path = workspace.path().join(name);
        let file = File::create(&path).expect("a spool file");
        let growing = Arc::new(GrowingFile::default());
        growing.begin(File::open(&path).expect("the spool file"));
        Self { path, file, growing, content: Vec::new() }
    }

    fn grow(&mut self, bytes: usize) {
        let first = self.path.as_os_str().len() + self.content.len();
        let more: Vec<u8> = (first..first + bytes).map(|number| ((number * number) >> 7) as u8).collect();
        self.file.write_all(&more).expect("room");
        self.content.extend(more);
        self.growing.advance_to(self.content.len() as u64);
    }

    fn end(self) -> Blob {
        self.growing.end(Ok(()));
        let descriptor = Descriptor::of(media_type::OCI_LAYER, &self.content);
        Blob { descriptor, source: BlobSource::File(self.path.clone()) }
    }
}

impl Drop for Growing {
    /// A test that fails has no threads that wait for more.
    fn drop(&mut self) {
        self.growing.end(Err("the test is over".to_owned()));
    }
}

fn image_of(blobs: Vec<Blob>) -> Image {
    let diff_ids = blobs.iter().map(|blob| blob.descriptor.digest.clone()).collect();
    let rootfs = RootFs { diff_ids, ..RootFs::default() };
    Image::assemble(ImageConfig { rootfs, ..config("amd64", LAYER) }, blobs).expect("an image")
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A build that makes one large layer.
struct Build {
    workspace: Workspace,
    client: Client,
    uploads: Uploads<BlobStore>,
}

impl Build {
    fn new(client: Client, destinations: &[Reference]) -> Self {
        let workspace = Workspace::new();
        let uploads = Uploads::new(&client, destinations, &Progress::hidden(), workspace.store.clone());
        Self { uploads: uploads.expect("tags"), client, workspace }
    }

    fn of(registry: &FakeRegistry) -> Self {
        Self::new(anonymous(), &[reference(registry, "app:1")])
    }

    /// A layer that has begun, and of which enough is there to be followed.
    fn begin(&self, name: &str) -> Growing {
        let mut layer = Growing::new(&self.workspace, name);
        self.uploads.follow(&Handle::current(), &layer.path, &layer.growing, LARGE);
        layer.grow(PARTS[0]);
        layer
    }

    async fn push(&self, blobs: Vec<Blob>) -> PushSummary {
        push(&self.uploads, &image_of(blobs), ExistingTags::Replace).await.expect("pushed")
    }
}

/// The requests of `method` that had to do with uploads to a repository, by their length.
fn lengths(registry: &FakeRegistry, method: &str, repository: &str) -> Vec<u64> {
    let path = format!("/v2/{repository}/blobs/uploads/");
    let seen = registry.seen().into_iter();
    seen.filter(|seen| seen.method == method && seen.path.starts_with(&path)).map(|seen| seen.length).collect()
}

#[track_caller]
fn assert_pushed(registry: &FakeRegistry, name: &str, repository: &str, layer: &Descriptor) {
    assert!(registry.has_blob(repository, &layer.digest), "{name}");
    assert_eq!(registry.tags(repository), ["1"], "{name}");
    registry.assert_whole(name);
    assert_eq!(registry.open_uploads(), 0, "{name}: uploads were left open");
}

#[tokio::test]
async fn a_large_blob_is_sent_before_it_is_complete_and_only_once() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let build = Build::of(&registry);
    let mut layer = build.begin("layer");
    // What goes out may be counted before the registry has seen whom it is for.
    let seen = || registry.count("PATCH", "/v2/app/") == 1;
    until("all that is there is sent", || seen() && build.client.traffic().sent == PARTS[0] as u64).await;
    assert_eq!(lengths(&registry, "PATCH", "app"), [0], "its length is not known yet");
    assert_eq!(registry.count("HEAD", "/blobs/"), 0, "nor is its digest");
    layer.grow(PARTS[1]);
    let layer = layer.end();
    let summary = build.push(vec![layer.clone()]).await;
    assert_pushed(&registry, "a large blob", "app", &layer.descriptor);
    let config = summary.uploaded - layer.descriptor.size;
    assert_eq!(lengths(&registry, "PATCH", "app").len(), 1);
    let mut last = lengths(&registry, "PUT", "app");
    last.sort_unstable();
    assert_eq!(last, [0, config], "the layer's is without content");
    assert_eq!(lengths(&registry, "POST", "app").len(), 2);
    let sent = build.client.traffic().sent - layer.descriptor.size - config;
    assert_eq!(sent, image_of(vec![layer]).manifest_bytes.len() as u64, "traffic counts each byte once");
}

#[tokio::test]
async fn a_blob_that_stays_small_is_left_alone() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let build = Build::of(&registry);
    let mut layer = Growing::new(&build.workspace, "layer");
    build.uploads.follow(&Handle::current(), &layer.path, &layer.growing, LARGE);
    layer.grow(LARGE as usize);
    let layer = layer.end();
    build.push(vec![layer.clone()]).await;
    assert_pushed(&registry, "a small blob", "app", &layer.descriptor);
    assert_eq!(registry.count("PATCH", ""), 0);
    assert!(lengths(&registry, "PUT", "app").contains(&LARGE));
}

#[tokio::test]
async fn one_repository_gets_it_while_it_grows_and_others_when_it_is_complete() {
    let (registry, elsewhere) =
        (FakeRegistry::start(Habits::default()).await, FakeRegistry::start(Habits::default()).await);
    let destinations = [reference(&registry, "app:1"), reference(&registry, "other:1"), reference(&elsewhere, "app:1")];
    let build = Build::new(anonymous(), &destinations);
    let mut layer = build.begin("layer");
    until("a request", || registry.count("PATCH", "/v2/app/") == 1).await;
    layer.grow(PARTS[1]);
    let layer = layer.end();
    build.push(vec![layer.clone()]).await;
    for (registry, repository) in [(&registry, "app"), (&registry, "other"), (&elsewhere, "app")] {
        assert_pushed(registry, repository, repository, &layer.descriptor);
    }
    assert_eq!(lengths(&registry, "PUT", "other"), Vec::<u64>::new(), "it was mounted");
    assert_eq!(registry.count("PATCH", "") + elsewhere.count("PATCH", ""), 1);
}

#[tokio::test]
async fn whatever_strikes_the_image_is_pushed() {
    let status = |status: u16| Fault::Status(status, Vec::new(), String::new());
    let statuses = [200, 202, 301, 400, 401, 403, 404, 405, 411, 413, 416, 429, 500, 502, 503].map(status);
    let mut table: Vec<(&'static str, Fault)> = Vec::new();
    table.extend(statuses.into_iter().map(|fault| ("PATCH", fault)));
    table.extend([Fault::Early(405), Fault::Early(413), Fault::Early(202), Fault::Close].map(|fault| ("PATCH", fault)));
    table.extend([Fault::BreakUpload(0), Fault::BreakUpload(LARGE as usize)].map(|fault| ("PATCH", fault)));
    table.extend([Fault::Without("location"), Fault::Without("range")].map(|fault| ("PATCH", fault)));
    let odd = |name: &'static str, value: &str| Fault::Status(202, vec![(name, value.to_owned())], String::new());
    table.push(("PATCH", odd("range", "0-9")));
    table.push(("PATCH", odd("location", "file:///etc/passwd")));
    for method in ["POST", "PUT"] {
        table.extend([400, 403, 404, 416, 429, 500].map(|code| (method, status(code))));
        table.push((method, Fault::Close));
    }
    for (method, fault) in table {
        let name = format!("{method}: {fault:?}");
        let registry = FakeRegistry::start(Habits::default()).await;
        registry.fail(method, "/v2/app/blobs/uploads/", 0, 1, fault);
        let build = Build::of(&registry);
        let mut layer = build.begin("layer");
        let expected = if method == "POST" { "POST" } else { "PATCH" };
        until(&name, || registry.count(expected, "/v2/app/") == 1).await;
        layer.grow(PARTS[1]);
        let layer = layer.end();
        // By itself, so that the first PUT is the layer's.
        build.uploads.begin(&Handle::current(), &layer);
        until(&name, || registry.has_blob("app", &layer.descriptor.digest)).await;
        build.push(vec![layer.clone()]).await;
        assert_pushed(&registry, &name, "app", &layer.descriptor);
        assert!(registry.count("PATCH", "") <= 1, "{name}: tried again");
    }
}

#[tokio::test]
async fn every_habit_of_registries() {
    for (name, habit) in HABITS {
        let registry = FakeRegistry::start_with(*habit).await;
        let build = Build::new(robot(&[&registry], "sesame"), &[reference(&registry, "app:1")]);
        let mut layer = build.begin("layer");
        until(name, || registry.count("PATCH", "/v2/app/") > 0).await;
        layer.grow(PARTS[1]);
        let layer = layer.end();
        build.push(vec![layer.clone()]).await;
        assert_pushed(&registry, name, "app", &layer.descriptor);
    }
}

#[tokio::test]
async fn over_http2() {
    let certificate = Workspace::new();
    let tls = tls::acceptor(certificate.path(), &["h2"]);
    let registry = FakeRegistry::start_tls(Habits { relative_location: true, ..Habits::default() }, tls).await;
    let certificates = vec![(registry.host(), certificate.path().join("pem"))];
    let config = ClientConfig { certificates, retry: quick(), ..ClientConfig::default() };
    let client = Client::with_keychain(config, Keychain::default()).expect("a client");
    let build = Build::new(client, &[reference(&registry, "app:1")]);
    let mut layer = build.begin("layer");
    until("all that is there is sent", || build.client.traffic().sent == PARTS[0] as u64).await;
    layer.grow(PARTS[1]);
    let layer = layer.end();
    build.push(vec![layer.clone()]).await;
    assert_pushed(&registry, "HTTP/2", "app", &layer.descriptor);
    assert_eq!(lengths(&registry, "PUT", "app").iter().filter(|length| **length > LARGE).count(), 0);
}

#[tokio::test]
async fn a_registry_that_does_not_take_one_is_offered_no_more() {
    let registry = FakeRegistry::start(Habits { no_pieces: true, ..Habits::default() }).await;
    let build = Build::of(&registry);
    let mut blobs = Vec::new();
    for name in ["first", "second!"] {
        let layer = build.begin(name).end();
        build.uploads.begin(&Handle::current(), &layer);
        until(name, || registry.has_blob("app", &layer.descriptor.digest)).await;
        blobs.push(layer);
    }
    build.push(blobs.clone()).await;
    assert_pushed(&registry, "two layers", "app", &blobs[1].descriptor);
    assert_eq!(registry.count("PATCH", ""), 1);
}

#[tokio::test]
async fn a_limit_of_requests_is_met_with_pieces_of_the_complete_blob() {
    let registry = FakeRegistry::start(Habits { request_limit: Some(2 * LARGE), ..Habits::default() }).await;
    let build = Build::of(&registry);
    let layer = build.begin("layer").end();
    until("an answer", || registry.count("PATCH", "/v2/app/") == 1).await;
    build.push(vec![layer.clone()]).await;
    assert_pushed(&registry, "a limit", "app", &layer.descriptor);
}

#[tokio::test]
async fn a_blob_that_turns_out_to_be_there_is_waited_for_no_longer() {
    let registry = FakeRegistry::start(Habits::default()).await;
    // What is sent is never answered.
    registry.fail("PATCH", "/v2/app/", 0, u32::MAX, Fault::Hang);
    let build = Build::of(&registry);
    let mut layer = build.begin("layer");
    until("a request", || registry.count("PATCH", "/v2/app/") == 1).await;
    layer.grow(PARTS[1]);
    registry.put_blob("app", layer.content.clone());
    let layer = layer.end();
    let summary = build.push(vec![layer.clone()]).await;
    assert_eq!(summary.existing, layer.descriptor.size);
    assert_pushed(&registry, "an existing blob", "app", &layer.descriptor);
}

#[tokio::test]
async fn what_nobody_wants_any_more_is_given_up() {
    for hangs in [false, true] {
        let registry = FakeRegistry::start(Habits::default()).await;
        if hangs {
            registry.fail("PATCH", "/v2/app/", 0, u32::MAX, Fault::Hang);
        }
        let build = Build::of(&registry);
        let [broken, _unused, complete] = ["broken", "unused", "complete"].map(|name| build.begin(name));
        until("a request for each", || registry.count("PATCH", "/v2/app/") == 3).await;
        assert_eq!(registry.open_uploads(), 3);
        broken.growing.end(Err("no space is left".to_owned()));
        let complete = complete.end();
        if hangs {
            build.uploads.begin(&Handle::current(), &complete);
            until("it waits for what is never answered", || registry.count("HEAD", "/v2/app/") == 1).await;
        }
        build.uploads.cancel().await;
        assert_eq!(registry.count("POST", "/v2/app/"), 3, "nothing is begun instead");
        assert_eq!(registry.open_uploads(), 0, "hangs: {hangs}");
        assert_eq!(registry.contents().len(), 0);
    }
}

/// The layer of a step that was carried out in vain is no reason to leave something open.
#[tokio::test]
async fn a_push_ends_the_uploads_of_other_layers() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let build = Build::of(&registry);
    let (layer, other) = (build.begin("layer"), build.begin("other layer").end());
    until("a request for each", || registry.count("PATCH", "/v2/app/") == 2).await;
    let layer = layer.end();
    build.push(vec![layer.clone()]).await;
    assert_pushed(&registry, "two layers", "app", &layer.descriptor);
    assert!(!registry.has_blob("app", &other.descriptor.digest));
}
