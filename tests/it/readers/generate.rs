//! Archives at random, header by header.

use std::fmt;

use super::header::{Fields, Format, checksum, header, octal, split};
use super::special::{SPECIALS, Trait};
use crate::support::archive::record;

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
pub(super) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

pub(super) struct Writer {
    pub(super) random: Random,
    pub(super) bytes: Vec<u8>,
    story: Vec<String>,
    pub(super) directories: Vec<String>,
    files: Vec<String>,
    /// Those that hard links name, as their headers say it: readers do not agree on whose header counts where the two differ.
    linkable: Vec<Fields>,
    /// Where headers of members begin.
    pub(super) headers: Vec<usize>,
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

    pub(super) fn fields(&mut self, name: &str, kind: u8, size: u64) -> Fields {
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

    pub(super) fn file(&mut self) {
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

    pub(super) fn sparse_of(&mut self, name: &str, segments: &[(u64, u64)], size: u64) {
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
    pub(super) fn put(&mut self, fields: Fields, content: &[u8]) {
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

    pub(super) fn extension(&mut self, kind: u8, content: &[u8]) {
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

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }
}
