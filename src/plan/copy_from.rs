//! Where a `COPY` or a mount takes its files from.

/// Where a `COPY` or a mount takes its files from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyFrom {
    /// The build context.
    #[default]
    Context,
    /// A directory given as `--build-context`, by its number.
    Directory(usize),
    /// An earlier entry of [`Plan::stages`](super::Plan::stages).
    Stage(usize),
    /// An entry of [`Plan::images`](super::Plan::images).
    Image(usize),
}
