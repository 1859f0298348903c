//! The outputs other than registries.

use std::fmt;
use std::path::PathBuf;

use crate::image::Reference;

/// A local output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The form of the output.
    pub kind: OutputKind,
    /// The place of the output.
    pub target: Target,
    /// The image's names in it, if they differ from the image's other names.
    pub names: Option<Vec<Reference>>,
}

/// The form of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// An OCI image layout, a directory.
    OciLayout,
    /// An OCI image layout in a tar.
    OciArchive,
    /// An archive for `docker load`.
    DockerArchive,
    /// The image's files as a tar.
    FilesArchive,
    /// The image's files in a directory.
    Files,
}

/// The place of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file or a directory.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Stdout => f.write_str("-"),
        }
    }
}

impl fmt::Display for Output {
    /// Formats the output for the summary, in the notation of container tools.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            OutputKind::OciLayout => "oci",
            OutputKind::OciArchive => "oci-archive",
            OutputKind::DockerArchive => "docker-archive",
            OutputKind::FilesArchive => "tar",
            OutputKind::Files => "files",
        };
        write!(f, "{kind}:{}", self.target)
    }
}
