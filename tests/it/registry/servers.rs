//! Servers that a registry names beside itself: what is said of the registry is not said of them.

use super::*;
use crate::support::tls;
use crate::support::web::{Answer, Web};

/// A registry on https that names a token server.
async fn naming(realm: &str, directory: &Path) -> FakeRegistry {
    let registry = FakeRegistry::start_tls(Habits::default(), tls::acceptor(directory, &["http/1.1"])).await;
    let challenge = format!("Bearer realm=\"{realm}\",service=\"test\"");
    let unauthorized = Fault::Status(401, vec![("www-authenticate", challenge)], String::new());
    registry.fail("GET", "/v2/", 0, u32::MAX, unauthorized);
    registry
}

/// A client that knows `robot` at the registry.
fn knowing(registry: &FakeRegistry, config: ClientConfig) -> Client {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    let entry = format!(r#"{{"auths":{{"{}":{{"username":"robot","password":"sesame"}}}}}}"#, registry.host());
    std::fs::write(&path, entry).expect("a config");
    let keychain = Keychain::load(vec![path]).expect("a keychain");
    Client::with_keychain(ClientConfig { retry: quick(), ..config }, keychain).expect("a client")
}

async fn refused(client: &Client, registry: &FakeRegistry) -> String {
    let error = client.resolve(&reference(registry, "base:1"), &linux_amd64()).await.expect_err("no token");
    with_causes(&error)
}

/// CVE-2026-48978: with credentials and without.
#[tokio::test]
async fn a_registry_on_https_names_no_token_server_on_plain_http() {
    let tokens = Web::serve(|_, _| Answer::ok(r#"{"token":"t"}"#));
    let directory = tempfile::tempdir().expect("a directory");
    let registry = naming(&tokens.url("/token"), directory.path()).await;
    let config = || ClientConfig { skip_tls_verify_registries: vec![registry.host()], ..ClientConfig::default() };
    let anonymous = Client::with_keychain(ClientConfig { retry: quick(), ..config() }, Keychain::default());
    for client in [anonymous.expect("a client"), knowing(&registry, config())] {
        let said = refused(&client, &registry).await;
        assert!(said.contains("plain http") && said.contains(&tokens.url("/token")), "{said}");
    }
    assert!(tokens.asked().is_empty());
}

/// An exception is for the host and port that it names.
#[tokio::test]
async fn another_server_is_checked_whatever_is_said_of_the_registry() {
    let (own, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let tls = tls::acceptor(other.path(), &["http/1.1"]);
    let tokens = FakeRegistry::start_tls(Habits::default(), tls).await;
    let answer = Fault::Status(200, vec![], r#"{"token":"t"}"#.to_owned());
    tokens.fail("GET", "/token", 0, u32::MAX, answer);
    let registry = naming(&format!("https://{}/token", tokens.host()), own.path()).await;
    let certificate =
        |registry: &FakeRegistry, directory: &tempfile::TempDir| (registry.host(), directory.path().join("pem"));
    for config in [
        ClientConfig { skip_tls_verify_registries: vec![registry.host()], ..ClientConfig::default() },
        ClientConfig { certificates: vec![certificate(&registry, &own)], ..ClientConfig::default() },
    ] {
        let said = refused(&knowing(&registry, config), &registry).await;
        assert!(said.contains(&tokens.host()) && said.contains("certificate"), "{said}");
        assert!(tokens.seen().is_empty(), "{said}");
    }
    for config in [
        ClientConfig { skip_tls_verify_registries: vec![registry.host(), tokens.host()], ..ClientConfig::default() },
        ClientConfig {
            certificates: vec![certificate(&registry, &own), certificate(&tokens, &other)],
            ..ClientConfig::default()
        },
        ClientConfig { skip_tls_verify_pull: true, ..ClientConfig::default() },
    ] {
        tokens.forget_requests();
        let said = refused(&knowing(&registry, config), &registry).await;
        assert!(said.contains("401"), "{said}");
        assert!(tokens.seen().iter().all(|seen| seen.authorization.is_some()) && !tokens.seen().is_empty(), "{said}");
    }
}

/// A blob on another server, likewise.
#[tokio::test]
async fn another_storage_is_checked_whatever_is_said_of_the_registry() {
    let (own, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let storage = FakeRegistry::start_tls(Habits::default(), tls::acceptor(other.path(), &["http/1.1"])).await;
    storage.put_blob("base", LAYER);
    let registry = FakeRegistry::start_tls(Habits::default(), tls::acceptor(own.path(), &["http/1.1"])).await;
    let location = format!("https://{}/elsewhere/base/{}", storage.host(), Digest::sha256_of(LAYER));
    registry.fail("GET", "/blobs/", 0, u32::MAX, Fault::Status(307, vec![("location", location)], String::new()));
    let workspace = Workspace::new();
    let fetch = async |named: Vec<String>| {
        let config = ClientConfig { skip_tls_verify_registries: named, retry: quick(), ..ClientConfig::default() };
        let client = Client::with_keychain(config, Keychain::default()).expect("a client");
        client.fetch_blob(&reference(&registry, "base"), &layer(), &workspace.path().join("layer")).await
    };
    let error = fetch(vec![registry.host()]).await.expect_err("the storage has a certificate of its own");
    assert!(with_causes(&error).contains("certificate"), "{error}");
    assert!(storage.seen().is_empty());
    fetch(vec![registry.host(), storage.host()]).await.expect("the blob");
}
