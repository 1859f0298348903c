//! The map of a sparse file: the parts that the archive contains.

use super::error::ArchiveError;

/// The most segments of a map; GNU tar makes one for every run of data.
pub(super) const MAX_SEGMENTS: usize = 256 * 1024;

/// The next part of a member's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This number of bytes from the archive.
    Data(u64),
    /// This number of zeros.
    Zeros(u64),
    /// The end.
    End,
}

/// The position of a reader in a member's content.
#[derive(Debug, Default)]
pub(super) struct Map {
    /// Offset and length of the remaining segments, which are not empty, in reverse order.
    segments: Vec<(u64, u64)>,
    at: u64,
    size: u64,
}

impl Map {
    /// Returns the map of content that is completely in the archive.
    pub(super) fn dense(size: u64) -> Self {
        Self { segments: if size == 0 { Vec::new() } else { vec![(0, size)] }, at: 0, size }
    }

    /// Returns the map of content of `size` bytes, of which `stored` are in the archive.
    pub(super) fn sparse(
        segments: impl IntoIterator<Item = (u64, u64)>,
        size: u64,
        stored: u64,
        position: u64,
    ) -> Result<Self, ArchiveError> {
        let invalid = || ArchiveError::Field { position, field: "sparse map" };
        let mut checked = Vec::new();
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (offset, length) in segments {
            if offset < end {
                return Err(invalid());
            }
            end = offset.checked_add(length).filter(|end| *end <= size).ok_or_else(invalid)?;
            sum += length;
            if length > 0 {
                checked.push((offset, length));
            }
        }
        if sum != stored {
            return Err(invalid());
        }
        checked.reverse();
        Ok(Self { segments: checked, at: 0, size })
    }

    /// Returns the number of zeros that the archive does not contain, before anything is read. `None` on overflow.
    pub(super) fn holes(&self) -> Option<u64> {
        let stored = self.segments.iter().try_fold(0_u64, |sum, (_, length)| sum.checked_add(*length))?;
        self.size.checked_sub(stored)
    }

    /// Returns the size of the content.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn next(&self) -> Next {
        match self.segments.last() {
            Some((offset, _)) if *offset > self.at => Next::Zeros(offset - self.at),
            Some((offset, length)) => Next::Data(offset + length - self.at),
            None if self.at < self.size => Next::Zeros(self.size - self.at),
            None => Next::End,
        }
    }

    /// Records that this number of the bytes that [`Map::next`] announced were read.
    pub(super) fn advance(&mut self, bytes: u64) {
        self.at += bytes;
        if let Some((offset, length)) = self.segments.last()
            && self.at >= offset + length
        {
            self.segments.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_stand_between_segments_and_at_the_end() {
        let mut map = Map::sparse([(10, 5), (20, 0), (20, 1)], 30, 6, 0).expect("map");
        let mut seen = Vec::new();
        loop {
            let next = map.next();
            match next {
                Next::Data(bytes) | Next::Zeros(bytes) => map.advance(bytes),
                Next::End => break,
            }
            seen.push(next);
        }
        assert_eq!(seen, [Next::Zeros(10), Next::Data(5), Next::Zeros(5), Next::Data(1), Next::Zeros(9)]);
    }

    #[test]
    fn maps_that_overlap_or_do_not_fit_are_refused() {
        for (segments, size, stored) in [
            (vec![(0, 5), (4, 2)], 10, 7),
            (vec![(8, 5)], 10, 5),
            (vec![(0, 5)], 10, 6),
            (vec![(u64::MAX, 2)], u64::MAX, 2),
        ] {
            assert!(Map::sparse(segments, size, stored, 0).is_err());
        }
    }
}
