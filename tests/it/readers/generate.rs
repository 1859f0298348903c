//! Archives at random, header by header.

use std::fmt;

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

const SPECIALS: [Trait; 15] = [
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

/// An archive.
pub(super) struct Sample {
    pub(super) bytes: Vec<u8>,
    pub(super) special: Option<Trait>,
    /// The paths of its directories: the times of others, which it only implies, are nobody's.
    pub(super) directories: Vec<String>,
    /// What is in it, for messages.
    story: Vec<String>,
    seed: u64,
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "archive {:#x} ({:?}): {}", self.seed, self.special, self.story.join(", "))
    }
}

/// SplitMix64: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// How the header of a member is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Old,
    Ustar,
    Gnu,
    Pax,
}

/// The fields of one header.
#[derive(Clone)]
struct Fields {
    name: Vec<u8>,
    prefix: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    mode: u64,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    format: Format,
    /// Whether records may say something else of owner and time.
    may_vary: bool,
}

struct Writer {
    random: Random,
    bytes: Vec<u8>,
    story: Vec<String>,
    directories: Vec<String>,
    files: Vec<String>,
    /// Those that hard links name, as their headers say it: readers do not agree on whose header counts where the two differ.
    linkable: Vec<Fields>,
    /// Where headers of members begin.
    headers: Vec<usize>,
    names: u64,
}

/// The archive of a number.
pub(super) fn sample(seed: u64) -> Sample {
    let mut random = Random(seed);
    let special = if random.one_in(2) { Some(random.pick(&SPECIALS)) } else { None };
    let mut writer = Writer {
        random,
        bytes: Vec::new(),
        story: Vec::new(),
        directories: Vec::new(),
        files: Vec::new(),
        linkable: Vec::new(),
        headers: Vec::new(),
        names: 0,
    };
    let members = 1 + writer.random.below(7);
    let at = writer.random.below(members);
    for number in 0..members {
        writer.member();
        if number == at {
            writer.special(special);
        }
    }
    writer.end(special);
    let Writer { bytes, story, directories, .. } = writer;
    Sample { bytes, special, directories, story, seed }
}

impl Writer {
    fn member(&mut self) {
        match self.random.below(12) {
            0 | 1 => self.directory(),
            2 => self.symlink(),
            3 if !self.linkable.is_empty() => self.hard_link(),
            4 => self.fifo(),
            5 | 6 => self.sparse(),
            _ => self.file(),
        }
    }

    /// A name that no other member has, perhaps below a directory, perhaps a long one.
    fn name(&mut self) -> String {
        self.names += 1;
        let mut name = format!("n{}", self.names);
        match self.random.below(12) {
            0 => name.push_str(&"x".repeat(130)),
            1 => name.push_str(" \u{e4}\u{f6} $'\"\\ "),
            2 => name.push_str(&"l".repeat(93)),
            3 => name = format!("{}/{name}{}", "p".repeat(60), "q".repeat(60)),
            _ => {}
        }
        // Sometimes into a directory that there is, sometimes into one that nobody mentions.
        match self.random.below(5) {
            0 if !self.directories.is_empty() => {
                let above = self.directories
                    [usize::try_from(self.random.below(self.directories.len() as u64)).unwrap()]
                .clone();
                format!("{above}/{name}")
            }
            1 => format!("implied{}/{name}", self.random.below(3)),
            _ => name,
        }
    }

    /// A name as it is written: with slashes and dots that mean nothing.
    fn written(&mut self, name: &str) -> String {
        match self.random.below(8) {
            0 => format!("./{name}"),
            1 => name.replacen('/', "//", 1),
            2 => name.replacen('/', "/./", 1),
            _ => name.to_owned(),
        }
    }

    fn fields(&mut self, name: &str, kind: u8, size: u64) -> Fields {
        let format = self.random.pick(&[Format::Old, Format::Ustar, Format::Gnu, Format::Pax, Format::Pax]);
        Fields {
            name: self.written(name).into_bytes(),
            prefix: Vec::new(),
            link: Vec::new(),
            kind: if kind == b'0' && format == Format::Old { 0 } else { kind },
            mode: 0o700 | self.random.below(0o100),
            uid: self.random.pick(&[0, 1, 1000, 65_534, 2_097_151]),
            gid: self.random.pick(&[0, 5, 100, 2_097_151]),
            size,
            mtime: self.random.pick(&[0, 1, 1_600_000_000, 4_294_967_296, 8_589_934_591]),
            format,
            may_vary: true,
        }
    }

