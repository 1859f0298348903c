//! Writes tar: ustar headers, and PAX records only for values that do not fit into them (POSIX.1-2001, pax).

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use crate::fs::Timestamp;
use crate::fs::xattr::Xattrs;

const BLOCK: usize = 512;
/// The largest number in a field of seven octal digits.
const MAX_ID: u32 = 0o7_777_777;
/// The largest number in a field of eleven octal digits.
const MAX_LONG: u64 = 0o77_777_777_777;

/// The header of a member.
#[derive(Debug, Clone)]
pub(super) struct MemberHeader<'a> {
    /// The name, without a leading slash; a directory's ends with one.
    pub(super) name: &'a [u8],
    /// The type flag.
    pub(super) kind: u8,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// The modification time. Fractions of a second take a record.
    pub(super) mtime: Timestamp,
    /// The target of a symbolic link, or the file that a hard link names.
    pub(super) link_name: &'a [u8],
    pub(super) device: (u32, u32),
    pub(super) xattrs: Option<&'a Xattrs>,
}

/// Writes members to a stream.
#[derive(Debug)]
pub(super) struct TarWriter<W> {
    output: W,
}

impl<W: Write> TarWriter<W> {
    pub(super) fn new(output: W) -> Self {
        Self { output }
    }

    /// Writes a header. Content of exactly that size follows through [`TarWriter::content`], then [`TarWriter::pad`].
    pub(super) fn header(&mut self, header: &MemberHeader<'_>) -> io::Result<()> {
        let (block, records) = encode(header);
        if !records.is_empty() {
            let base = header.name.strip_suffix(b"/").unwrap_or(header.name);
            let base = base.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let name = [b"PaxHeaders.0/", base].concat();
            let extended = MemberHeader {
                name: &name[..name.len().min(100)],
                kind: b'x',
                mode: 0o644,
                size: records.len() as u64,
                ..MemberHeader::whiteout(&name)
            };
            self.output.write_all(&encode(&extended).0)?;
            self.output.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.output.write_all(&block)
    }

    /// Writes a part of the content.
    pub(super) fn content(&mut self, piece: &[u8]) -> io::Result<()> {
        self.output.write_all(piece)
    }

    /// Pads the last block after `size` bytes of content.
    pub(super) fn pad(&mut self, size: u64) -> io::Result<()> {
        let beyond = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if beyond > 0 {
            self.output.write_all(&[0; BLOCK][beyond..])?;
        }
        Ok(())
    }

    /// Writes the end of the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        Ok(self.output)
    }
}

impl<'a> MemberHeader<'a> {
    /// Returns the header of a whiteout: an empty file without permissions and time.
    pub(super) fn whiteout(name: &'a [u8]) -> Self {
        Self {
            name,
            kind: b'0',
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Timestamp::default(),
            link_name: b"",
            device: (0, 0),
            xattrs: None,
        }
    }
}

/// Encodes the header block, and records for values that do not fit, sorted by key.
fn encode(header: &MemberHeader<'_>) -> ([u8; BLOCK], Vec<u8>) {
    let mut block = [0; BLOCK];
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut record = |key: &str, value: Vec<u8>| records.push((key.as_bytes().to_vec(), value));
    let decimal = |number: &dyn std::fmt::Display| number.to_string().into_bytes();

    let (prefix, name) = split(header.name).unwrap_or_else(|| {
        record("path", header.name.to_vec());
        (&[], &header.name[..header.name.len().min(100)])
    });
    text(&mut block[0..100], name);
    text(&mut block[345..500], prefix);
    if header.link_name.len() > 100 {
        record("linkpath", header.link_name.to_vec());
    }
    text(&mut block[157..257], header.link_name);

    octal(&mut block[100..108], header.mode.into());
    for (field, key, id) in [(108..116, "uid", header.uid), (116..124, "gid", header.gid)] {
        if id > MAX_ID {
            record(key, decimal(&id));
        }
        octal(&mut block[field], if id > MAX_ID { 0 } else { id.into() });
    }
    if header.size > MAX_LONG {
        record("size", decimal(&header.size));
    }
    octal(&mut block[124..136], if header.size > MAX_LONG { 0 } else { header.size });
    let mtime = u64::try_from(header.mtime.seconds).ok().filter(|mtime| *mtime <= MAX_LONG);
    if mtime.is_none() || header.mtime.nanoseconds > 0 {
        record("mtime", decimal_time(header.mtime).into_bytes());
    }
    octal(&mut block[136..148], mtime.unwrap_or(0));
    block[156] = header.kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    // Major numbers of Linux have 12 bits and minor numbers 20, which fit.
    octal(&mut block[329..337], header.device.0.into());
    octal(&mut block[337..345], header.device.1.into());

    for (name, value) in header.xattrs.into_iter().flatten() {
        records.push(([b"SCHILY.xattr.", name.as_bytes()].concat(), value.clone()));
    }
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().copied().map(u64::from).sum();
    octal(&mut block[148..155], sum);
    records.sort();
    (block, records.iter().flat_map(|(key, value)| pax_record(key, value)).collect())
}

