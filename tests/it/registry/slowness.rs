//! Bodies that drip and lists that do not end: a registry can hold a build for minutes, not for years.

use crabwright::http::Pace;
use crabwright::location::HttpLocation;
use crabwright::remote::{DownloadError, Downloader};

use super::*;
use crate::support::web::{Answer, Web};

/// A pause of the drip is far shorter than any limit of silence, and the window shorter than the body would take.
const PACE: Pace = Pace { window: Duration::from_millis(100), least: 4096 };

fn client() -> Client {
    let config = ClientConfig { insecure_pull: true, retry: quick(), pace: PACE, ..ClientConfig::default() };
    Client::with_keychain(config, Keychain::default()).expect("a client")
}

/// Half of it is more than the pace asks for.
fn content() -> Vec<u8> {
    (0..40_000_u32).flat_map(u32::to_be_bytes).collect()
}

#[tokio::test]
async fn a_blob_that_drips_is_given_up() {
    let registry = FakeRegistry::start(Habits { no_range: true, ..Habits::default() }).await;
    let workspace = Workspace::new();
    let descriptor = Descriptor::of(media_type::OCI_LAYER, &content());
    registry.put_blob("base", content());
    registry.fail("GET", "/blobs/", 0, u32::MAX, Fault::Drip);
    let target = workspace.path().join("new").join("blob");
    let error = client().fetch_blob(&reference(&registry, "base"), &descriptor, &target).await.expect_err("a drip");
    assert!(matches!(error, RegistryError::Slow { .. }), "{error}");
    assert!(error.to_string().contains(&registry.host()), "{error}");
    assert_eq!(registry.count("GET", "/blobs/"), 3, "it is tried as often as what breaks");
    assert_eq!(files_in(&workspace.path().join("new")), 0);
}

#[tokio::test]
async fn a_blob_that_dripped_once_goes_on_where_it_was() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = Workspace::new();
    let descriptor = Descriptor::of(media_type::OCI_LAYER, &content());
    registry.put_blob("base", content());
    registry.fail("GET", "/blobs/", 0, 1, Fault::Drip);
    let target = workspace.path().join("blob");
    client().fetch_blob(&reference(&registry, "base"), &descriptor, &target).await.expect("the blob");
    assert_eq!(std::fs::read(&target).expect("the blob"), content());
    let rest = registry.seen().into_iter().filter_map(|seen| seen.range).collect::<Vec<_>>();
    assert_eq!(rest.len(), 1, "{rest:?}");
}

#[tokio::test]
async fn a_file_that_drips_is_given_up() {
    // The registry serves as a web server here.
    let registry = FakeRegistry::start(Habits::default()).await;
    let digest = registry.put_blob("base", content());
    registry.fail("GET", "/blobs/", 0, u32::MAX, Fault::Drip);
    let url = format!("http://{}/v2/base/blobs/{digest}", registry.host());
    let location = HttpLocation::parse(&url).expect("a URL").expect("of http");
    let directory = tempfile::tempdir().expect("a directory");
    let downloader = Downloader::new(quick(), Progress::hidden()).expect("a downloader").with_pace(PACE);
    let error = downloader.fetch(&location, None, None, directory.path()).await.expect_err("a drip");
    assert!(matches!(error, DownloadError::Slow { .. }), "{error}");
    assert_eq!(registry.count("GET", "/blobs/"), 3);
    assert_eq!(files_in(directory.path()), 0);
}

#[tokio::test]
async fn a_list_of_tags_ends_somewhere() {
    let tags: Vec<String> = (0..100_000).map(|number| format!("{number:0>100}")).collect();
    let page = serde_json::json!({ "tags": tags }).to_string();
    let endless = Web::serve(move |asked, before| match asked.path.as_str() {
        "/v2/app/tags/list" => {
            Answer::ok(page.clone()).header("Link", &format!("</v2/app/tags/list?last={before}>; rel=\"next\""))
        }
        _ => Answer::ok("{}"),
    });
    let repository = Reference::parse(&format!("{}/app", endless.host())).expect("a name");
    let error = client().tags(&repository).await.expect_err("no end");
    assert!(error.to_string().contains("has a list of tags that"), "{error}");
    assert!(endless.asked().len() < 20, "{}", endless.asked().len());
}
