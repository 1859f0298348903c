//! How bytes get through: what is resumed, what is sent in pieces, where tokens and mirrors come in.

use super::*;
use crate::support::fake_registry::{Authentication, FakeRegistry, Fault, Habits};
use crabwright::registry::Mirrors;

/// Bytes that differ everywhere, so that parts put together wrongly show.
fn varied(size: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..size).map(next).collect()
}

fn large_image(workspace: &Workspace, content: &[u8]) -> Image {
    let path = workspace.path().join("large.spool");
    std::fs::write(&path, content).expect("a spool file");
    let descriptor = Descriptor::of(media_type::OCI_LAYER, content);
    let blob = Blob { descriptor, source: BlobSource::File(path) };
    Image::assemble(config("amd64", content), vec![blob]).expect("an image")
}

#[tokio::test]
async fn a_broken_pull_goes_on_where_it_ended() {
    for (no_range, fault) in
        [(false, Fault::ResetMidBody), (false, Fault::ShortChunkedBody), (true, Fault::ResetMidBody)]
    {
        let registry = FakeRegistry::start(Habits { no_range, ..Habits::default() }).await;
        let workspace = Workspace::new();
        let content = varied(1 << 20);
        registry.put_blob("base", content.clone());
        registry.fail("GET", "/blobs/", 0, 1, fault);
        let target = workspace.path().join("blob");
        let descriptor = Descriptor::of(media_type::OCI_LAYER, &content);
        anonymous().fetch_blob(&reference(&registry, "base"), &descriptor, &target).await.expect("the blob");
        assert_eq!(std::fs::read(&target).expect("the blob"), content);
        let ranges: Vec<_> =
            registry.seen().into_iter().filter(|seen| seen.path.contains("/blobs/")).map(|seen| seen.range).collect();
        assert_eq!(ranges, [None, Some("bytes=524288-".to_owned())]);
    }
}

#[tokio::test]
async fn parts_that_do_not_fit_together_are_fetched_again_as_a_whole() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    let content = varied(1 << 20);
    registry.put_blob("base", content.clone());
    registry.fail("GET", "/blobs/", 0, 1, Fault::ResetMidBody);
    registry.fail("GET", "/blobs/", 0, 1, Fault::CorruptBody);
    let target = workspace.path().join("blob");
    let descriptor = Descriptor::of(media_type::OCI_LAYER, &content);
    anonymous().fetch_blob(&reference(&registry, "base"), &descriptor, &target).await.expect("the third answer");
    assert_eq!(std::fs::read(&target).expect("the blob"), content);
    assert_eq!(registry.count("GET", "/blobs/"), 3);
}

#[tokio::test]
async fn a_broken_push_goes_on_where_the_registry_says() {
    for (no_upload_status, sent_again) in [(false, 700_000), (true, 1_000_000)] {
        let registry = FakeRegistry::start(Habits { no_upload_status, ..Habits::default() }).await;
        let workspace = Workspace::new();
        let content = varied(1_000_000);
        let image = large_image(&workspace, &content);
        let layer = image.manifest.layers[0].digest.clone();
        // Of the two uploads that are under way at a time, the large one breaks; its digest is in the query.
        registry.put_blob("app", image.config_bytes.clone());
        registry.fail("PUT", "/blobs/uploads/", 0, 1, Fault::BreakUpload(300_000));
        workspace.push(&anonymous(), &image, &[reference(&registry, "app:1")]).await.expect("pushed");
        assert!(registry.has_blob("app", &layer));
        let sent: Vec<u64> = registry
            .seen()
            .iter()
            .filter(|seen| seen.path.contains("/blobs/uploads/") && seen.length > 0)
            .map(|seen| seen.length)
            .collect();
        assert_eq!(sent, [1_000_000, sent_again], "no status: {no_upload_status}");
        assert_eq!(registry.open_uploads(), 0);
    }
}

#[tokio::test]
async fn a_limit_of_requests_is_found_and_remembered() {
    let limit = 1_000_000;
    let registry = FakeRegistry::start(Habits { request_limit: Some(limit), ..Habits::default() }).await;
    let workspace = Workspace::new();
    let client = anonymous();
    let first = varied(3_000_000);
    workspace.push(&client, &large_image(&workspace, &first), &[reference(&registry, "a:1")]).await.expect("in pieces");
    assert!(registry.has_blob("a", &Digest::sha256_of(&first)));
    let refused = |registry: &FakeRegistry| registry.seen().iter().filter(|seen| seen.length > limit).count();
    assert!(refused(&registry) >= 1);
    let before = refused(&registry);
    let second = varied(2_500_001);
    workspace.push(&client, &large_image(&workspace, &second), &[reference(&registry, "b:1")]).await.expect("at once");
    assert!(registry.has_blob("b", &Digest::sha256_of(&second)));
    assert_eq!(refused(&registry), before, "the limit was known");
}

