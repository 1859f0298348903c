//! How long a build keeps the file of a blob that it fetched.

/// The time for which a blob stays on disk, from the shortest to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Retention {
    /// Until its only reader has read it: disk blocks are freed while it is read.
    Ephemeral,
    /// Until it is known that no registry needs an upload of it.
    UntilUploaded,
    /// Until the build ends.
    #[default]
    Keep,
}
