//! How a layer is written: what it is compressed with, and which times it has.

use crate::image::media_type;

/// What a layer is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// gzip, in members of 1 MiB of content.
    #[default]
    Gzip,
    /// zstd, in frames of 1 MiB of content.
    Zstd,
}

impl Compression {
    /// The levels there are, fastest first.
    pub fn levels(self) -> std::ops::RangeInclusive<u8> {
        match self {
            Self::Gzip => 1..=9,
            Self::Zstd => 1..=22,
        }
    }

    /// The level of a layer whose options name none. Part of what its digest depends on.
    pub fn default_level(self) -> u8 {
        match self {
            // Level 6 makes layers 0.7 % smaller and takes a quarter more time for it (docs/performance.md).
            Self::Gzip => 5,
            Self::Zstd => 3,
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => media_type::OCI_LAYER_GZIP,
            Self::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }
}

/// How to write a layer.
#[derive(Debug, Clone, Default)]
pub struct LayerOptions {
    /// What to compress with.
    pub compression: Compression,
    /// Trades time for size, within [`Compression::levels`]; the default level if `None`.
    pub level: Option<u8>,
    /// Times later than this (seconds since 1970) become this: `SOURCE_DATE_EPOCH` with rewritten timestamps.
    pub clamp_mtime: Option<i64>,
    /// Times keep their parts of a second, which image layers do not have.
    pub exact_times: bool,
    /// Threads that compress; 0 for as many as there are cores. The output does not depend on it.
    pub threads: usize,
}
