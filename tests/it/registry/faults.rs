//! Every fault, wherever it strikes in a pull or a push: the work succeeds all the same, or says what is wrong, and no tag ever
//! names blobs that are missing.

use super::*;
use crate::support::fake_registry::{FakeRegistry, Fault, Habits};

/// What becomes of it.
enum Outcome {
    Succeeds,
    /// Fails with all of these words.
    Fails(&'static [&'static str]),
}

use Outcome::{Fails, Succeeds};

/// Where a fault strikes.
struct Stage {
    method: &'static str,
    path: &'static str,
}

const MANIFEST: Stage = Stage { method: "GET", path: "/manifests/" };
const BLOB: Stage = Stage { method: "GET", path: "/blobs/" };
const PING: Stage = Stage { method: "GET", path: "/v2/" };
const HEAD: Stage = Stage { method: "HEAD", path: "/blobs/" };
const OPEN: Stage = Stage { method: "POST", path: "/blobs/uploads/" };
const UPLOAD: Stage = Stage { method: "PUT", path: "/blobs/uploads/" };
const TAG: Stage = Stage { method: "PUT", path: "/manifests/" };

/// The faults that pass, and are therefore tried again, wherever they strike.
fn passing() -> Vec<Fault> {
    let statuses = [500, 502, 503, 504, 408].map(Fault::status);
    statuses.into_iter().chain([Fault::too_many_requests(), Fault::Close]).collect()
}

