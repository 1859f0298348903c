//! The flags that say how new layers are written.

use clap::{ArgAction, Args};

use crate::cli::values::compression;
use crate::image::{ImageFormat, media_type};
use crate::layer::{Compression, LayerOptions};
use crate::snapshot::{IgnoredPaths, PatternError};

/// How new layers are written, and what they leave out.
#[derive(Debug, Clone, Args)]
pub struct LayerFlags {
    /// Give no file of a new layer a time after SOURCE_DATE_EPOCH, or 1970 without it.
    ///
    /// The same input then gives the same digest in every sandbox and on every machine.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Output")]
    pub reproducible: bool,

    /// The compression of new layers: gzip or zstd.
    ///
    /// The layers of a base image stay as they are. Old versions of Docker cannot read zstd, and --image-format docker
    /// does not support it.
    #[arg(
        long,
        value_name = "KIND",
        default_value = "gzip",
        hide_possible_values = true,
        value_parser = compression(),
        help_heading = "Output"
    )]
    pub compression: Compression,

    /// The level: 1 to 9 for gzip, 1 to 22 for zstd; higher is smaller and slower [default: 5 for gzip, 3 for zstd].
    ///
    /// -1 and 0 mean the default, too.
    #[arg(
        long,
        value_name = "LEVEL",
        default_value_t = -1,
        allow_negative_numbers = true,
        hide_default_value = true,
        help_heading = "Output"
    )]
    pub compression_level: i64,

    /// Make one layer for each stage instead of one for each instruction.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Build")]
    pub single_snapshot: bool,

    /// A path to keep out of every layer, with everything below it. Repeatable.
    ///
    /// *, ? and [a-z] match within a component of the path. The RUNs of the stage still find the files.
    #[arg(long, value_name = "PATH", action = ArgAction::Append, help_heading = "Build")]
    pub ignore_path: Vec<String>,
}

/// A value of one of these flags that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayerFlagError {
    /// Docker has no media type for layers of that compression.
    #[error("--compression {0} needs --image-format oci: Docker's manifests have no layers compressed with {0}")]
    NotDocker(&'static str),
    /// A level the compression does not have.
    #[error("--compression-level cannot be {level}: {compression} has the levels {first} to {last}")]
    Level {
        /// As given.
        level: i64,
        /// [`Compression::name`].
        compression: &'static str,
        /// The fastest.
        first: u8,
        /// The smallest.
        last: u8,
    },
    /// A path that is not a pattern of an absolute path.
    #[error("--ignore-path {text:?} cannot be used")]
    IgnoredPath {
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: PatternError,
    },
}

impl LayerFlags {
    /// Returns how layers are written. kaniko takes a level that is not above zero for its default.
    ///
    /// # Errors
    /// The compression does not have that level, or the format does not support the compression.
    pub(crate) fn options(&self, format: ImageFormat) -> Result<LayerOptions, LayerFlagError> {
        let (compression, level) = (self.compression, self.compression_level);
        if format == ImageFormat::Docker && media_type::to_docker(compression.media_type()).is_none() {
            return Err(LayerFlagError::NotDocker(compression.name()));
        }
        let levels = compression.levels();
        let known = u8::try_from(level).ok().filter(|level| levels.contains(level));
        if level > 0 && known.is_none() {
            let compression = compression.name();
            let (first, last) = (*levels.start(), *levels.end());
            return Err(LayerFlagError::Level { level, compression, first, last });
        }
        Ok(LayerOptions { compression, level: known, ..LayerOptions::default() })
    }

    /// Returns the paths of `--ignore-path`.
    ///
    /// # Errors
    /// One of them is not a pattern of an absolute path.
    pub(crate) fn ignored_paths(&self) -> Result<IgnoredPaths, LayerFlagError> {
        let mut paths = IgnoredPaths::default();
        for text in self.ignore_path.iter().filter(|text| !text.is_empty()) {
            paths.add(text).map_err(|source| LayerFlagError::IgnoredPath { text: text.clone(), source })?;
        }
        Ok(paths)
    }
}
