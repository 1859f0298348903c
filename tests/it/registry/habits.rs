//! Registries with habits of their own, and connections that break there: a pull and a push succeed all the same.

use super::*;
use crate::support::fake_registry::HABITS;

#[tokio::test]
async fn pulls_and_pushes_succeed() {
    for (name, habit) in HABITS {
        for breaks in [false, true] {
            let name = format!("{name}, {}", if breaks { "broken connections" } else { "whole ones" });
            let registry = FakeRegistry::start_with(*habit).await;
            let client = robot(&[&registry], "sesame");
            let workspace = Workspace::new();
            let manifest = seed(&registry, "base", "1", "amd64");
            if breaks {
                registry.fail("GET", layer().digest.to_string(), 0, 1, Fault::ResetMidBody);
                registry.fail("PUT", "/blobs/uploads/", 0, 1, Fault::BreakUpload(20));
                registry.fail("POST", "/blobs/uploads/", 0, 1, Fault::Close);
            }
            let base = client.resolve(&reference(&registry, "base:1"), &linux_amd64()).await.expect(&name);
            let pulled = workspace.store.ensure(&client, &base.reference, &base.layers[0].descriptor).await;
            assert_eq!(std::fs::read(pulled.expect(&name)).expect("the layer"), LAYER, "{name}");
            // One layer that is here, and one that is in another repository there.
            let mounted = BlobSource::Registry(reference(&registry, "base").with_digest(manifest.digest));
            for (source, tag) in [(workspace.layer_file(), "app:1"), (mounted, "other:1")] {
                let target = reference(&registry, tag);
                workspace.push(&client, &image(source), &[target]).await.expect(&name);
            }
            registry.assert_whole(&name);
            assert!(registry.manifest("app", "1").is_some() && registry.manifest("other", "1").is_some(), "{name}");
            assert_eq!(registry.open_uploads(), 0, "{name}: uploads were left open");
        }
    }
}
