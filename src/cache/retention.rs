//! How long a build keeps the file of a blob that it fetched.

/// How long a blob stays on disk, from the shortest to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Retention {
    /// No longer than its only reader needs it: its disk blocks are freed as it is read.
    Ephemeral,
    /// Until it is known that no registry needs an upload of it.
    UntilUploaded,
    /// Until the build ends.
    #[default]
    Keep,
}
