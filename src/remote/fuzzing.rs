//! Fuzz targets: git's.

pub(crate) use super::git::fuzzing::{gitmodules, pack};
