//! Parses the header of a tar member: a block of 512 bytes.

use super::error::ArchiveError;

/// The size of a block. Everything in an archive is a multiple of it.
pub(super) const BLOCK: usize = 512;

/// The start of an old GNU sparse file's map.
pub(super) struct SparseStart {
    /// Offset and length of the first segments.
    pub(super) segments: Vec<(u64, u64)>,
    /// The size of the file.
    pub(super) size: u64,
    /// Whether blocks with more segments follow.
    pub(super) continued: bool,
}

/// A header block with a valid checksum.
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
    position: u64,
}

impl<'a> Header<'a> {
    /// Verifies the block at `position`.
    pub(super) fn new(block: &'a [u8; BLOCK], position: u64) -> Result<Self, ArchiveError> {
        let header = Self { block, position };
        let stored = header.unsigned(148, 8, "checksum").map_err(|_| ArchiveError::Checksum { position })?;
        // The checksum's own field counts as blanks. Some old archivers added signed bytes.
        let blanked = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
        let bytes = || block.iter().enumerate().map(|(at, byte)| blanked(at, *byte));
        let sum: u64 = bytes().map(u64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        if stored == sum || i64::try_from(stored) == Ok(signed) {
            Ok(header)
        } else {
            Err(ArchiveError::Checksum { position })
        }
    }

    pub(super) fn kind(&self) -> u8 {
        self.block[156]
    }

    /// Reports whether the fields after the link name are ustar's; GNU's differ in the last part.
    fn is_ustar(&self) -> bool {
        &self.block[257..263] == b"ustar\0"
    }

    /// Returns the name, including ustar's prefix.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = if self.is_ustar() { self.text(345, 155) } else { &[] };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link_name(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32, ArchiveError> {
        // Only the low bits have a meaning; some archivers add the file type.
        Ok(u32::try_from(self.number(100, 8, "mode")? & 0o7777).unwrap_or(0))
    }

    pub(super) fn uid(&self) -> Result<u32, ArchiveError> {
        u32::try_from(self.number(108, 8, "user id")?).map_err(|_| self.invalid("user id"))
    }

    pub(super) fn gid(&self) -> Result<u32, ArchiveError> {
        u32::try_from(self.number(116, 8, "group id")?).map_err(|_| self.invalid("group id"))
    }

    pub(super) fn size(&self) -> Result<u64, ArchiveError> {
        self.unsigned(124, 12, "size")
    }

    pub(super) fn modified(&self) -> Result<i64, ArchiveError> {
        self.number(136, 12, "modification time")
    }

    pub(super) fn device(&self) -> Result<(u32, u32), ArchiveError> {
        let major = u32::try_from(self.number(329, 8, "device number")?);
        let minor = u32::try_from(self.number(337, 8, "device number")?);
        major.and_then(|major| Ok((major, minor?))).map_err(|_| self.invalid("device number"))
    }

    /// Returns the start of an old GNU sparse file's map.
    pub(super) fn sparse(&self) -> Result<SparseStart, ArchiveError> {
        Ok(SparseStart {
            segments: sparse_segments(&self.block[386..482], self.position)?,
            size: self.unsigned(483, 12, "size")?,
            continued: self.block[482] != 0,
        })
    }

    fn invalid(&self, field: &'static str) -> ArchiveError {
        ArchiveError::Field { position: self.position, field }
    }

    fn text(&self, at: usize, length: usize) -> &'a [u8] {
        let field = &self.block[at..at + length];
        field.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn number(&self, at: usize, length: usize, field: &'static str) -> Result<i64, ArchiveError> {
        number(&self.block[at..at + length]).ok_or_else(|| self.invalid(field))
    }

    fn unsigned(&self, at: usize, length: usize, field: &'static str) -> Result<u64, ArchiveError> {
        u64::try_from(self.number(at, length, field)?).map_err(|_| self.invalid(field))
    }
}

/// Returns the segments in a part of an old GNU sparse map: pairs of offset and length, up to the first empty one.
pub(super) fn sparse_segments(field: &[u8], position: u64) -> Result<Vec<(u64, u64)>, ArchiveError> {
    let mut segments = Vec::new();
    for pair in field.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        let read = |field: &[u8]| number(field).and_then(|number| u64::try_from(number).ok());
        match (read(&pair[..12]), read(&pair[12..])) {
            (Some(offset), Some(length)) => segments.push((offset, length)),
            _ => return Err(ArchiveError::Field { position, field: "sparse map" }),
        }
    }
    Ok(segments)
}

/// Parses a number in octal digits, or in two's complement if the first bit is set (GNU).
fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // The second bit is the sign.
        let negative = first & 0x40 != 0;
        let start = i128::from(if negative { first | 0x80 } else { first & 0x7f }) - if negative { 256 } else { 0 };
        let mut value = start;
        for byte in field.get(1..)? {
            value = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
        }
        return i64::try_from(value).ok();
    }
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    let digits = std::str::from_utf8(text).ok()?.trim_matches(' ');
    if digits.is_empty() { Some(0) } else { i64::from_str_radix(digits, 8).ok() }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_come_in_octal_and_in_base_256() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644     ", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"0000648\0", None),
            (b"-000001\0", Some(-1)),
            (b"\x80\0\0\0\0\x2d\xc6\xc0", Some(3_000_000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf6", Some(-10)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }
}
