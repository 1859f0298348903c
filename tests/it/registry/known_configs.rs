//! Images whose config may be at hand.

use futures_util::future::BoxFuture;

use super::*;

#[tokio::test]
async fn a_config_is_not_fetched_where_it_is_at_hand() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let manifest = seed(&registry, "base", "arm64", "arm64");
    let index = Index::oci(vec![manifest]).to_bytes().expect("an index");
    registry.put_manifest("base", "1", media_type::OCI_INDEX, index);
    let client = anonymous();
    let (name, platform) = (reference(&registry, "base:1"), "linux/arm64".parse().expect("a platform"));
    let image = client.resolve(&name, &platform).await.expect("the image");
    let config = image.manifest.config.clone();
    assert!(config.digest.verifies(&image.config_bytes));
    let right = image.config_bytes.clone();
    let other = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = right.clone();
        change(&mut bytes);
        Some(bytes)
    };
    let cases = [
        ("the config", Some(right.clone()), 0),
        ("nothing", None, 1),
        ("no bytes", Some(Vec::new()), 1),
        ("other bytes", other(&|bytes| bytes[0] ^= 1), 1),
        ("fewer bytes", other(&|bytes| bytes.truncate(bytes.len() - 1)), 1),
        ("more bytes", other(&|bytes| bytes.push(b' ')), 1),
    ];
    for (name_of_case, known, expected) in cases {
        registry.forget_requests();
        let asked_for = config.digest.clone();
        let known = move |digest: Digest| -> BoxFuture<'static, Option<Vec<u8>>> {
            assert_eq!(digest, asked_for);
            let known = known.clone();
            Box::pin(async { known })
        };
        let resolved = client.resolve_with(&name, &platform, &known).await.expect("the image");
        assert_eq!(resolved, image, "{name_of_case}");
        assert_eq!(registry.count("GET", "/blobs/"), expected, "{name_of_case}");
    }
}
