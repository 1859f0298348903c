//! Rules out most patterns for most paths by their first and last eight bytes.
//!
//! A context of a hundred thousand files and a file of two hundred patterns need twenty million matches, nearly all of
//! which fail. Two comparisons of words that are adjacent in memory decide them.

/// Bytes in a word.
const WIDTH: usize = size_of::<u64>();

/// The first and last bytes of a path. A path has no zero bytes, so zeros pad a short one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathEnds {
    head: u64,
    tail: u64,
}

impl PathEnds {
    pub(super) fn of(path: &[u8]) -> Self {
        Self::of_both(path, path)
    }

    fn of_both(start: &[u8], end: &[u8]) -> Self {
        let (mut head, mut tail) = ([0; WIDTH], [0; WIDTH]);
        let length = start.len().min(WIDTH);
        head[..length].copy_from_slice(&start[..length]);
        let length = end.len().min(WIDTH);
        tail[WIDTH - length..].copy_from_slice(&end[end.len() - length..]);
        Self { head: u64::from_le_bytes(head), tail: u64::from_le_bytes(tail) }
    }
}

/// The ends that a path must have to match a pattern.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefilter {
    wanted: PathEnds,
    mask: PathEnds,
}

impl Prefilter {
    /// Creates the filter of a pattern whose matches start with `prefix` and end with `suffix`.
    pub(super) fn new(prefix: &[u8], suffix: &[u8]) -> Self {
        let ones = |text: &[u8]| vec![u8::MAX; text.len().min(WIDTH)];
        Self { wanted: PathEnds::of_both(prefix, suffix), mask: PathEnds::of_both(&ones(prefix), &ones(suffix)) }
    }

    /// Reports whether a path with these ends may match.
    pub(super) fn may_match(&self, path: PathEnds) -> bool {
        path.head & self.mask.head == self.wanted.head && path.tail & self.mask.tail == self.wanted.tail
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_path_with_these_ends_passes(prefix in "[ab]{0,10}", middle in "[ab]{0,3}", suffix in "[ab]{0,10}") {
            let path = format!("{prefix}{middle}{suffix}");
            prop_assert!(Prefilter::new(prefix.as_bytes(), suffix.as_bytes()).may_match(PathEnds::of(path.as_bytes())));
        }

        #[test]
        fn a_path_with_other_ends_does_not_pass(prefix in "[ab]{0,8}", suffix in "[ab]{0,8}", path in "[ab]{0,12}") {
            let fits = path.starts_with(&prefix) && path.ends_with(&suffix);
            prop_assert_eq!(Prefilter::new(prefix.as_bytes(), suffix.as_bytes()).may_match(PathEnds::of(path.as_bytes())), fits);
        }
    }
}
