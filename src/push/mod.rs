//! Where a finished image goes: repositories of registries, an OCI layout, a Docker archive, and the files that tell a
//! pipeline its digest.

mod destinations;
mod digest_files;
mod error;
mod outputs;

pub use destinations::{ExistingTags, PushSummary, check_destinations, push};
pub use digest_files::{DigestFiles, write_digest_files};
pub use error::PushError;
pub use outputs::{write_archive, write_layout};
