//! The flags of the files that report on an image: those of a build and of `push`.

use std::path::PathBuf;

use crate::cli::env::Env;
use crate::cli::values::{non_empty, path};
use crate::push::{DigestFiles, Reports};

/// Digests, names and metadata in files.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct ReportFlags {
    /// Write the image's digest to this file, or PUT it to this https URL.
    ///
    /// There is no line end. Parent directories are created.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub digest_file: Option<PathBuf>,

    /// Write registry/repository@digest to this file or https URL, a line for each destination.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub image_name_with_digest_file: Option<PathBuf>,

    /// Write registry/repository:tag@digest to this file or https URL, a line for each destination.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub image_name_tag_with_digest_file: Option<PathBuf>,

    /// Write digests, descriptor and names of the image to this file, as JSON with the keys of docker buildx build.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub metadata_file: Option<PathBuf>,

    /// Write the image ID, which is the digest of its configuration, to this file.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub iidfile: Option<PathBuf>,
}

impl ReportFlags {
    /// Returns the files of `--digest-file` and its relatives.
    pub(crate) fn digest_files(&self) -> DigestFiles {
        DigestFiles {
            digest: non_empty(self.digest_file.clone()),
            name_with_digest: non_empty(self.image_name_with_digest_file.clone()),
            name_tag_with_digest: non_empty(self.image_name_tag_with_digest_file.clone()),
        }
    }

    /// Returns the files of the other reports.
    pub(crate) fn reports(&self, env: Env<'_>) -> Reports {
        Reports {
            metadata: non_empty(self.metadata_file.clone()),
            image_id: non_empty(self.iidfile.clone()),
            builder_output: env.path("BUILDER_OUTPUT"),
        }
    }
}