    fn content(&mut self) -> Vec<u8> {
        let size = self.random.pick(&[0, 1, 511, 512, 513, 1023, 1024, 1025, 10_240, 70_000]);
        let start = self.random.next();
        // Sometimes something that looks like a header.
        if size >= 1024 && self.random.one_in(3) {
            let fields = Fields {
                name: b"smuggled".to_vec(),
                prefix: Vec::new(),
                link: Vec::new(),
                kind: b'0',
                mode: 0o644,
                uid: 0,
                gid: 0,
                size: 0,
                mtime: 0,
                format: Format::Ustar,
                may_vary: false,
            };
            let mut content = header(&fields).repeat(usize::try_from(size / 512).unwrap());
            content.resize(usize::try_from(size).unwrap(), b's');
            return content;
        }
        (0..size).map(|at: u64| u8::try_from((start.wrapping_add(at * 7)) % 251).unwrap()).collect()
    }

    fn file(&mut self) {
        let name = if self.random.one_in(10) && !self.files.is_empty() {
            // Once more: the later one counts.
            self.files[usize::try_from(self.random.below(self.files.len() as u64)).unwrap()].clone()
        } else {
            self.name()
        };
        let content = self.content();
        let kind = self.random.pick(b"0007");
        let mut fields = self.fields(&name, kind, content.len() as u64);
        fields.may_vary = self.random.one_in(2);
        self.files.retain(|known| *known != name);
        self.linkable.retain(|known| known.name != name.as_bytes());
        if !fields.may_vary {
            self.linkable.push(Fields { name: name.clone().into_bytes(), ..fields.clone() });
        }
        self.files.push(name);
        self.put(fields, &content);
    }

    fn directory(&mut self) {
        let name = self.name();
        let slash = if self.random.one_in(2) { "/" } else { "" };
        let mut fields = self.fields(&name, b'5', 0);
        fields.name.extend_from_slice(slash.as_bytes());
        if fields.format == Format::Old {
            // There are no directories in the oldest format but by their names.
            (fields.kind, fields.format) = (b'5', Format::Ustar);
        }
        self.put(fields, b"");
        self.directories.push(name);
    }

    fn symlink(&mut self) {
        let target = self.random.pick(&["n1", "../up", "/absolute/target", "", "T"]);
        // GNU tar makes links that lead out last of all, and thereby moves the times of the directories that they are in.
        let name = match target {
            "../up" | "/absolute/target" => {
                self.names += 1;
                format!("n{}", self.names)
            }
            _ => self.name(),
        };
        let target = match target {
            "" => "t".repeat(99),
            "T" => "t/".repeat(80),
            target => target.to_owned(),
        };
        let mut fields = self.fields(&name, b'2', 0);
        fields.link = target.into_bytes();
        self.put(fields, b"");
    }

    fn hard_link(&mut self) {
        let name = self.name();
        let target = self.linkable[usize::try_from(self.random.below(self.linkable.len() as u64)).unwrap()].clone();
        let mut fields = self.fields(&name, b'1', 0);
        fields.link = self.written(&String::from_utf8(target.name).unwrap()).into_bytes();
        let Fields { mode, uid, gid, mtime, .. } = target;
        self.put(Fields { mode, uid, gid, mtime, may_vary: false, ..fields }, b"");
        self.files.push(name);
    }

    fn fifo(&mut self) {
        let name = self.name();
        let fields = self.fields(&name, b'6', 0);
        self.put(fields, b"");
    }

    /// A file of which the archive holds only the data, in one of the four ways there are.
    fn sparse(&mut self) {
        let name = self.name();
        let mut segments: Vec<(u64, u64)> = Vec::new();
        let mut at = 0;
        for _ in 0..self.random.below(7) {
            let offset = at + self.random.pick(&[0, 512, 4096, 100_000]);
            let length = self.random.pick(&[512, 1024, 4096]);
            segments.push((offset, length));
            at = offset + length;
        }
        let size = at + self.random.pick(&[0, 512, 50_000]);
        // Where the file ends with a hole, the map ends with an empty segment.
        segments.push((size, 0));
        self.sparse_of(&name, &segments, size);
    }

