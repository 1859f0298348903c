//! Media types of manifests, configurations and layers: those of the OCI image specification (media-types.md), and
//! Docker's ("Image Manifest Version 2, Schema 2"), which they replace.

/// An OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An OCI layer: plain tar.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// An OCI layer: tar, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// An OCI layer: tar, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// An OCI layer that must not be redistributed: plain tar.
pub const OCI_FOREIGN_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
/// An OCI layer that must not be redistributed: tar, gzip.
pub const OCI_FOREIGN_LAYER_GZIP: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
/// An OCI layer that must not be redistributed: tar, zstd.
pub const OCI_FOREIGN_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";

/// The layers that builds write, each with another compression. A cache has no others.
pub const WRITTEN_LAYERS: &[&str] = &[OCI_LAYER_GZIP, OCI_LAYER_ZSTD];

/// A Docker manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// A Docker manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker manifest, schema 1; refused.
pub const DOCKER_MANIFEST_V1: &str = "application/vnd.docker.distribution.manifest.v1+json";
/// A signed Docker manifest, schema 1; refused.
pub const DOCKER_MANIFEST_V1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// A Docker image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// A Docker layer: plain tar.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// A Docker layer: tar, gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// A Docker layer: tar, zstd (not specified, but in use).
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
/// A Docker layer that must not be redistributed: tar, gzip.
pub const DOCKER_FOREIGN_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// Reports whether `media_type` is an index of either kind.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

/// Reports whether `media_type` is an image manifest of either kind.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// Reports whether layers of `media_type` are downloaded from their `urls` and not stored in registries.
pub fn is_foreign_layer(media_type: &str) -> bool {
    matches!(
        media_type,
        OCI_FOREIGN_LAYER | OCI_FOREIGN_LAYER_GZIP | OCI_FOREIGN_LAYER_ZSTD | DOCKER_FOREIGN_LAYER_GZIP
    )
}

/// Returns the OCI media type for `media_type`, which is returned unchanged if it is not one of Docker's.
///
/// The content, and so the digest, is the same for both.
pub fn to_oci(media_type: &str) -> &str {
    match media_type {
        DOCKER_INDEX => OCI_INDEX,
        DOCKER_MANIFEST => OCI_MANIFEST,
        DOCKER_CONFIG => OCI_CONFIG,
        DOCKER_LAYER => OCI_LAYER,
        DOCKER_LAYER_GZIP => OCI_LAYER_GZIP,
        DOCKER_LAYER_ZSTD => OCI_LAYER_ZSTD,
        DOCKER_FOREIGN_LAYER_GZIP => OCI_FOREIGN_LAYER_GZIP,
        other => other,
    }
}

/// Returns Docker's media type for `media_type`, or `None` if there is none. The one for zstd is in use but not
/// specified, so not every tool supports it.
pub fn to_docker(media_type: &str) -> Option<&str> {
    match media_type {
        OCI_INDEX | DOCKER_INDEX => Some(DOCKER_INDEX),
        OCI_MANIFEST | DOCKER_MANIFEST => Some(DOCKER_MANIFEST),
        OCI_CONFIG | DOCKER_CONFIG => Some(DOCKER_CONFIG),
        OCI_LAYER | DOCKER_LAYER => Some(DOCKER_LAYER),
        OCI_LAYER_GZIP | DOCKER_LAYER_GZIP => Some(DOCKER_LAYER_GZIP),
        OCI_FOREIGN_LAYER_GZIP | DOCKER_FOREIGN_LAYER_GZIP => Some(DOCKER_FOREIGN_LAYER_GZIP),
        _ => None,
    }
}