#[tokio::test]
async fn a_registry_that_takes_no_pieces_gets_the_whole_again() {
    let registry = FakeRegistry::start(Habits { no_pieces: true, ..Habits::default() }).await;
    let workspace = Workspace::new();
    let content = varied(1_000_000);
    let image = large_image(&workspace, &content);
    registry.put_blob("app", image.config_bytes.clone());
    registry.fail("PUT", "/blobs/uploads/", 0, 1, Fault::BreakUpload(300_000));
    workspace.push(&anonymous(), &image, &[reference(&registry, "app:1")]).await.expect("pushed");
    assert!(registry.has_blob("app", &Digest::sha256_of(&content)));
    assert_eq!(registry.count("PATCH", "/blobs/uploads/"), 1);
    assert_eq!(registry.open_uploads(), 0);
}

#[tokio::test]
async fn an_identity_token_is_exchanged_and_a_registry_token_is_shown_as_it_is() {
    let registry = FakeRegistry::start(Habits {
        authentication: Authentication::Identity { token: "refresh-sesame" },
        ..Habits::default()
    })
    .await;
    let workspace = Workspace::new();
    let with = |entry: &str| {
        let path = workspace.path().join("config.json");
        std::fs::write(&path, format!(r#"{{"auths":{{"{}":{entry}}}}}"#, registry.host())).expect("a config");
        client_with(Keychain::load(vec![path]).expect("a keychain"))
    };
    let target = reference(&registry, "app:1");
    let identity = with(r#"{"auth":"dTpw","identitytoken":"refresh-sesame"}"#);
    let image = image(workspace.layer_file());
    workspace.push(&identity, &image, std::slice::from_ref(&target)).await.expect("pushed");
    let tokens: Vec<_> = registry.seen().into_iter().filter(|seen| seen.path == "/token").collect();
    assert!(tokens.iter().all(|seen| seen.method == "POST" && seen.query.is_empty() && seen.authorization.is_none()));
    let wrong = with(r#"{"identitytoken":"other-sesame"}"#);
    let error = workspace.push(&wrong, &image, std::slice::from_ref(&target)).await.expect_err("refused");
    let text = format!("{} {error:?} {:?}", with_causes(&error), error.hint());
    assert!(text.contains("an identity token comes from") && !text.contains("other-sesame"), "{text}");
    assert!(text.contains("scope repository:app:pull,push"), "{text}");
    let bearer = with(r#"{"registrytoken":"token-1"}"#);
    // The token of the push is good for pulling too.
    bearer.resolve(&target, &linux_amd64()).await.expect("the image");
    assert!(registry.seen().iter().any(|seen| seen.authorization.as_deref() == Some("Bearer token-1")));
}

fn mirrored(registry: &FakeRegistry, mirrors: &[&str]) -> Client {
    let mut map = Mirrors::default();
    for mirror in mirrors {
        map.add_map(&format!("{}={mirror}", registry.host())).expect("a map");
    }
    let config = ClientConfig { insecure_pull: true, retry: quick(), mirrors: map, ..ClientConfig::default() };
    Client::with_keychain(config, Keychain::default()).expect("a client")
}

#[tokio::test]
async fn mirrors_are_asked_first_and_fail_over() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let mirror = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    seed(&registry, "team/base", "1", "amd64");
    let name = reference(&registry, "team/base:1");
    // It is not there; then it is; then it is damaged; then it does not run.
    let client = mirrored(&registry, &[&format!("{}/copies", mirror.host())]);
    client.resolve(&name, &linux_amd64()).await.expect("from the registry");
    assert_eq!(mirror.count("GET", "/v2/copies/team/base/manifests/1"), 1);
    seed(&mirror, "copies/team/base", "1", "amd64");
    let before = registry.seen().len();
    let base = client.resolve(&name, &linux_amd64()).await.expect("from the mirror");
    assert_eq!(base.reference, name, "the mirror is no part of the name");
    assert_eq!(registry.seen().len(), before);
    mirror.fail("GET", "/blobs/", 0, 1, Fault::CorruptBody);
    let file = workspace.store.ensure(&client, &base.reference, &layer()).await.expect("from the registry");
    assert_eq!(std::fs::read(file).expect("the layer"), LAYER);
    let gone = mirrored(&registry, &["127.0.0.1:1", &mirror.host()]);
    gone.resolve(&name, &linux_amd64()).await.expect("from the registry");
}

#[tokio::test]
async fn a_mirror_can_be_the_only_place() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let mirror = FakeRegistry::start(Habits::default()).await;
    seed(&registry, "base", "1", "amd64");
    let mut mirrors = Mirrors::default();
    mirrors.only_mirrors = true;
    mirrors.add_map(&format!("{}={}", registry.host(), mirror.host())).expect("a map");
    let config = ClientConfig { insecure_pull: true, retry: quick(), mirrors, ..ClientConfig::default() };
    let client = Client::with_keychain(config, Keychain::default()).expect("a client");
    let error = client.resolve(&reference(&registry, "base:1"), &linux_amd64()).await.expect_err("not at the mirror");
    assert!(error.to_string().contains(&mirror.host()), "{error}");
    assert!(registry.seen().is_empty());
}
