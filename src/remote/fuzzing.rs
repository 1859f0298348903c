//! The fuzz targets of git.

pub(crate) use super::git::fuzzing::{gitmodules, pack};