    fn sparse_of(&mut self, name: &str, segments: &[(u64, u64)], size: u64) {
        let stored: u64 = segments.iter().map(|(_, length)| length).sum();
        let start = self.random.next();
        let data: Vec<u8> = (0..stored).map(|at| u8::try_from(1 + start.wrapping_add(at * 3) % 251).unwrap()).collect();
        let version = self.random.below(4);
        let mut fields = self.fields(name, b'0', stored);
        self.story.push(format!("sparse version {version} {segments:?} of {size}"));
        if version == 3 {
            self.old_sparse(Fields { kind: b'S', format: Format::Gnu, ..fields }, segments, size, &data);
            return;
        }
        (fields.kind, fields.format) = (b'0', Format::Pax);
        let mut records = Vec::new();
        let mut content = Vec::new();
        match version {
            0 => {
                records.extend(record("GNU.sparse.size", &size.to_string()));
                records.extend(record("GNU.sparse.numblocks", &segments.len().to_string()));
                for (offset, length) in segments {
                    records.extend(record("GNU.sparse.offset", &offset.to_string()));
                    records.extend(record("GNU.sparse.numbytes", &length.to_string()));
                }
            }
            1 => {
                let map: Vec<String> = segments.iter().map(|(offset, length)| format!("{offset},{length}")).collect();
                records.extend(record("GNU.sparse.size", &size.to_string()));
                records.extend(record("GNU.sparse.numblocks", &segments.len().to_string()));
                records.extend(record("GNU.sparse.name", &String::from_utf8(fields.name.clone()).unwrap()));
                records.extend(record("GNU.sparse.map", &map.join(",")));
                fields.name = b"GNUSparseFile.1/x".to_vec();
            }
            _ => {
                records.extend(record("GNU.sparse.major", "1"));
                records.extend(record("GNU.sparse.minor", "0"));
                records.extend(record("GNU.sparse.name", &String::from_utf8(fields.name.clone()).unwrap()));
                records.extend(record("GNU.sparse.realsize", &size.to_string()));
                fields.name = b"GNUSparseFile.1/x".to_vec();
                let mut map = format!("{}\n", segments.len());
                for (offset, length) in segments {
                    map.push_str(&format!("{offset}\n{length}\n"));
                }
                content.extend_from_slice(map.as_bytes());
                content.resize(content.len().next_multiple_of(512), 0);
            }
        }
        content.extend_from_slice(&data);
        fields.size = content.len() as u64;
        self.put_with(fields, records, &content);
    }

    fn old_sparse(&mut self, mut fields: Fields, segments: &[(u64, u64)], size: u64, data: &[u8]) {
        if fields.name.len() > 100 {
            self.extension(b'L', &fields.name.clone());
            fields.name.truncate(100);
        }
        let mut block = header(&fields);
        let pair = |(offset, length): &(u64, u64)| [octal(*offset, 12), octal(*length, 12)].concat();
        for (number, segment) in segments.iter().take(4).enumerate() {
            let at = 386 + number * 24;
            block[at..at + 24].copy_from_slice(&pair(segment));
        }
        block[482] = u8::from(segments.len() > 4);
        block[483..495].copy_from_slice(&octal(size, 12));
        checksum(&mut block);
        self.headers.push(self.bytes.len());
        self.push(&block);
        let mut rest = segments.get(4..).unwrap_or_default();
        while !rest.is_empty() {
            let now = rest.len().min(21);
            let mut block: Vec<u8> = rest[..now].iter().flat_map(pair).collect();
            block.resize(512, 0);
            rest = &rest[now..];
            block[504] = u8::from(!rest.is_empty());
            self.push(&block);
        }
        self.push(data);
    }

    /// A member with what its format needs before it.
    fn put(&mut self, fields: Fields, content: &[u8]) {
        self.put_with(fields, Vec::new(), content);
    }

