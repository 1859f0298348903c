//! The source of a `COPY` or a mount.

/// The source of a `COPY` or a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyFrom {
    /// The build context.
    #[default]
    Context,
    /// A directory of `--build-context`, by its number.
    Directory(usize),
    /// An earlier entry of [`Plan::stages`](super::Plan::stages).
    Stage(usize),
    /// An entry of [`Plan::images`](super::Plan::images).
    Image(usize),
}
