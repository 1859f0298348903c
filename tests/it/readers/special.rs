//! What readers are known not to agree on, put into an archive.

use super::generate::Writer;
use super::header::{Fields, Format, checksum, header, octal};
use crate::support::archive::record;

/// What readers are known not to agree on. An archive has one of them at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trait {
    /// Records for the whole archive (`g`).
    GlobalRecords,
    /// Two extended headers before one member.
    TwoRecordHeaders,
    /// A record and a GNU long name that give one member two names.
    RecordsAndLongName,
    /// A name with `..` in it.
    NameClimbs,
    /// A member that lies behind a symbolic link.
    ThroughLink,
    /// A type flag that no format defines.
    UnknownKind,
    /// A directory with a size, and content behind it.
    DirectoryWithSize,
    /// A symbolic link with a size, and no content.
    LinkWithSize,
    /// A header that was changed on the way.
    BadChecksum,
    /// An archive that ends within a header.
    CutInHeader,
    /// An archive that ends within content.
    CutInContent,
    /// A sparse file whose map overlaps or is too large.
    SparseMapWrong,
    /// A hard link to a name that is not there.
    MissingLinkTarget,
    /// A size that is negative, or larger than the archive.
    SizeWrong,
    /// A record that does not say its length.
    RecordBroken,
}

pub(super) const SPECIALS: [Trait; 15] = [
    Trait::GlobalRecords,
    Trait::TwoRecordHeaders,
    Trait::RecordsAndLongName,
    Trait::NameClimbs,
    Trait::ThroughLink,
    Trait::UnknownKind,
    Trait::DirectoryWithSize,
    Trait::LinkWithSize,
    Trait::BadChecksum,
    Trait::CutInHeader,
    Trait::CutInContent,
    Trait::SparseMapWrong,
    Trait::MissingLinkTarget,
    Trait::SizeWrong,
    Trait::RecordBroken,
];

impl Writer {
    /// What readers do not agree on, or all refuse.
    pub(super) fn special(&mut self, special: Option<Trait>) {
        let Some(special) = special else { return };
        let name = format!("special{}", self.random.below(1000));
        let mut fields = self.fields(&name, b'0', 0);
        fields.format = Format::Ustar;
        fields.kind = b'0';
        match special {
            Trait::GlobalRecords => {
                let said = self.random.pick(&["mtime", "uid", "path", "comment"]);
                let value = if said == "path" { "renamed" } else { "4321" };
                self.extension(b'g', &record(said, value));
                self.put(fields, b"");
                self.file();
            }
            Trait::TwoRecordHeaders => {
                self.extension(b'x', &record("mtime", "4321"));
                self.extension(b'x', &record("uid", "77"));
                self.put(Fields { size: 1, ..fields }, b"x");
            }
            Trait::RecordsAndLongName => {
                let said = [record("path", "by-record"), record("mtime", "5")].concat();
                let mut extensions = [(b'x', said), (b'L', b"by-long-name\0".to_vec())];
                if self.random.one_in(2) {
                    extensions.reverse();
                }
                for (kind, content) in extensions {
                    self.extension(kind, &content);
                }
                self.put(Fields { size: 1, ..fields }, b"x");
            }
            Trait::NameClimbs => {
                let name = self.random.pick(&["a/../b", "../outside", "a/../../outside", "..", "a/.."]);
                self.put(Fields { name: name.into(), size: 7, ..fields }, b"climbed");
            }
            Trait::ThroughLink => {
                let target = self.random.pick(&[".", "real", "/", "../.."]);
                self.put(Fields { name: b"real/".to_vec(), kind: b'5', ..fields.clone() }, b"");
                self.directories.push("real".to_owned());
                self.put(Fields { name: b"door".to_vec(), link: target.into(), kind: b'2', ..fields.clone() }, b"");
                self.put(Fields { name: b"door/behind".to_vec(), size: 6, ..fields }, b"behind");
            }
            Trait::UnknownKind => {
                let kind = self.random.pick(b"Zz8NM");
                self.put(Fields { kind, ..fields }, b"");
            }
            Trait::DirectoryWithSize => {
                let content = header(&Fields { name: b"behind".to_vec(), ..fields.clone() });
                self.put(Fields { kind: b'5', size: 512, ..fields }, &content);
                self.directories.push(name);
            }
            Trait::LinkWithSize => {
                let size = self.random.pick(&[1, 512, 5000]);
                self.put(Fields { kind: b'2', size, link: b"target".to_vec(), ..fields }, b"");
                self.file();
            }
            Trait::MissingLinkTarget => {
                self.put(Fields { kind: b'1', link: b"nowhere".to_vec(), ..fields }, b"");
            }
            Trait::SparseMapWrong => {
                let (segments, size) = match self.random.below(3) {
                    0 => (vec![(0, 1024), (512, 1024)], 10_000),
                    1 => (vec![(0, 512), (9_000, 1024)], 10_000),
                    _ => (vec![(4096, 512), (0, 512)], 10_000),
                };
                self.sparse_of(&name, &segments, size);
            }
            Trait::SizeWrong => {
                let mut block = header(&fields);
                if self.random.one_in(2) {
                    block[124..136].copy_from_slice(&[0xff; 12]);
                } else {
                    block[124..136].copy_from_slice(&octal(1 << 30, 12));
                }
                checksum(&mut block);
                self.push(&block);
            }
            Trait::RecordBroken => {
                let broken = self.random.pick(&["99 path=a\n", "x path=a\n", "9 path=ab\n", "8 nokey\n", "0 a=b\n"]);
                self.extension(b'x', broken.as_bytes());
                self.put(fields, b"");
            }
            // Those of the archive as a whole.
            Trait::BadChecksum | Trait::CutInHeader | Trait::CutInContent => {}
        }
    }

    pub(super) fn end(&mut self, special: Option<Trait>) {
        match special {
            Some(Trait::BadChecksum) => {
                let at = self.random.pick(&self.headers);
                self.bytes[at + 2] ^= 0x21;
            }
            Some(Trait::CutInHeader) => {
                let at = self.random.pick(&self.headers);
                let cut = 1 + usize::try_from(self.random.below(511)).unwrap();
                self.bytes.truncate(at + cut);
                return;
            }
            Some(Trait::CutInContent) => {
                let fields = Fields { kind: b'0', format: Format::Ustar, ..self.fields("cut", b'0', 3000) };
                self.put(fields, &[b'c'; 3000]);
                let cut = usize::try_from(100 + self.random.below(2900)).unwrap();
                self.bytes.truncate(self.bytes.len() - cut);
                return;
            }
            _ => {}
        }
        // Two blocks of zeros, filled up to a record or not; some archivers write none.
        match self.random.below(8) {
            0 => {}
            1 => self.bytes.resize((self.bytes.len() + 1024).next_multiple_of(10_240), 0),
            _ => self.bytes.resize(self.bytes.len() + 1024, 0),
        }
    }
}