/// Formats seconds with as many decimals as needed. Times before 1970 are negative.
fn decimal_time(time: Timestamp) -> String {
    let Timestamp { seconds, nanoseconds } = time;
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    let (sign, whole, fraction) = match seconds {
        0.. => ("", seconds.unsigned_abs(), nanoseconds),
        _ => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
    };
    format!("{sign}{whole}.{fraction:09}").trim_end_matches('0').to_owned()
}

/// Returns a name's prefix and rest, if it fits into the two fields.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((&[], name));
    }
    // Splits as far to the right as possible, but not at the slash that ends a directory's name.
    let end = (name.len() - 1).min(156);
    let slash = name[..end].iter().rposition(|byte| *byte == b'/').filter(|slash| *slash > 0)?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (rest.len() <= 100).then_some((prefix, rest))
}

fn text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Writes octal digits up to the field's last byte, which stays zero.
fn octal(field: &mut [u8], mut number: u64) {
    let Some((_, digits)) = field.split_last_mut() else { return };
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 8).unwrap_or(0);
        number /= 8;
    }
}

/// Returns `length key=value
/// `, where the length includes its own digits.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_includes_its_own_length() {
        assert_eq!(pax_record(b"uid", b"3000000"), b"15 uid=3000000\n");
        // 99 and 100 are where another digit makes the record longer.
        for size in 80..120 {
            let record = pax_record(b"path", &vec![b'a'; size]);
            let digits = record.iter().position(|byte| *byte == b' ').expect("blank");
            let length: usize = std::str::from_utf8(&record[..digits]).expect("text").parse().expect("number");
            assert_eq!(length, record.len());
        }
    }

    #[test]
    fn names_are_split_to_fit_both_fields() {
        let long = [&[b'd'; 120][..], b"/", &[b'f'; 90]].concat();
        assert_eq!(split(&long).map(|(prefix, name)| (prefix.len(), name.len())), Some((120, 90)));
        assert_eq!(split(b"short"), Some((&b""[..], &b"short"[..])));
        assert_eq!(split(&[b'f'; 101]), None);
        assert_eq!(split(&[&[b'd'; 101][..], b"/"].concat()), None, "the rest would be empty");
        assert_eq!(split(&[&[b'd'; 160][..], b"/f"].concat()), None);
        assert_eq!(split(&[b"/", &[b'f'; 100][..]].concat()), None, "the prefix would be empty");
        let directory = [&[b'd'; 90][..], b"/", &[b'e'; 50], b"/"].concat();
        assert_eq!(split(&directory).map(|(prefix, name)| (prefix.len(), name.len())), Some((90, 51)));
        let deepest = [&[b'd'; 155][..], b"/", &[b'f'; 100]].concat();
        assert_eq!(split(&deepest).map(|(prefix, name)| (prefix.len(), name.len())), Some((155, 100)));
    }

    #[test]
    fn an_ordinary_file_needs_no_records() {
        let header = MemberHeader {
            mode: 0o4755,
            uid: MAX_ID,
            mtime: Timestamp::from_seconds(0o77_777_777_777),
            size: 5,
            ..MemberHeader::whiteout(b"bin/su")
        };
        let (block, records) = encode(&header);
        assert!(records.is_empty());
        assert_eq!(&block[100..108], b"0004755\0");
        assert_eq!(&block[136..148], b"77777777777\0");
    }

    #[test]
    fn fractions_of_a_second_are_decimals() {
        let text = |seconds, nanoseconds| decimal_time(Timestamp { seconds, nanoseconds });
        assert_eq!(text(12, 500_000_000), "12.5");
        assert_eq!(text(0, 1), "0.000000001");
        assert_eq!(text(-1, 750_000_000), "-0.25");
        assert_eq!(text(-3, 0), "-3");
        let header = MemberHeader { mtime: Timestamp { seconds: 7, nanoseconds: 30 }, ..MemberHeader::whiteout(b"f") };
        assert_eq!(encode(&header).1, b"20 mtime=7.00000003\n");
    }

    #[test]
    fn values_that_do_not_fit_are_in_records_sorted_by_key() {
        let xattrs = Xattrs::from([("security.capability".into(), vec![0, 1])]);
        let name = [b'n'; 150];
        let mtime = Timestamp::from_seconds(-1);
        let header = MemberHeader { uid: 3_000_000, mtime, xattrs: Some(&xattrs), ..MemberHeader::whiteout(&name) };
        let (_, records) = encode(&header);
        let records = String::from_utf8_lossy(&records).into_owned();
        let keys: Vec<&str> =
            records.lines().filter_map(|line| line.split_once(' ')?.1.split_once('=').map(|(key, _)| key)).collect();
        assert_eq!(keys, ["SCHILY.xattr.security.capability", "mtime", "path", "uid"]);
    }
}
