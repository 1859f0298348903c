//! Writes a finished image to its outputs: repositories of registries, an OCI layout, a Docker archive, and the files
//! from which a pipeline reads its digest.

mod destinations;
mod digest_files;
mod error;
mod output;
mod outputs;
mod reports;
mod repositories;
mod send;
mod streams;
mod uploads;

pub use destinations::{ExistingTags, PushSummary, check_destinations, push};
pub use digest_files::{DigestFiles, write_digest_files};
pub use error::{PushError, SendError};
pub use output::{Output, OutputKind, Target};
pub use outputs::{ArchiveKind, write_archive, write_atomically, write_layout};
pub use reports::{Reports, write_reports};
pub use uploads::Uploads;