#[tokio::test]
async fn faults_of_a_pull() {
    let mut table: Vec<(Stage, Fault, u32, Outcome)> = Vec::new();
    for stage in [|| PING, || MANIFEST, || BLOB] {
        table.extend(passing().into_iter().map(|fault| (stage(), fault, 2, Succeeds)));
        table.push((stage(), Fault::SlowBody, 1, Succeeds));
    }
    let denied = Fault::Status(403, vec![], r#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#.to_owned());
    for stage in [|| MANIFEST, || BLOB] {
        table.push((stage(), Fault::status(503), u32::MAX, Fails(&["pull ", "503 Service Unavailable"])));
        table.push((stage(), Fault::too_many_requests(), u32::MAX, Fails(&["429 Too Many Requests"])));
        table.push((stage(), Fault::Close, u32::MAX, Fails(&["the connection to"])));
        table.push((stage(), denied.clone(), 1, Fails(&["403", "DENIED: not yours"])));
        table.push((stage(), Fault::status(404), 1, Fails(&["404"])));
        table.push((stage(), Fault::status(401), 1, Fails(&["401"])));
    }
    table.push((BLOB, Fault::ResetMidBody, 2, Succeeds));
    table.push((BLOB, Fault::ShortChunkedBody, 2, Succeeds));
    table.push((BLOB, Fault::ShortBody, 1, Fails(&["wrong size"])));
    table.push((BLOB, Fault::CorruptBody, 1, Fails(&["digest mismatch"])));
    table.push((MANIFEST, Fault::ShortBody, 1, Fails(&["manifest is malformed"])));
    for (stage, fault, times, outcome) in table {
        let registry = FakeRegistry::start(Habits::default()).await;
        let workspace = Workspace::new();
        seed(&registry, "base", "1", "amd64");
        let name = format!("{} {} {fault:?} x{times}", stage.method, stage.path);
        // The config is a blob as well: the layer is what the fault is for.
        let path = if stage.path == BLOB.path { layer().digest.to_string() } else { stage.path.to_owned() };
        registry.fail(stage.method, path, 0, times, fault);
        let client = anonymous();
        let pull = async {
            let base = client.resolve(&reference(&registry, "base:1"), &linux_amd64()).await?;
            workspace.store.ensure(&client, &base.reference, &base.layers[0].descriptor).await
        };
        match (pull.await, outcome) {
            (Ok(path), Succeeds) => assert_eq!(std::fs::read(path).expect("the layer"), LAYER, "{name}"),
            (Err(error), Fails(words)) => {
                let text = with_causes(&error);
                assert!(words.iter().all(|word| text.contains(word)), "{name}: {text}");
                assert!(workspace.store.get(&layer()).expect("a store").is_none(), "{name}");
            }
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn faults_of_a_push() {
    let forever = u32::MAX;
    let mut table: Vec<(Stage, Fault, u32, Outcome)> = Vec::new();
    for stage in [|| PING, || HEAD, || OPEN, || UPLOAD, || TAG] {
        table.extend(passing().into_iter().map(|fault| (stage(), fault, 2, Succeeds)));
    }
    for stage in [|| OPEN, || UPLOAD, || TAG] {
        table.push((stage(), Fault::SlowBody, 1, Succeeds));
        table.push((stage(), Fault::status(503), forever, Fails(&["503 Service Unavailable"])));
        table.push((stage(), Fault::Close, forever, Fails(&["the connection to"])));
        table.push((stage(), Fault::status(401), forever, Fails(&["401"])));
        table.push((stage(), Fault::status(403), forever, Fails(&["403"])));
    }
    for answer in [400, 404, 405, 501] {
        table.push((HEAD, Fault::status(answer), forever, Succeeds));
    }
    table.push((OPEN, Fault::Without("location"), forever, Fails(&["answered without a Location"])));
    table.push((OPEN, Fault::status(404), forever, Fails(&["404"])));
    table.push((UPLOAD, Fault::BreakUpload(20), 2, Succeeds));
    table.push((UPLOAD, Fault::BreakUpload(0), 2, Succeeds));
    table.push((UPLOAD, Fault::status(404), 1, Succeeds));
    table.push((UPLOAD, Fault::Early(413), forever, Fails(&["413 Payload Too Large"])));
    let full = r#"{"errors":[{"code":"DENIED","message":"adding 47 B would exceed the quota"}]}"#;
    table.push((UPLOAD, Fault::Status(403, vec![], full.to_owned()), forever, Fails(&["exceed the quota"])));
    table.push((TAG, Fault::Without("docker-content-digest"), 1, Succeeds));
    let other = Digest::sha256_of(b"another manifest").to_string();
    let another = Fault::Status(201, vec![("docker-content-digest", other)], String::new());
    table.push((TAG, another, 1, Fails(&["digest mismatch"])));
    for (stage, fault, times, outcome) in table {
        let registry = FakeRegistry::start(Habits::default()).await;
        let workspace = Workspace::new();
        let name = format!("{} {} {fault:?} x{times}", stage.method, stage.path);
        registry.fail(stage.method, stage.path, 0, times, fault);
        let image = image(workspace.layer_file());
        let target = reference(&registry, "app:1");
        let result = workspace.push(&anonymous(), &image, std::slice::from_ref(&target)).await;
        let tagged = registry.manifest("app", "1").is_some();
        registry.assert_whole(&name);
        match (result, outcome) {
            (Ok(_), Succeeds) => {
                assert!(tagged, "{name}");
                assert_eq!(registry.open_uploads(), 0, "{name}: uploads were left open");
            }
            (Err(error), Fails(words)) => {
                let text = with_causes(&error);
                assert!(words.iter().all(|word| text.contains(word)), "{name}: {text}");
                assert!(!tagged, "{name}");
            }
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}

/// What the token server does is as good as what the registry does: tried again, or said.
#[tokio::test]
async fn faults_of_a_token_server() {
    let forever = u32::MAX;
    let mut table: Vec<(Fault, u32, Outcome)> =
        passing().into_iter().chain([Fault::SlowBody]).map(|fault| (fault, 2, Succeeds)).collect();
    table.push((Fault::status(503), forever, Fails(&["503 Service Unavailable"])));
    table.push((Fault::Close, forever, Fails(&["the connection to"])));
    table.push((Fault::status(401), forever, Fails(&["401"])));
    table.push((Fault::status(403), forever, Fails(&["403"])));
    table.push((Fault::ShortBody, forever, Fails(&["token"])));
    table.push((Fault::CorruptBody, forever, Fails(&["token"])));
    for (fault, times, outcome) in table {
        let name = format!("{fault:?} x{times}");
        let registry = FakeRegistry::start(Habits { authentication: TOKEN, ..Habits::default() }).await;
        let workspace = Workspace::new();
        seed(&registry, "base", "1", "amd64");
        registry.fail("GET", "/token", 0, times, fault);
        let (client, target) = (robot(&[&registry], "sesame"), reference(&registry, "app:1"));
        let pulled = client.resolve(&reference(&registry, "base:1"), &linux_amd64()).await.map(drop);
        let pushed = workspace.push(&client, &image(workspace.layer_file()), &[target]).await.map(drop);
        let texts = [pulled.err().map(|error| with_causes(&error)), pushed.err().map(|error| with_causes(&error))];
        for text in texts {
            match (text, &outcome) {
                (None, Succeeds) => {}
                (Some(text), Fails(words)) => {
                    assert!(words.iter().all(|word| text.contains(word)), "{name}: {text}");
                    assert!(!text.contains("sesame"), "{name}: {text}");
                }
                (text, _) => panic!("{name}: {text:?}"),
            }
        }
        registry.assert_whole(&name);
        assert_eq!(registry.manifest("app", "1").is_some(), matches!(outcome, Succeeds), "{name}");
    }
}

#[tokio::test]
async fn a_full_registry_and_a_fixed_tag_have_hints_of_their_own() {
    let workspace = Workspace::new();
    for (answer, message, words) in [
        (403, "adding 1 GiB of storage resource, which would exceed the quota", "is full"),
        (
            400,
            "The image tag '1' already exists and cannot be overwritten because the tag is immutable.",
            "is immutable",
        ),
        (412, "Failed to process request due to 'app:1' configured as immutable.", "is immutable"),
        (403, "The repository has enabled tag immutability.", "is immutable"),
    ] {
        let registry = FakeRegistry::start(Habits::default()).await;
        let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"{message}"}}]}}"#);
        registry.fail("PUT", "/manifests/", 0, 1, Fault::Status(answer, Vec::new(), body));
        let target = reference(&registry, "app:1");
        let error = workspace.push(&anonymous(), &image(workspace.layer_file()), &[target]).await.expect_err("refused");
        assert!(error.hint().expect("a hint").contains(words), "{message}: {:?}", error.hint());
    }
}
