//! The flags that say how new layers are written.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{ArgAction, Args};

use super::request::RequestError;
use crate::image::ImageFormat;
use crate::layer::{Compression, LayerOptions};

/// How new layers are written.
#[derive(Debug, Clone, Args)]
pub struct LayerFlags {
    /// The compression of new layers: gzip or zstd.
    ///
    /// The layers of a base image stay as they are. Old versions of Docker cannot read zstd, and --image-format docker
    /// does not support it.
    #[arg(
        long,
        value_name = "KIND",
        default_value = "gzip",
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(["gzip", "zstd"]).map(|word| compression(&word)),
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

    /// Accepted for compatibility with kaniko; it has no effect.
    ///
    /// kaniko holds compressed layers in memory with it. Here, a layer is compressed once and never held in memory.
    #[arg(long, action = ArgAction::Set, default_value_t = true, help_heading = "Build")]
    pub compressed_caching: bool,
}

impl LayerFlags {
    /// How layers are written. kaniko takes a level that is not above zero for its default.
    ///
    /// # Errors
    /// The compression does not have that level, or the format does not support the compression.
    pub(super) fn options(&self, format: ImageFormat) -> Result<LayerOptions, RequestError> {
        let (compression, level) = (self.compression, self.compression_level);
        if (compression, format) == (Compression::Zstd, ImageFormat::Docker) {
            return Err(RequestError::DockerZstd);
        }
        let levels = compression.levels();
        let known = u8::try_from(level).ok().filter(|level| levels.contains(level));
        if level > 0 && known.is_none() {
            let compression = match compression {
                Compression::Gzip => "gzip",
                Compression::Zstd => "zstd",
            };
            let (first, last) = (*levels.start(), *levels.end());
            return Err(RequestError::CompressionLevel { level, compression, first, last });
        }
        Ok(LayerOptions { compression, level: known, ..LayerOptions::default() })
    }
}

fn compression(word: &str) -> Compression {
    if word == "zstd" { Compression::Zstd } else { Compression::Gzip }
}
