//! Manifests and indexes (OCI image specification, manifest.md and image-index.md; Docker's schema 2 has the same
//! structure).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Descriptor, media_type};

/// The manifest of one image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// The manifest's own media type.
    #[serde(rename = "mediaType", default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The type of an artifact, if this is not an image.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image's configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest to which this one refers, if it is a referrer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form metadata.
    #[serde(default, deserialize_with = "super::null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that the specification does not define.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Manifest {
    /// Returns an OCI manifest of an image.
    pub fn oci(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Returns the bytes to push: compact JSON, fields in the order of the struct, maps sorted.
    ///
    /// # Errors
    /// A value cannot be written as JSON, which does not happen with these types.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

/// Manifests with one name, one for each platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// The index's own media type.
    #[serde(rename = "mediaType", default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The type of an artifact, if this is not about images.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest to which this index refers, if it is a referrer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form metadata.
    #[serde(default, deserialize_with = "super::null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that the specification does not define.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Index {
    /// Returns an OCI index of `manifests`.
    pub fn oci(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.to_owned(),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Returns the bytes to push or write: compact JSON, fields in the order of the struct, maps sorted.
    ///
    /// # Errors
    /// A value cannot be written as JSON, which does not happen with these types.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    #[test]
    fn a_manifest_has_one_spelling() {
        let manifest = Manifest::oci(
            Descriptor::new(media_type::OCI_CONFIG, Digest::sha256_of(b"c"), 1),
            vec![Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::sha256_of(b"l"), 2)],
        );
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
             \"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\
             \"digest\":\"sha256:2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6\",\"size\":1},\
             \"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\
             \"digest\":\"sha256:acac86c0e609ca906f632b0e2dacccb2b77d22b0621f20ebece1a4835b93f6f0\",\"size\":2}]}"
        );
        assert_eq!(serde_json::from_slice::<Manifest>(&bytes).unwrap(), manifest);
    }

    #[test]
    fn unknown_fields_and_nulls_survive() {
        let text = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
            {"mediaType":"application/vnd.oci.image.manifest.v1+json","size":7,"annotations":null,"x-note":[1],
             "digest":"sha256:2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6",
             "platform":{"architecture":"arm","os":"linux","variant":"v7","os.features":["f"]}}],"z":{"a":1}}"#;
        let index: Index = serde_json::from_str(text).unwrap();
        assert_eq!(index.extra["z"]["a"], 1);
        assert_eq!(index.manifests[0].extra["x-note"][0], 1);
        let again: Index = serde_json::from_slice(&index.to_bytes().unwrap()).unwrap();
        assert_eq!(again, index);
    }
}
