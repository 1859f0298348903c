//! `--snapshot-mode`: accepted for compatibility, for every mode finds the changes that `full` finds.

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// What `--snapshot-mode` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotMode {
    /// Compare contents.
    #[default]
    Full,
    /// Compare metadata.
    Redo,
    /// Compare modification times.
    Time,
}

/// The words of `--snapshot-mode`.
pub(super) fn snapshot_modes() -> impl TypedValueParser<Value = SnapshotMode> {
    PossibleValuesParser::new(["full", "redo", "time"]).map(|word| match word.as_str() {
        "redo" => SnapshotMode::Redo,
        "time" => SnapshotMode::Time,
        _ => SnapshotMode::Full,
    })
}
