//! Which version of HTTP is spoken: HTTP/1.1 wherever a registry knows it, HTTP/2 with one that knows nothing else.

use std::process::Command;
use std::sync::Arc;

use hyper::Version;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::support::program::run;

/// TLS with a certificate of its own for 127.0.0.1, and these protocols (ALPN names), the preferred first.
pub(super) fn tls(directory: &Path, protocols: &[&str]) -> TlsAcceptor {
    let line = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=self -addext subjectAltName=IP:127.0.0.1 -keyout key -out pem";
    run(Command::new("openssl").args(line.split(' ')).current_dir(directory)).success();
    let chain = vec![CertificateDer::from_pem_file(directory.join("pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(directory.join("key")).expect("its key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .expect("a server");
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn http2_is_spoken_with_a_registry_that_knows_nothing_else() {
    for (protocols, spoken) in [
        (&["h2"][..], Version::HTTP_2),
        (&["h2", "http/1.1"], Version::HTTP_11),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let workspace = Workspace::new();
        let tls = tls(workspace.path(), protocols);
        // Its locations are relative: absolute ones of this registry are those of plain http.
        let registry = FakeRegistry::start_tls(Habits { relative_location: true, ..Habits::default() }, tls).await;
        let certificates = vec![(registry.host(), workspace.path().join("pem"))];
        let config = ClientConfig { certificates, retry: quick(), ..ClientConfig::default() };
        let client = Client::with_keychain(config, Keychain::default()).expect("a client");
        let target = reference(&registry, "app:1");
        let pushed = image(workspace.layer_file());
        workspace.push(&client, &pushed, std::slice::from_ref(&target)).await.expect("pushed");
        let pulled = client.resolve(&target, &linux_amd64()).await.expect("the image");
        assert_eq!(pulled.reference, target, "{protocols:?}");
        let file = workspace.path().join("layer");
        client.fetch_blob(&target, &layer(), &file).await.expect("the layer");
        assert_eq!(std::fs::read(&file).expect("the layer"), LAYER, "{protocols:?}");
        let seen = registry.seen();
        assert!(seen.iter().any(|seen| seen.method == "PUT") && seen.iter().any(|seen| seen.method == "GET"));
        for seen in seen {
            assert_eq!(seen.version, spoken, "{protocols:?}: {} {}", seen.method, seen.path);
        }
    }
}
