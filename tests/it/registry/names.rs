//! Registries that lead elsewhere, in a network with a server of names of the tests' own: what they must not lead to is asked by
//! nobody. The classes are those of go-containerregistry #2440 (a name in place of an address), CVE-2026-48978 (the realm of a
//! challenge) and DNS rebinding.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crabwright::location::HttpLocation;
use crabwright::remote::Downloader;

use super::*;
use crate::support::names::in_network;
use crate::support::web::{Answer, Asked, Web};

/// Documentation addresses (RFC 5737) play the internet, one of RFC 1918 the cluster.
const REGISTRY: &str = "203.0.113.5";
const STORAGE: &str = "203.0.113.6";
const CLUSTER: &str = "10.1.2.3";
const ADDRESSES: &[&str] = &[
    REGISTRY,
    STORAGE,
    CLUSTER,
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "fd00:ec2::254",
    "fd20:ce::254",
    "64:ff9b::a9fe:a9fe",
];

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

fn zone(name: &str, _before: usize) -> Vec<IpAddr> {
    addresses(match name {
        "registry.example" => &[REGISTRY],
        "storage.example" => &[STORAGE],
        "auth.corp.example" => &[CLUSTER],
        "inner.example" => &["127.0.0.1"],
        "inner6.example" => &["::1"],
        "mapped.example" => &["::ffff:127.0.0.1"],
        "zero.example" => &["0.0.0.0"],
        "both.example" => &[REGISTRY, "127.0.0.1"],
        "amazon.example" | "metadata.google.internal" => &["169.254.169.254"],
        "amazon6.example" => &["fd00:ec2::254"],
        "google6.example" => &["fd20:ce::254"],
        "alibaba.example" => &["100.100.100.200"],
        "azure.example" => &["168.63.129.16"],
        "nat64.example" => &["64:ff9b::a9fe:a9fe"],
        _ => &[],
    })
}

/// What is on this machine and what the clouds offer to it; the ports are those that the leads name.
struct Inner(Vec<Web>);

impl Inner {
    fn start() -> Self {
        let places = ["127.0.0.1:9099", "[::1]:9099"].map(str::to_owned);
        let metadata = ADDRESSES[3..].iter().map(|address| match address.contains(':') {
            true => format!("[{address}]:80"),
            false => format!("{address}:80"),
        });
        let answer = || Answer::status_with(403, r#"{"message":"role-credentials: SESAME","token":"SESAME"}"#);
        Self(places.into_iter().chain(metadata).map(|place| Web::serve_at(&place, move |_, _| answer())).collect())
    }

    #[track_caller]
    fn assert_untouched(&self, what: &str) {
        let asked: Vec<Asked> = self.0.iter().flat_map(Web::asked).collect();
        assert!(asked.is_empty(), "{what} was followed: {asked:?}");
    }
}

/// Every spelling of a place that a registry elsewhere must not lead to.
const LEADS: &[&str] = &[
    "http://127.0.0.1:9099/latest",
    "http://localhost:9099/latest",
    "http://localhost.:9099/latest",
    "http://LOCALHOST:9099/latest",
    "http://x.localhost:9099/latest",
    "http://ip6-localhost:9099/latest",
    "http://127.0.0.1.:9099/latest",
    "http://2130706433:9099/latest",
    "http://0x7f.1:9099/latest",
    "http://0177.0.0.1:9099/latest",
    "http://0.0.0.0:9099/latest",
    "http://[::1]:9099/latest",
    "http://[::ffff:127.0.0.1]:9099/latest",
    "http://inner.example:9099/latest",
    "http://inner.example.:9099/latest",
    "http://inner6.example:9099/latest",
    "http://mapped.example:9099/latest",
    "http://zero.example:9099/latest",
    "http://both.example:9099/latest",
    "http://169.254.169.254/latest",
    "http://2852039166/latest",
    "http://amazon.example/latest",
    "http://amazon6.example/latest",
    "http://[fd00:ec2::254]/latest",
    "http://metadata.google.internal/latest",
    "http://google6.example/latest",
    "http://alibaba.example/latest",
    "http://100.100.100.200/latest",
    "http://azure.example/latest",
    "http://nat64.example/latest",
    "http://[64:ff9b::a9fe:a9fe]/latest",
];

/// How a registry names another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Redirect,
    Upload,
    Realm,
}

/// A registry that leads to what `lead` holds.
fn leading(way: Way, lead: Arc<std::sync::Mutex<String>>) -> impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static {
    move |asked, _| {
        let lead = lead.lock().expect("the lead").clone();
        match (way, asked.path.as_str()) {
            (Way::Realm, _) => Answer::status(401).header("WWW-Authenticate", &format!("Bearer realm=\"{lead}\"")),
            (_, "/v2/") => Answer::ok("{}"),
            (Way::Redirect, _) => Answer::redirect(&lead),
            (Way::Upload, _) if asked.method == "POST" => Answer::status(202).header("Location", &lead),
            (Way::Upload, _) => Answer::status(404),
        }
    }
}

