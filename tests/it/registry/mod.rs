//! The registry client and the push against a registry that misbehaves.

mod faults;
mod habits;
mod known_configs;
mod names;
mod protocols;
mod servers;
mod slowness;
mod streams;
mod transport;

use std::path::Path;
use std::time::{Duration, Instant};

use crabwright::cache::BlobStore;
use crabwright::diag::progress::Progress;
use crabwright::diag::{Hint as _, with_causes};
use crabwright::http::RetryPolicy;
use crabwright::image::layout::LayoutReader;
use crabwright::image::{
    Blob, BlobSource, Descriptor, Digest, Image, ImageConfig, Index, Manifest, Platform, Reference, RootFs, media_type,
};
use crabwright::push::{
    ArchiveKind, ExistingTags, PushError, PushSummary, Target, Uploads, check_destinations, push, write_archive,
    write_layout,
};
use crabwright::registry::{Client, ClientConfig, Keychain, RegistryError};

use crate::support::fake_registry::{Authentication, FakeRegistry, Fault, Habits};

const LAYER: &[u8] = b"the bytes of a layer, which nobody unpacks here";

const TOKEN: Authentication = Authentication::Token { user: "robot", password: "sesame", requests: u32::MAX };

fn quick() -> RetryPolicy {
    RetryPolicy { attempts: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_secs(2) }
}

fn client_with(keychain: Keychain) -> Client {
    let config = ClientConfig { insecure: true, insecure_pull: true, retry: quick(), ..ClientConfig::default() };
    Client::with_keychain(config, keychain).expect("a client")
}

fn anonymous() -> Client {
    client_with(Keychain::default())
}

