//! The format of a layer: compression and times.

use crate::image::media_type;

/// The compression of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// gzip, in members of 1 MiB of content.
    #[default]
    Gzip,
    /// zstd, in frames of 1 MiB of content.
    Zstd,
}

impl Compression {
    /// Every compression.
    pub const ALL: [Self; 2] = [Self::Gzip, Self::Zstd];

    /// Returns the word of `--compression`, also in messages and in cache keys: another word makes other keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Returns the valid levels, fastest first.
    pub fn levels(self) -> std::ops::RangeInclusive<u8> {
        match self {
            Self::Gzip => 1..=9,
            Self::Zstd => 1..=22,
        }
    }

    /// Returns the default level. Layers' digests depend on it.
    pub fn default_level(self) -> u8 {
        match self {
            // Level 6 makes layers 0.7 % smaller and takes a quarter more time for it (docs/performance.md).
            Self::Gzip => 5,
            Self::Zstd => 3,
        }
    }

    /// Returns the media type of its layers in an OCI image, one of [`media_type::WRITTEN_LAYERS`].
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => media_type::OCI_LAYER_GZIP,
            Self::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }
}

/// The format of a layer.
#[derive(Debug, Clone, Default)]
pub struct LayerOptions {
    /// The compression.
    pub compression: Compression,
    /// The compression level, within [`Compression::levels`]; `None` is the default level.
    pub level: Option<u8>,
    /// The latest file time, in seconds since 1970; later times are replaced by it (`SOURCE_DATE_EPOCH` with rewritten
    /// timestamps).
    pub clamp_mtime: Option<i64>,
    /// Whether times have fractions of a second, which image layers do not have.
    pub exact_times: bool,
    /// The number of compressing threads; 0 for one per core. The output does not depend on it.
    pub threads: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_types_of_every_compression_are_known() {
        assert_eq!(Compression::ALL.map(Compression::media_type).as_slice(), media_type::WRITTEN_LAYERS);
        for oci in media_type::WRITTEN_LAYERS {
            let docker = media_type::to_docker(oci);
            assert!(docker.is_none_or(|docker| media_type::to_oci(docker) == *oci), "{docker:?} is not {oci}");
        }
    }
}
