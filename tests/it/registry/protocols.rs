//! Which version of HTTP is spoken: HTTP/1.1 wherever a registry knows it, HTTP/2 with one that knows nothing else.

use hyper::Version;

use super::*;
use crate::support::tls;

#[tokio::test]
async fn http2_is_spoken_with_a_registry_that_knows_nothing_else() {
    for (protocols, spoken) in [
        (&["h2"][..], Version::HTTP_2),
        (&["h2", "http/1.1"], Version::HTTP_11),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let workspace = Workspace::new();
        let tls = tls::acceptor(workspace.path(), protocols);
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
