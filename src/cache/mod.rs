//! What is kept within and between builds. So far: blobs that came from registries.

mod store;

pub use store::{BlobStore, StoreError};