    fn put_with(&mut self, mut fields: Fields, mut records: Vec<u8>, content: &[u8]) {
        self.story.push(format!(
            "{:?} {:?} {:?} -> {:?} of {} bytes",
            fields.format,
            char::from(fields.kind),
            String::from_utf8_lossy(&fields.name),
            String::from_utf8_lossy(&fields.link),
            content.len()
        ));
        match fields.format {
            Format::Pax => {
                // Which of two sizes a later record means depends on the reader.
                let is_sparse = !records.is_empty();
                if fields.name.len() > 100 || (!is_sparse && self.random.one_in(4)) {
                    records.extend(record("path", &String::from_utf8(fields.name.clone()).unwrap()));
                    fields.name = b"short".to_vec();
                }
                if fields.link.len() > 100 || (!fields.link.is_empty() && self.random.one_in(4)) {
                    records.extend(record("linkpath", &String::from_utf8(fields.link.clone()).unwrap()));
                    fields.link = b"short".to_vec();
                }
                if fields.may_vary && self.random.one_in(3) {
                    records.extend(record(
                        "mtime",
                        &format!("{}.{}", fields.mtime, self.random.pick(&["5", "000000001", "25"])),
                    ));
                    fields.mtime = 7;
                }
                if fields.may_vary && self.random.one_in(3) {
                    records.extend(record("uid", &self.random.pick(&[3u64, 4_000_000_000]).to_string()));
                    records.extend(record("gid", "12345678"));
                }
                // The record counts for where the next header is, too (CVE-2025-62518).
                if !content.is_empty() && !is_sparse && self.random.one_in(3) {
                    records.extend(record("size", &content.len().to_string()));
                    fields.size = self.random.pick(&[0, 512, 1]);
                }
                if self.random.one_in(3) {
                    records.extend(record("comment", "of no meaning"));
                }
                if !records.is_empty() {
                    self.extension(b'x', &records);
                }
            }
            Format::Gnu | Format::Old => {
                if fields.name.len() > 100 || (fields.format == Format::Gnu && self.random.one_in(4)) {
                    self.extension(b'L', &[fields.name.clone(), vec![0]].concat());
                    fields.name.truncate(100);
                }
                if fields.link.len() > 100 {
                    self.extension(b'K', &[fields.link.clone(), vec![0]].concat());
                    fields.link.truncate(100);
                }
            }
            Format::Ustar => {
                if fields.name.len() > 100 {
                    match split(&fields.name) {
                        Some((prefix, name)) => (fields.prefix, fields.name) = (prefix, name),
                        None => {
                            self.extension(b'L', &[fields.name.clone(), vec![0]].concat());
                            fields.name.truncate(100);
                        }
                    }
                }
                if fields.link.len() > 100 {
                    self.extension(b'K', &[fields.link.clone(), vec![0]].concat());
                    fields.link.truncate(100);
                }
            }
        }
        self.headers.push(self.bytes.len());
        self.push(&header(&fields));
        self.push(content);
    }

    fn extension(&mut self, kind: u8, content: &[u8]) {
        let (name, format) = match kind {
            b'x' | b'g' => (&b"PaxHeaders/x"[..], Format::Ustar),
            _ => (&b"././@LongLink"[..], Format::Gnu),
        };
        let fields = Fields {
            name: name.to_vec(),
            prefix: Vec::new(),
            link: Vec::new(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: content.len() as u64,
            mtime: 0,
            format,
            may_vary: false,
        };
        self.push(&header(&fields));
        self.push(content);
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    /// What readers do not agree on, or all refuse.
    fn special(&mut self, special: Option<Trait>) {
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

    fn end(&mut self, special: Option<Trait>) {
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

/// A name in two parts, as ustar holds it.
fn split(name: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let at = (0..name.len())
        .find(|at| name[*at] == b'/' && *at > 0 && *at <= 155 && name.len() - at - 1 <= 100 && name.len() > at + 1)?;
    Some((name[..at].to_vec(), name[at + 1..].to_vec()))
}

/// A number in octal digits, or where they do not hold it, in base 256.
fn octal(number: u64, length: usize) -> Vec<u8> {
    let digits = format!("{number:0width$o}", width = length - 1);
    if digits.len() < length {
        return [digits.as_bytes(), &[0]].concat();
    }
    let mut field = vec![0; length];
    field[length - 8.min(length)..].copy_from_slice(&number.to_be_bytes()[8 - 8.min(length)..]);
    field[0] |= 0x80;
    field
}

fn header(fields: &Fields) -> Vec<u8> {
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

fn checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// One record of an extended header, which counts its own digits.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let digits = (1..).find(|digits| (rest.len() + digits).to_string().len() == *digits).unwrap();
    format!("{}{rest}", rest.len() + digits).into_bytes()
}
