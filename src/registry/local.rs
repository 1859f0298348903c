//! The seam between those who need a blob as a file and those who keep such files.

use std::future::Future;
use std::path::PathBuf;

use super::{Client, RegistryError};
use crate::image::{Descriptor, Digest, Reference};

/// Something that has blobs as local files, and fetches those it does not have.
pub trait LocalBlobs: Sync {
    /// The file with the blob's content, verified.
    fn ensure(
        &self,
        client: &Client,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> impl Future<Output = Result<PathBuf, RegistryError>> + Send;

    /// No upload needs the blob's file: all repositories it was to go to have it.
    fn not_needed(&self, digest: &Digest);
}
