//! Parses POSIX extended header records: `length key=value\n`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::fs::Timestamp;
use crate::fs::xattr::{Xattrs, is_carried};

/// The fields of the next member that extended records set.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) name: Option<Vec<u8>>,
    pub(super) link_name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
    /// The attributes that images carry.
    pub(super) xattrs: Xattrs,
    pub(super) sparse: Sparse,
}

/// GNU's sparse files in PAX records, in three versions.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    /// Version 1.0: the map precedes the content.
    pub(super) map_in_content: bool,
    /// Versions 0.x: the map, alternating offset and length.
    pub(super) map: Option<Vec<u64>>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
}

impl Records {
    /// Parses the records of one extended header; later ones take precedence. The error is the name of the invalid
    /// part.
    pub(super) fn parse(mut text: &[u8]) -> Result<Self, &'static str> {
        const INVALID: &str = "extended record";
        let mut records = Self::default();
        while !text.is_empty() {
            // Some archivers pad with zeros.
            if text.iter().all(|byte| *byte == 0) {
                break;
            }
            let blank = text.iter().position(|byte| *byte == b' ').ok_or(INVALID)?;
            let length: usize = ascii(&text[..blank]).ok_or(INVALID)?;
            let record = text.get(blank + 1..length).ok_or(INVALID)?;
            let record = record.strip_suffix(b"\n").ok_or(INVALID)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(INVALID)?;
            records.set(&record[..equals], &record[equals + 1..])?;
            text = &text[length..];
        }
        Ok(records)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.") {
            let attribute = OsStr::from_bytes(attribute);
            if is_carried(attribute) {
                self.xattrs.insert(attribute.to_owned(), value.to_vec());
            }
            return Ok(());
        }
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.name = text(),
            b"linkpath" => self.link_name = text(),
            b"size" => self.size = optional(value).map_err(|()| "size record")?,
            b"uid" => self.uid = optional(value).map_err(|()| "uid record")?,
            b"gid" => self.gid = optional(value).map_err(|()| "gid record")?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(timestamp(value).ok_or("mtime record")?),
            b"GNU.sparse.major" => self.sparse.map_in_content = value == b"1",
            b"GNU.sparse.name" => self.sparse.name = text(),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.sparse.size = optional(value).map_err(|()| "sparse size record")?;
            }
            b"GNU.sparse.map" => {
                let map: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(ascii).collect();
                self.sparse.map = Some(map.ok_or("sparse map")?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.map.get_or_insert_default().push(ascii(value).ok_or("sparse map")?);
            }
            _ => {}
        }
        Ok(())
    }
}

fn ascii<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Parses a number; an empty value cancels an earlier record.
fn optional<T: std::str::FromStr>(value: &[u8]) -> Result<Option<T>, ()> {
    if value.is_empty() { Ok(None) } else { ascii(value).map(Some).ok_or(()) }
}

/// Parses decimal seconds, optionally with a fraction and a sign.
fn timestamp(value: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    if negative && nanoseconds > 0 {
        // The fraction of a negative time points away from zero; nanoseconds count forward.
        Some(Timestamp { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds })
    } else {
        Some(Timestamp { seconds, nanoseconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_by_their_length() {
        let records =
            Records::parse(b"21 path=with\nnewline\n12 uid=1234\n28 SCHILY.xattr.user.k=a=b\n\n\0\0").expect("records");
        assert_eq!(records.name.as_deref(), Some(&b"with\nnewline"[..]));
        assert_eq!(records.xattrs.get(OsStr::new("user.k")).map(Vec::as_slice), Some(&b"a=b\n"[..]));
        assert_eq!(records.uid, Some(1234));
    }

    #[test]
    fn broken_records_are_refused() {
        for text in
            [&b"x path=a\n"[..], b"99 path=a\n", b"9 path=ab\n", b"8 nokey\n", b"10 uid=x1\n", b"3 \n", b"0 a=b\n"]
        {
            assert!(Records::parse(text).is_err(), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(timestamp(b"12"), Some(Timestamp::from_seconds(12)));
        assert_eq!(timestamp(b"12.5"), Some(Timestamp { seconds: 12, nanoseconds: 500_000_000 }));
        assert_eq!(timestamp(b"-0.25"), Some(Timestamp { seconds: -1, nanoseconds: 750_000_000 }));
        assert_eq!(timestamp(b"-3"), Some(Timestamp::from_seconds(-3)));
        assert_eq!(timestamp(b"1.0000000019"), Some(Timestamp { seconds: 1, nanoseconds: 1 }));
        assert_eq!(timestamp(b"1.x"), None);
        assert_eq!(timestamp(b""), None);
    }
}