/// What goes wrong when an image is pulled from a registry, or a blob pushed to it.
async fn failure(client: &Client, name: &str, way: Way) -> String {
    let name = Reference::parse(name).expect("a name");
    let error = match way {
        Way::Redirect | Way::Realm => client.resolve(&name, &linux_amd64()).await.map(drop),
        Way::Upload => {
            let source = BlobSource::Bytes(LAYER.to_vec());
            client.upload_blob(&name, &layer(), &source, None, "layer").await
        }
    }
    .expect_err("nothing is there");
    format!("{}; hint: {:?}; {error:?}", with_causes(&error), error.hint())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// go-containerregistry #2440, CVE-2026-48978.
#[test]
fn a_registry_elsewhere_leads_neither_to_this_machine_nor_to_its_metadata() {
    for way in [Way::Redirect, Way::Upload, Way::Realm] {
        in_network(ADDRESSES, zone, move || {
            let inner = Inner::start();
            let lead = Arc::default();
            let _registry = Web::serve_at(&format!("{REGISTRY}:80"), leading(way, Arc::clone(&lead)));
            for place in LEADS {
                *lead.lock().expect("the lead") = (*place).to_owned();
                // By its address, as by its name.
                for host in ["registry.example", REGISTRY] {
                    let said = block_on(failure(&anonymous(), &format!("{host}/base:1"), way));
                    inner.assert_untouched(&format!("{way:?} {place} of {host}"));
                    assert!(!said.contains("SESAME"), "{said}");
                }
            }
        });
    }
}

/// The name is one thing for the registry that the user named, and another later.
#[test]
fn a_name_that_moves_to_this_machine_is_not_followed_there() {
    for place in ["127.0.0.1", "169.254.169.254"] {
        // Once for https, which nobody speaks there, and once for the ping.
        let moving = move |name: &str, before: usize| match (name, before) {
            ("moving.example", 0 | 1) => addresses(&[REGISTRY]),
            ("moving.example", _) => addresses(&[place]),
            _ => Vec::new(),
        };
        in_network(ADDRESSES, moving, move || {
            let registry = Web::serve_at(&format!("{REGISTRY}:80"), |_, _| Answer::ok("{}"));
            let inner = Inner(vec![Web::serve_at(&format!("{place}:80"), |_, _| Answer::status_with(403, "SESAME"))]);
            let said = block_on(failure(&anonymous(), "moving.example/base:1", Way::Redirect));
            inner.assert_untouched("the moved name");
            assert!(said.contains("moving.example") && !said.contains("SESAME"), "{said}");
            assert_eq!(registry.asked().len(), 1, "the ping");
        });
    }
}

/// What is judged is what is connected to: there is no second look-up between the two.
#[test]
fn each_connection_to_where_a_server_leads_is_judged_by_its_own_look_up() {
    static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
    let turning = |name: &str, before: usize| match (name, before) {
        ("registry.example", _) => addresses(&[REGISTRY]),
        ("turning.example", before) => {
            LOOKUPS.fetch_max(before + 1, Ordering::Relaxed);
            addresses(&[if before == 0 { STORAGE } else { "127.0.0.1" }])
        }
        _ => Vec::new(),
    };
    in_network(ADDRESSES, turning, || {
        let lead = Arc::new(std::sync::Mutex::new("http://turning.example:9099/latest".to_owned()));
        let _registry = Web::serve_at(&format!("{REGISTRY}:80"), leading(Way::Redirect, lead));
        let storage = Web::serve_at(&format!("{STORAGE}:9099"), |_, _| Answer::status(404));
        let inner = Inner::start();
        for lookups in 1..=2 {
            let said = block_on(failure(&anonymous(), "registry.example/base:1", Way::Redirect));
            assert!(said.contains("turning.example:9099"), "{said}");
            assert_eq!(LOOKUPS.load(Ordering::Relaxed), lookups);
        }
        inner.assert_untouched("the second look-up");
        assert_eq!(storage.asked().len(), 1);
    });
}

#[test]
fn a_cluster_keeps_its_token_server_and_storage_at_private_addresses() {
    in_network(ADDRESSES, zone, || {
        let tokens = Web::serve_at(&format!("{CLUSTER}:80"), |_, _| Answer::ok(r#"{"token":"t"}"#));
        let _registry = Web::serve_at(&format!("{REGISTRY}:80"), |asked, _| match asked.headers.get("authorization") {
            Some(header) if header == "Bearer t" => Answer::redirect("http://storage.example/blob"),
            _ => Answer::status(401).header("WWW-Authenticate", "Bearer realm=\"http://auth.corp.example/token\""),
        });
        let storage = Web::serve_at(&format!("{STORAGE}:80"), |_, before| match before {
            0 => Answer::status_with(403, r#"{"message":"words of another server: SESAME"}"#),
            1 => Answer::ok(r#"{"schemaVersion":"SESAME"}"#),
            _ => Answer::ok(r#"{"mediaType":"SESAME"}"#).header("Content-Type", "SESAME"),
        });
        for (asked, words) in [(1, "storage.example answered 403"), (2, "malformed"), (3, "not an image")] {
            let said = block_on(failure(&anonymous(), "registry.example/base:1", Way::Redirect));
            assert_eq!((tokens.asked().len(), storage.asked().len()), (asked, asked), "{said}");
            assert!(said.contains(words), "{said}");
            assert!(!said.contains("SESAME"), "what another server says is not shown: {said}");
        }
    });
}

#[test]
fn a_registry_on_this_machine_by_another_name_leads_to_itself() {
    let own = |name: &str, _| addresses(if name == "own.example" { &["127.0.0.1"] } else { &[] });
    in_network(ADDRESSES, own, || {
        block_on(async {
            let registry = FakeRegistry::start(Habits { relative_location: true, ..Habits::default() }).await;
            let workspace = Workspace::new();
            let host = registry.host().replace("127.0.0.1", "own.example");
            let target = Reference::parse(&format!("{host}/app:1")).expect("a name");
            let pushed = image(workspace.layer_file());
            workspace.push(&anonymous(), &pushed, std::slice::from_ref(&target)).await.expect("pushed");
            anonymous().resolve(&target, &linux_amd64()).await.expect("pulled");
        });
    });
}

/// The same for files: a redirect is the server's to say, the URL is the Dockerfile's.
#[test]
fn a_file_elsewhere_leads_neither_to_this_machine_nor_to_its_metadata() {
    in_network(ADDRESSES, zone, || {
        let inner = Inner::start();
        let lead: Arc<std::sync::Mutex<String>> = Arc::default();
        let _files = Web::serve_at(&format!("{STORAGE}:80"), leading(Way::Redirect, Arc::clone(&lead)));
        let fetch = |url: &str| {
            let location = HttpLocation::parse(url).expect("a URL").expect("of http");
            let directory = tempfile::tempdir().expect("a directory");
            let downloader = Downloader::new(quick(), Progress::hidden()).expect("a downloader");
            let error = block_on(downloader.fetch(&location, None, None, directory.path())).expect_err("nothing there");
            with_causes(&error)
        };
        for place in LEADS {
            *lead.lock().expect("the lead") = (*place).to_owned();
            let said = fetch("http://storage.example/file");
            inner.assert_untouched(place);
            assert!(!said.contains("SESAME"), "{said}");
        }
        assert!(fetch("http://localhost:9099/file").contains("403"), "what the Dockerfile itself names is asked");
        assert_eq!(inner.0[0].asked().len() + inner.0[1].asked().len(), 1);
    });
}

/// Whether https fails is up to everybody on the way.
#[test]
fn credentials_do_not_go_over_plain_http_unless_a_flag_names_the_host() {
    const ROBOT: &str = "Basic cm9ib3Q6c2VzYW1l";
    for challenge in ["Basic realm=\"r\"", "Bearer realm=\"http://registry.local/token\""] {
        let local = |name: &str, _| addresses(if name == "registry.local" { &[CLUSTER] } else { &[] });
        in_network(ADDRESSES, local, move || {
            let registry = Web::serve_at(&format!("{CLUSTER}:80"), move |asked, _| {
                match asked.headers.get("authorization").map(String::as_str) {
                    Some(ROBOT) if asked.path == "/token" => Answer::ok(r#"{"token":"t"}"#),
                    Some(ROBOT | "Bearer t") => Answer::status(404),
                    _ => Answer::status(401).header("WWW-Authenticate", challenge),
                }
            });
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("config.json");
            let entry = r#"{"auths":{"registry.local":{"username":"robot","password":"sesame"}}}"#;
            std::fs::write(&path, entry).expect("a config");
            let ask = |config: ClientConfig| {
                let keychain = Keychain::load(vec![path.clone()]).expect("a keychain");
                let client = Client::with_keychain(ClientConfig { retry: quick(), ..config }, keychain);
                block_on(failure(&client.expect("a client"), "registry.local/base:1", Way::Redirect))
            };
            let sent = || registry.authorizations().iter().flatten().any(|header| header == ROBOT);
            for insecure_pull in [false, true] {
                let said = ask(ClientConfig { insecure_pull, ..ClientConfig::default() });
                assert!(!sent(), "{challenge}: {said}");
                assert!(said.contains("401") && said.contains("not sent over plain http"), "{said}");
                assert!(said.contains("--insecure-registry=registry.local"), "{said}");
            }
            let named = vec!["registry.local".to_owned()];
            let said = ask(ClientConfig { insecure_registries: named, ..ClientConfig::default() });
            assert!(sent() && said.contains("404"), "{said}");
        });
    }
}