/// A client that knows `robot` with `password` at all the registries.
fn robot(registries: &[&FakeRegistry], password: &str) -> Client {
    let directory = tempfile::tempdir().expect("a directory");
    let entries: Vec<String> = registries
        .iter()
        .map(|registry| format!(r#""{}":{{"username":"robot","password":"{password}"}}"#, registry.host()))
        .collect();
    let path = directory.path().join("config.json");
    std::fs::write(&path, format!(r#"{{"auths":{{{}}}}}"#, entries.join(","))).expect("a config");
    client_with(Keychain::load(vec![path]).expect("a keychain"))
}

fn reference(registry: &FakeRegistry, name: &str) -> Reference {
    Reference::parse(&format!("{}/{name}", registry.host())).expect("a reference")
}

fn linux_amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

fn config(architecture: &str, layer: &[u8]) -> ImageConfig {
    ImageConfig {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        rootfs: RootFs { diff_ids: vec![Digest::sha256_of(layer)], ..RootFs::default() },
        ..ImageConfig::default()
    }
}

fn image(source: BlobSource) -> Image {
    let descriptor = Descriptor::of(media_type::OCI_LAYER, LAYER);
    Image::assemble(config("amd64", LAYER), vec![Blob { descriptor, source }]).expect("an image")
}

/// Puts a one-layer image into the registry, and gives the descriptor of its manifest.
fn seed(registry: &FakeRegistry, repository: &str, tag: &str, architecture: &str) -> Descriptor {
    let bytes = config(architecture, LAYER).to_bytes().expect("a config");
    registry.put_blob(repository, LAYER);
    registry.put_blob(repository, bytes.clone());
    let manifest = Manifest::oci(
        Descriptor::of(media_type::OCI_CONFIG, &bytes),
        vec![Descriptor::of(media_type::OCI_LAYER, LAYER)],
    );
    let bytes = manifest.to_bytes().expect("a manifest");
    registry.put_manifest(repository, tag, media_type::OCI_MANIFEST, bytes.clone());
    let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
    descriptor.platform = Some(Platform::new("linux", architecture, None));
    descriptor
}

fn layer() -> Descriptor {
    Descriptor::of(media_type::OCI_LAYER, LAYER)
}

struct Workspace {
    directory: tempfile::TempDir,
    store: BlobStore,
}

impl Workspace {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = BlobStore::open(directory.path().join("blobs")).expect("a store");
        Self { directory, store }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn layer_file(&self) -> BlobSource {
        let path = self.path().join("layer.spool");
        std::fs::write(&path, LAYER).expect("a spool file");
        BlobSource::File(path)
    }

    async fn push(&self, client: &Client, image: &Image, to: &[Reference]) -> Result<PushSummary, PushError> {
        push(&Uploads::new(client, to, &Progress::hidden(), self.store.clone())?, image, ExistingTags::Replace).await
    }
}

fn files_in(directory: &Path) -> usize {
    std::fs::read_dir(directory).map(Iterator::count).unwrap_or(0)
}

#[tokio::test]
async fn an_index_leads_to_the_image_of_the_platform() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let manifests = ["arm64", "amd64"].map(|architecture| seed(&registry, "base", architecture, architecture));
    let index = Index::oci(manifests.to_vec()).to_bytes().expect("an index");
    registry.put_manifest("base", "1", media_type::OCI_INDEX, index);
    let client = anonymous();
    let base = client.resolve(&reference(&registry, "base:1"), &linux_amd64()).await.expect("the image");
    assert_eq!(base.digest, manifests[1].digest);
    assert_eq!(base.config.architecture, "amd64");
    assert_eq!(base.layers[0].descriptor, layer());
    let missing = "linux/s390x".parse().expect("a platform");
    let error = client.resolve(&reference(&registry, "base:1"), &missing).await.expect_err("no such image");
    assert!(error.to_string().ends_with("it has linux/amd64, linux/arm64"), "{error}");
    assert!(error.hint().is_some());
    // By digest, and without an index.
    let pinned = reference(&registry, "base").with_digest(manifests[0].digest.clone());
    assert_eq!(client.resolve(&pinned, &linux_amd64()).await.expect("as it is").config.architecture, "arm64");
}

#[tokio::test]
async fn what_is_not_there_is_said_with_name_status_and_hint() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let error = anonymous().resolve(&reference(&registry, "no/image:9"), &linux_amd64()).await.expect_err("a 404");
    let text = error.to_string();
    for part in ["pull manifest 9 of", "no/image", &registry.host(), "404", "MANIFEST_UNKNOWN: manifest unknown"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(error.hint().expect("a hint").contains("name and the tag"));
    assert_eq!(registry.count("GET", "/manifests/9"), 1, "a 404 is not tried again");
}

#[tokio::test]
async fn damaged_manifests_are_refused() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let manifest = seed(&registry, "base", "1", "amd64");
    let client = anonymous();
    let pinned = reference(&registry, "base").with_digest(manifest.digest.clone());
    registry.fail("GET", "/manifests/", 0, 1, Fault::CorruptBody);
    let error = client.resolve(&pinned, &linux_amd64()).await.expect_err("damaged");
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
    registry.fail("GET", "/blobs/", 0, 1, Fault::CorruptBody);
    let error = client.resolve(&reference(&registry, "base:1"), &linux_amd64()).await.expect_err("a damaged config");
    assert!(error.to_string().contains("digest mismatch"), "{error}");
}

#[tokio::test]
async fn blobs_are_verified_and_each_damage_has_its_own_error() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    registry.put_blob("base", LAYER);
    let base = reference(&registry, "base");
    let client = anonymous();
    let target = workspace.path().join("new").join("layer");
    let forever = u32::MAX;
    for (fault, times, words) in [
        (Fault::ShortBody, 1, "wrong size"),
        (Fault::CorruptBody, 1, "digest mismatch"),
        (Fault::ResetMidBody, 3, "of 47 bytes came from"),
        (Fault::ShortChunkedBody, 3, "of 47 bytes came from"),
        (Fault::Close, 3, "connection"),
        (Fault::Status(503, Vec::new(), "overloaded".to_owned()), 3, "503 Service Unavailable (overloaded)"),
    ] {
        registry.fail("GET", "/blobs/", 0, times, fault.clone());
        let error = client.fetch_blob(&base, &layer(), &target).await.expect_err(words);
        assert!(error.to_string().contains(words), "{fault:?}: {error}");
        assert_eq!(files_in(&workspace.path().join("new")), 0, "{fault:?} leaves nothing behind");
    }
    // What goes away by itself is not an error.
    for fault in
        [Fault::ResetMidBody, Fault::ShortChunkedBody, Fault::Close, Fault::Status(500, Vec::new(), String::new())]
    {
        registry.fail("GET", "/blobs/", 0, 2, fault);
        client.fetch_blob(&base, &layer(), &target).await.expect("the third attempt");
        assert_eq!(std::fs::read(&target).expect("the blob"), LAYER);
        std::fs::remove_file(&target).expect("removed");
    }
    registry.fail("GET", "/blobs/", 0, forever, Fault::Status(404, Vec::new(), String::new()));
    assert!(client.fetch_blob(&base, &layer(), &target).await.is_err());
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    registry.put_blob("base", LAYER);
    let wait = Fault::Status(429, vec![("retry-after", "1".to_owned())], String::new());
    registry.fail("GET", "/blobs/", 0, 1, wait);
    let started = Instant::now();
    let target = workspace.path().join("layer");
    anonymous().fetch_blob(&reference(&registry, "base"), &layer(), &target).await.expect("the second attempt");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(registry.count("GET", "/blobs/"), 2);
}

#[tokio::test]
async fn a_blob_is_fetched_once_however_many_ask() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    registry.put_blob("base", LAYER);
    let (client, base, layer) = (anonymous(), reference(&registry, "base"), layer());
    let same = vec![layer; 20];
    let paths = workspace.store.ensure_all(&client, &base, &same).await.expect("the blob");
    assert_eq!(paths.len(), 20);
    assert_eq!(registry.count("GET", "/blobs/"), 1);
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let storage = FakeRegistry::start(Habits::default()).await;
    let elsewhere = Some(storage.host());
    for authentication in [TOKEN, Authentication::Basic { user: "robot", password: "sesame" }] {
        let habits = Habits { authentication, blobs_elsewhere: elsewhere.clone(), ..Habits::default() };
        let registry = FakeRegistry::start(habits).await;
        let workspace = Workspace::new();
        storage.put_blob("base", LAYER);
        let client = robot(&[&registry, &storage], "sesame");
        let target = workspace.path().join("layer");
        client.fetch_blob(&reference(&registry, "base"), &layer(), &target).await.expect("the blob");
        assert!(registry.seen().iter().any(|seen| seen.path.contains("/blobs/") && seen.authorization.is_some()));
    }
    assert!(storage.count("GET", "/elsewhere/") >= 2);
    assert!(storage.seen().iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn errors_of_a_signed_redirect_do_not_show_the_signature() {
    let storage = FakeRegistry::start(Habits::default()).await;
    let habits = Habits { blobs_elsewhere: Some(storage.host()), ..Habits::default() };
    let registry = FakeRegistry::start(habits).await;
    let workspace = Workspace::new();
    storage.fail("GET", "/elsewhere/", 0, u32::MAX, Fault::Close);
    let target = workspace.path().join("layer");
    let error = anonymous().fetch_blob(&reference(&registry, "base"), &layer(), &target).await.expect_err("closed");
    assert!(!with_causes(&error).contains("signature") && !format!("{error:?}").contains("signature"), "{error:?}");
    assert!(with_causes(&error).contains(&storage.host()), "the host that failed is named: {error}");
}

#[tokio::test]
async fn tokens_are_fetched_for_the_right_scopes_and_shared() {
    let registry = FakeRegistry::start(Habits { authentication: TOKEN, ..Habits::default() }).await;
    seed(&registry, "private/base", "1", "amd64");
    let workspace = Workspace::new();
    let client = robot(&[&registry], "sesame");
    let base = client.resolve(&reference(&registry, "private/base:1"), &linux_amd64()).await.expect("the image");
    workspace.store.ensure(&client, &base.reference, &base.layers[0].descriptor).await.expect("the layer");
    assert_eq!(registry.count("GET", "/token"), 1, "one token for manifest, config and layer");
    // The base came from this registry, so its layer is mounted, which takes a token for both repositories.
    let image = image(BlobSource::Registry(base.reference.clone()));
    let summary = workspace.push(&client, &image, &[reference(&registry, "team/app:v1")]).await.expect("pushed");
    assert_eq!(summary.mounted, LAYER.len() as u64);
    let scopes = "scope=repository%3Aprivate%2Fbase%3Apull&scope=repository%3Ateam%2Fapp%3Apull%2Cpush";
    assert!(registry.seen().iter().any(|seen| seen.path == "/token" && seen.query.contains(scopes)));
    assert_eq!(registry.manifest("team/app", "v1").expect("the tag"), image.manifest_bytes);
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_is_replaced() {
    let authentication = Authentication::Token { user: "robot", password: "sesame", requests: 2 };
    let registry = FakeRegistry::start(Habits { authentication, ..Habits::default() }).await;
    let workspace = Workspace::new();
    let client = robot(&[&registry], "sesame");
    let tags = ["app:1", "app:2", "app:3"].map(|name| reference(&registry, name));
    workspace.push(&client, &image(workspace.layer_file()), &tags).await.expect("pushed");
    assert!(registry.count("GET", "/token") > 2);
    assert!(registry.manifest("app", "3").is_some());
}

#[tokio::test]
async fn public_images_need_no_credentials_and_private_ones_say_so() {
    let registry = FakeRegistry::start(Habits { authentication: TOKEN, ..Habits::default() }).await;
    seed(&registry, "public/base", "1", "amd64");
    seed(&registry, "private/base", "1", "amd64");
    let client = anonymous();
    client.resolve(&reference(&registry, "public/base:1"), &linux_amd64()).await.expect("the public image");
    let error = client.resolve(&reference(&registry, "private/base:1"), &linux_amd64()).await.expect_err("private");
    assert_eq!(error.status(), Some(401));
    assert!(error.hint().expect("a hint").contains("no credentials were used"));
}

#[tokio::test]
async fn wrong_credentials_are_named_but_never_shown() {
    for authentication in [TOKEN, Authentication::Basic { user: "robot", password: "sesame" }] {
        let registry = FakeRegistry::start(Habits { authentication, ..Habits::default() }).await;
        let workspace = Workspace::new();
        let client = robot(&[&registry], "hunter2");
        let target = reference(&registry, "app:1");
        let error = workspace.push(&client, &image(workspace.layer_file()), &[target]).await.expect_err("refused");
        let text = format!("{} {:?} {:?}", with_causes(&error), error, error.hint());
        assert!(text.contains("401"), "{text}");
        assert!(text.contains("user \\\"robot\\\"") && text.contains("config.json"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
        assert_eq!(registry.count("PUT", "/manifests/"), 0);
    }
}

#[tokio::test]
async fn basic_credentials_push_and_pull() {
    let authentication = Authentication::Basic { user: "robot", password: "sesame" };
    let registry = FakeRegistry::start(Habits { authentication, ..Habits::default() }).await;
    let workspace = Workspace::new();
    let client = robot(&[&registry], "sesame");
    let target = reference(&registry, "app:1");
    check_destinations(&client, std::slice::from_ref(&target)).await.expect("may push");
    workspace.push(&client, &image(workspace.layer_file()), std::slice::from_ref(&target)).await.expect("pushed");
    client.resolve(&target, &linux_amd64()).await.expect("pulled");
    let refused = check_destinations(&robot(&[&registry], "wrong"), &[target]).await.expect_err("may not push");
    assert!(matches!(refused, PushError::Permission { .. }));
}

#[tokio::test]
async fn several_tags_and_repositories_share_blobs() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let other = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    let client = anonymous();
    let image = image(workspace.layer_file());
    let all = [
        reference(&registry, "app:1"),
        reference(&registry, "app"),
        reference(&registry, "team/app:1"),
        reference(&other, "app:1"),
    ];
    let summary = workspace.push(&client, &image, &all).await.expect("pushed");
    let bytes = (LAYER.len() + image.config_bytes.len()) as u64;
    assert_eq!(summary, PushSummary { uploaded: 2 * bytes, existing: 0, mounted: bytes });
    for (registry, repository, tag) in
        [(&registry, "app", "1"), (&registry, "app", "latest"), (&registry, "team/app", "1"), (&other, "app", "1")]
    {
        assert_eq!(registry.manifest(repository, tag).expect("the tag"), image.manifest_bytes);
    }
    assert_eq!(registry.count("PUT", "/blobs/uploads/"), 2);
    // All of it is there already.
    let again = workspace.push(&client, &image, &all[..1]).await.expect("pushed");
    assert_eq!(again, PushSummary { uploaded: 0, existing: bytes, mounted: 0 });
}

#[tokio::test]
async fn odd_registries_are_pushed_to_all_the_same() {
    for habits in [
        Habits { no_head: true, ..Habits::default() },
        Habits { relative_location: true, ..Habits::default() },
        Habits { no_mount: true, ..Habits::default() },
        Habits { no_mount: true, relative_location: true, no_head: true, authentication: TOKEN, ..Habits::default() },
    ] {
        let registry = FakeRegistry::start(habits.clone()).await;
        let workspace = Workspace::new();
        let client = robot(&[&registry], "sesame");
        let manifest = seed(&registry, "base", "1", "amd64");
        let base = reference(&registry, "base").with_digest(manifest.digest);
        let image = image(BlobSource::Registry(base));
        let summary = workspace.push(&client, &image, &[reference(&registry, "app:1")]).await.expect("pushed");
        assert!(registry.manifest("app", "1").is_some(), "{habits:?}");
        assert_eq!(summary.mounted == 0, habits.no_mount, "{habits:?}");
        // A mount that is not done opens an upload, which is used instead of another.
        let uploads = registry.seen().iter().filter(|seen| seen.method == "POST").count();
        let retried =
            if habits.no_mount && matches!(habits.authentication, Authentication::Token { .. }) { 1 } else { 0 };
        assert!(uploads <= 2 + retried, "{habits:?}: {uploads} uploads were opened");
    }
}

#[tokio::test]
async fn an_upload_that_continues_on_another_host_gets_no_credentials() {
    let storage = FakeRegistry::start(Habits::default()).await;
    let habits = Habits { authentication: TOKEN, uploads_elsewhere: Some(storage.host()), ..Habits::default() };
    let registry = FakeRegistry::start(habits).await;
    let workspace = Workspace::new();
    let client = robot(&[&registry, &storage], "sesame");
    let target = reference(&registry, "app:1");
    // The blobs end up in the storage, which this registry does not look into.
    let error = workspace.push(&client, &image(workspace.layer_file()), &[target]).await.expect_err("no blobs");
    assert!(with_causes(&error).contains("MANIFEST_BLOB_UNKNOWN"), "{}", with_causes(&error));
    assert!(storage.has_blob("app", &layer().digest));
    assert!(storage.seen().iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn uploads_are_tried_again_and_no_tag_is_written_without_its_blobs() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    let client = anonymous();
    let image = image(workspace.layer_file());
    let target = reference(&registry, "app:1");
    registry.fail("PUT", "/blobs/uploads/", 0, u32::MAX, Fault::Status(500, Vec::new(), String::new()));
    let error = workspace.push(&client, &image, std::slice::from_ref(&target)).await.expect_err("no uploads");
    assert!(error.to_string().contains("no tag was written"), "{error}");
    assert_eq!(registry.count("PUT", "/manifests/"), 0);
    let registry = FakeRegistry::start(Habits::default()).await;
    let target = reference(&registry, "app:1");
    registry.fail("PUT", "/blobs/uploads/", 0, 2, Fault::Close);
    registry.fail("PUT", "/manifests/", 0, 1, Fault::Status(503, Vec::new(), String::new()));
    workspace.push(&client, &image, &[target]).await.expect("pushed in the end");
}

#[tokio::test]
async fn a_tag_that_fails_says_which_were_written() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    let denied = r#"{"errors":[{"code":"DENIED","message":"tag is immutable"}]}"#;
    registry.fail("PUT", "/manifests/2", 0, 1, Fault::Status(403, Vec::new(), denied.to_owned()));
    let tags = ["app:1", "app:2"].map(|name| reference(&registry, name));
    let error = workspace.push(&anonymous(), &image(workspace.layer_file()), &tags).await.expect_err("denied");
    let text = with_causes(&error);
    for part in ["app:2", "already written: ", "app:1", "403", "DENIED: tag is immutable"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(error.hint().expect("a hint").contains("--push-ignore-immutable-tag-errors"));
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_an_upload_is_understood() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    let content = vec![7_u8; 24 << 20];
    let path = workspace.path().join("large");
    std::fs::write(&path, &content).expect("a large layer");
    let blob = Blob { descriptor: Descriptor::of(media_type::OCI_LAYER, &content), source: BlobSource::File(path) };
    let image = Image::assemble(config("amd64", &content), vec![blob]).expect("an image");
    let target = reference(&registry, "app:1");
    registry.fail("PUT", "/blobs/uploads/", 0, u32::MAX, Fault::Early(413));
    let error = workspace.push(&anonymous(), &image, std::slice::from_ref(&target)).await.expect_err("too large");
    assert!(with_causes(&error).contains("413"), "{}", with_causes(&error));
    assert!(error.hint().expect("a hint").contains("limits the size"));
    let registry = FakeRegistry::start(Habits::default()).await;
    let target = reference(&registry, "app:1");
    let summary = workspace.push(&anonymous(), &image, &[target]).await.expect("pushed");
    assert!(summary.uploaded > 24 << 20);
}

/// Runs [`interrupted_push`] in a process of its own, since a signal reaches all tests of a process.
#[test]
fn a_signal_ends_a_push_soon_and_no_tag_is_written() {
    let program = std::env::current_exe().expect("this program");
    let output = std::process::Command::new(program)
        .args(["--exact", "registry::interrupted_push", "--ignored", "--nocapture"])
        .output()
        .expect("the child ran");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "ends its process's other tests; run by a_signal_ends_a_push_soon_and_no_tag_is_written"]
async fn interrupted_push() {
    crabwright::diag::interrupt::install().expect("signal handlers");
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    let image = image(workspace.layer_file());
    // The layer gets there, the config hangs.
    let config = image.manifest.config.digest.hex().to_owned();
    registry.fail("HEAD", config, 0, 1, Fault::Hang);
    tokio::spawn(async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).expect("a signal");
    });
    let started = Instant::now();
    let error = workspace.push(&anonymous(), &image, &[reference(&registry, "app:1")]).await.expect_err("ended");
    assert!(started.elapsed() < Duration::from_secs(3));
    let text = error.to_string();
    let uploaded = format!("uploaded: 1 blob to {}/app", registry.host());
    for part in ["interrupted by signal 15", "no tag was written", &uploaded] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(registry.count("PUT", "/manifests/"), 0);
}

#[tokio::test]
async fn a_spool_file_of_another_size_is_not_uploaded() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    let image = image(workspace.layer_file());
    std::fs::write(workspace.path().join("layer.spool"), b"short").expect("a shorter file");
    let error = workspace.push(&anonymous(), &image, &[reference(&registry, "app:1")]).await.expect_err("too short");
    assert!(with_causes(&error).contains("the file has 5 bytes, its descriptor says 47"), "{}", with_causes(&error));
}

#[tokio::test]
async fn plain_http_on_this_machine_needs_no_flag() {
    let registry = FakeRegistry::start(Habits::default()).await;
    seed(&registry, "base", "1", "amd64");
    let config = ClientConfig { retry: quick(), ..ClientConfig::default() };
    let client = Client::with_keychain(config, Keychain::default()).expect("a client");
    client.resolve(&reference(&registry, "base:1"), &linux_amd64()).await.expect("https fails, http does");
}

#[tokio::test]
async fn a_registry_that_does_not_run_is_asked_about() {
    let nobody = Reference::parse("127.0.0.1:1/app:1").expect("a reference");
    let error = anonymous().resolve(&nobody, &linux_amd64()).await.expect_err("nobody listens");
    assert!(matches!(error, RegistryError::Connect { .. }), "{error:?}");
    assert!(with_causes(&error).contains("cannot connect to 127.0.0.1:1"), "{}", with_causes(&error));
    let hint = error.hint().expect("a hint");
    assert!(hint.contains("is the registry running") && hint.contains("--insecure-registry=127.0.0.1:1"), "{hint}");
}

#[tokio::test]
async fn layouts_and_archives_hold_layers_of_a_registry() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    seed(&registry, "base", "1", "amd64");
    let client = anonymous();
    let image = image(BlobSource::Registry(reference(&registry, "base:1")));
    let layout = workspace.path().join("layout");
    for _ in 0..2 {
        write_layout(&client, &image, &layout, Some("v1"), &workspace.store).await.expect("a layout");
    }
    let reader = LayoutReader::open(&layout).expect("a layout");
    let manifests = reader.manifests().expect("an index");
    assert_eq!(manifests.len(), 1);
    assert_eq!(manifests[0].digest, image.digest());
    assert_eq!(std::fs::read(reader.blob_path(&layer().digest)).expect("the layer"), LAYER);
    let archive = workspace.path().join("out/image.tar");
    let target = Target::Path(archive.clone());
    let written = write_archive(&client, &image, ArchiveKind::Docker, &target, &[], &workspace.store).await;
    written.expect("an archive");
    let bytes = std::fs::read(&archive).expect("the archive");
    let unset = b"\"unset-repo/unset-image-name:latest\"";
    assert!(bytes.windows(unset.len()).any(|window| window == unset));
    assert_eq!(files_in(&workspace.path().join("out")), 1);
    assert_eq!(registry.count("GET", "/blobs/"), 1, "the layer came once for both");
}

/// What was pushed, as another client reads it.
#[tokio::test]
async fn another_client_reads_what_was_pushed() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    let image = image(workspace.layer_file());
    workspace.push(&anonymous(), &image, &[reference(&registry, "app:1")]).await.expect("pushed");
    let config = oci_client::client::ClientConfig {
        protocol: oci_client::client::ClientProtocol::Http,
        ..oci_client::client::ClientConfig::default()
    };
    let peer = oci_client::Client::new(config);
    let name: oci_client::Reference = format!("{}/app:1", registry.host()).parse().expect("a reference");
    let auth = oci_client::secrets::RegistryAuth::Anonymous;
    let (manifest, digest, config) = peer.pull_manifest_and_config(&name, &auth).await.expect("a manifest");
    assert_eq!(digest, image.digest().to_string());
    assert_eq!(manifest.layers[0].digest, layer().digest.to_string());
    assert_eq!(config.into_bytes(), image.config_bytes);
}

#[tokio::test]
async fn pushes_can_run_on_any_thread() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    let image = image(workspace.layer_file());
    let (client, store, target) = (anonymous(), workspace.store.clone(), reference(&registry, "app:1"));
    let pushed = tokio::spawn(async move {
        push(&Uploads::new(&client, &[target], &Progress::hidden(), store)?, &image, ExistingTags::Replace).await
    });
    pushed.await.expect("no panic").expect("pushed");
}
