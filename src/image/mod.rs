//! Images as data: references, platforms, digests, descriptors, configurations and manifests, and two file formats of
//! images (OCI layout, Docker archive).
//!
//! The types are our own. Dropping an unknown field of a base image's configuration, such as a health check, would
//! change its behaviour, and maps without a fixed order would change its digest.

pub mod archive;
pub mod blob;
pub mod config;
pub mod descriptor;
pub mod digest;
pub mod docker_archive_reader;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod layout;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod reference;
pub mod rfc3339;

pub use blob::{AssembleError, BaseImage, Blob, BlobSource, Image, ImageFormat};
pub use config::{ContainerConfig, Empty, HealthConfig, History, ImageConfig, RootFs};
pub use descriptor::{Descriptor, LayerDescriptor};
pub use digest::{Digest, DigestError, Hasher, HashingReader, HashingWriter};
pub use manifest::{Index, Manifest};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use rfc3339::{EpochError, parse_epoch, rfc3339};

use serde::{Deserialize, Deserializer};

/// Go writes an empty list or map as `null`, which is equivalent to omitting the field.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
