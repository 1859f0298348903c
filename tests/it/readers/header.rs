//! The header of one member, as each format writes it.

/// How the header of a member is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Old,
    Ustar,
    Gnu,
    Pax,
}

/// The fields of one header.
#[derive(Clone)]
pub(super) struct Fields {
    pub(super) name: Vec<u8>,
    pub(super) prefix: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: u8,
    pub(super) mode: u64,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: u64,
    pub(super) format: Format,
    /// Whether records may say something else of owner and time.
    pub(super) may_vary: bool,
}

/// A name in two parts, as ustar holds it.
pub(super) fn split(name: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let at = (0..name.len())
        .find(|at| name[*at] == b'/' && *at > 0 && *at <= 155 && name.len() - at - 1 <= 100 && name.len() > at + 1)?;
    Some((name[..at].to_vec(), name[at + 1..].to_vec()))
}

/// A number in octal digits, or where they do not hold it, in base 256.
pub(super) fn octal(number: u64, length: usize) -> Vec<u8> {
    let digits = format!("{number:0width$o}", width = length - 1);
    if digits.len() < length {
        return [digits.as_bytes(), &[0]].concat();
    }
    let mut field = vec![0; length];
    field[length - 8.min(length)..].copy_from_slice(&number.to_be_bytes()[8 - 8.min(length)..]);
    field[0] |= 0x80;
    field
}

pub(super) fn header(fields: &Fields) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut set = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    set(0, &fields.name);
    set(100, &octal(fields.mode, 8));
    set(108, &octal(fields.uid, 8));
    set(116, &octal(fields.gid, 8));
    set(124, &octal(fields.size, 12));
    set(136, &octal(fields.mtime, 12));
    set(156, &[fields.kind]);
    set(157, &fields.link);
    match fields.format {
        Format::Old => {}
        Format::Gnu => set(257, b"ustar  \0"),
        Format::Ustar | Format::Pax => {
            set(257, b"ustar\x0000");
            set(345, &fields.prefix);
        }
    }
    checksum(&mut block);
    block
}

pub(super) fn checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
