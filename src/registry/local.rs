//! The interface between code that needs blobs as files and code that stores them.

use std::future::Future;
use std::path::PathBuf;

use super::{Client, RegistryError};
use crate::image::{Descriptor, Digest, Reference};

/// A store of blobs as local files, which fetches missing ones.
pub trait LocalBlobs: Sync {
    /// Returns the file with the blob's verified content.
    fn ensure(
        &self,
        client: &Client,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> impl Future<Output = Result<PathBuf, RegistryError>> + Send;

    /// Notes that no upload needs the blob's file any more: all its target repositories have it.
    fn not_needed(&self, digest: &Digest);
}
