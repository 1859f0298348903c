//! What an output beside registries is.

use std::fmt;
use std::path::PathBuf;

use crate::image::Reference;

/// Something that is written on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What is written.
    pub kind: OutputKind,
    /// Where.
    pub target: Target,
    /// The image's names in it, where they are not those that the image has everywhere.
    pub names: Option<Vec<Reference>>,
}

/// The form of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// An OCI image layout, a directory.
    OciLayout,
    /// The same as a tar.
    OciArchive,
    /// What `docker load` reads.
    DockerArchive,
    /// The image's files as a tar.
    FilesArchive,
    /// The image's files in a directory.
    Files,
}

/// Where an output goes.
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
    /// As the summary names it, in the notation of container tools.
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
