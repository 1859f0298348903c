//! Reads the members of an archive in order, without seeking.

use std::io::{self, Read};

use crate::fs::Timestamp;
use crate::fs::xattr::Xattrs;

use super::error::ArchiveError;
use super::header::{BLOCK, Header, SparseStart, sparse_segments};
use super::pax::Records;
use super::sparse::{MAX_SEGMENTS, Map, Next};

/// The most bytes of an extended header or a GNU long name: the limit of Go's archive/tar, which BuildKit uses.
const MAX_EXTENDED: u64 = 1 << 20;
/// The most bytes of a name or a link's target: the kernel's limit for a path.
const MAX_NAME: usize = 4096;
/// The most bytes of names and values of a member's extended attributes: the kernel's limit for one value.
const MAX_XATTRS: usize = 64 << 10;
/// The most bytes of holes in all sparse files of an archive. A hole takes no disk space, but its zeros are hashed.
const MAX_HOLES: u64 = 1 << 40;

/// A member of an archive, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name as the archive has it: it may be absolute, contain `..`, or end with a slash.
    pub name: Vec<u8>,
    /// The kind of the member.
    pub kind: MemberKind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The time of the last change of the content.
    pub mtime: Timestamp,
    /// The size of the content; 0 for all kinds but regular files.
    pub size: u64,
    /// The extended attributes that images carry; others are dropped.
    pub xattrs: Xattrs,
}

/// The kind of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file; its content is read from the [`Reader`].
    File,
    /// A further name of the file with this name, which is earlier in the archive or in a lower layer.
    HardLink(Vec<u8>),
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// Reads an archive from a stream. After [`Reader::next_member`] returned a regular file, the reader returns its
/// content; unread content is skipped.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// The number of bytes of the archive that have been read.
    position: u64,
    content: Map,
    /// Bytes of the current member that are still in the archive, and the padding after them.
    stored: u64,
    padding: u64,
    /// The bytes of holes that further sparse files may have.
    holes: u64,
    finished: bool,
}

impl<R: Read> Reader<R> {
    /// Starts at the first byte of an archive.
    pub fn new(input: R) -> Self {
        Self { input, position: 0, content: Map::default(), stored: 0, padding: 0, holes: MAX_HOLES, finished: false }
    }

    /// Returns the number of bytes of the archive that have been read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next member, or `None` at the end of the archive.
    ///
    /// # Errors
    /// The archive cannot be read or parsed.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        if self.finished {
            return Ok(None);
        }
        self.skip(self.stored.saturating_add(self.padding))?;
        (self.content, self.stored, self.padding) = (Map::default(), 0, 0);
        let mut extensions = Extensions::default();
        loop {
            let position = self.position;
            let Some(block) = self.header_block()? else {
                self.finished = true;
                return Ok(None);
            };
            let header = Header::new(&block, position)?;
            let invalid = |field| ArchiveError::Field { position, field };
            match header.kind() {
                b'x' | b'X' => {
                    extensions.records = Records::parse(&self.extended(&header, position)?).map_err(invalid)?;
                }
                // Records for the rest of the archive. Go's archive/tar treats them as a member of its own, which
                // discards the records for the next one, and BuildKit ignores it.
                b'g' => {
                    Records::parse(&self.extended(&header, position)?).map_err(invalid)?;
                    extensions = Extensions::default();
                }
                b'L' => extensions.name = until_zero(self.extended(&header, position)?),
                b'K' => extensions.link_name = until_zero(self.extended(&header, position)?),
                // A volume label.
                b'V' => drop(self.extended(&header, position)?),
                _ => return self.member(&header, extensions, position).map(Some),
            }
        }
    }

    fn member(&mut self, header: &Header<'_>, extensions: Extensions, position: u64) -> Result<Member, ArchiveError> {
        let Extensions { mut records, name: long_name, link_name: long_link } = extensions;
        // If a name is specified several times, the same one counts as in Go's archive/tar.
        let name = records.sparse.name.take().or(long_name).or(records.name.take()).unwrap_or_else(|| header.name());
        let link = long_link.or(records.link_name.take());
        let link = || {
            let name = link.unwrap_or_else(|| header.link_name());
            check_size(name.len(), MAX_NAME, "link name", position).map(|()| name)
        };
        check_size(name.len(), MAX_NAME, "name", position)?;
        let xattrs = std::mem::take(&mut records.xattrs);
        let xattrs_size = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        check_size(xattrs_size, MAX_XATTRS, "extended attributes", position)?;
        let kind = match header.kind() {
            b'0' | 0 | b'7' | b'S' if name.ends_with(b"/") => MemberKind::Directory,
            b'0' | 0 | b'7' | b'S' => MemberKind::File,
            b'1' => MemberKind::HardLink(link()?),
            b'2' => MemberKind::Symlink(link()?),
            b'3' | b'4' => {
                let (major, minor) = header.device()?;
                if header.kind() == b'3' {
                    MemberKind::CharDevice { major, minor }
                } else {
                    MemberKind::BlockDevice { major, minor }
                }
            }
            b'5' | b'D' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            kind => return Err(ArchiveError::Kind { position, kind }),
        };
        let member = Member {
            name,
            mode: header.mode()?,
            uid: records.uid.map_or_else(|| header.uid(), Ok)?,
            gid: records.gid.map_or_else(|| header.gid(), Ok)?,
            mtime: records.mtime.map_or_else(|| header.modified().map(Timestamp::from_seconds), Ok)?,
            size: 0,
            kind,
            xattrs,
        };
        // Links, devices and named pipes have no content even if they have a size.
        if matches!(header.kind(), b'1'..=b'6') {
            return Ok(member);
        }
        self.stored = records.size.map_or_else(|| header.size(), Ok)?;
        let padded = self.stored.checked_next_multiple_of(BLOCK as u64);
        self.padding = padded.ok_or(ArchiveError::Field { position, field: "size" })? - self.stored;
        self.content = if header.kind() == b'S' {
            let (size, segments) = self.old_sparse_map(header, position)?;
            Map::sparse(segments, size, self.stored, position)?
        } else if records.sparse.map_in_content {
            let segments = self.sparse_map_in_content(position)?;
            Map::sparse(segments, records.sparse.size.unwrap_or(0), self.stored, position)?
        } else if let Some(map) = &records.sparse.map {
            let segments = map.chunks(2).map(|pair| (pair[0], pair.get(1).copied().unwrap_or(0)));
            Map::sparse(segments, records.sparse.size.unwrap_or(0), self.stored, position)?
        } else {
            Map::dense(self.stored)
        };
        if member.kind != MemberKind::File {
            return Ok(member);
        }
        let holes = self.content.holes().unwrap_or(u64::MAX);
        self.holes = self.holes.checked_sub(holes).ok_or(ArchiveError::TooLarge {
            position,
            field: "holes",
            size: holes,
            limit: MAX_HOLES,
        })?;
        Ok(Member { size: self.content.size(), ..member })
    }

    /// Reads an old GNU sparse file's map, which continues in blocks after the header.
    fn old_sparse_map(&mut self, header: &Header<'_>, position: u64) -> Result<(u64, Vec<(u64, u64)>), ArchiveError> {
        let SparseStart { mut segments, size, mut continued } = header.sparse()?;
        while continued {
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            segments.extend(sparse_segments(&block[..504], position)?);
            check_segments(segments.len(), position)?;
            continued = block[504] != 0;
        }
        Ok((size, segments))
    }

    /// Reads the map of version 1.0, which precedes the content: lines with the number of segments, and the offset and
    /// length of each, padded to a block.
    fn sparse_map_in_content(&mut self, position: u64) -> Result<Vec<(u64, u64)>, ArchiveError> {
        let invalid = || ArchiveError::Field { position, field: "sparse map" };
        let mut numbers = Vec::new();
        let mut wanted = None;
        let mut line: Vec<u8> = Vec::new();
        loop {
            let mut block = [0; BLOCK];
            self.stored = self.stored.checked_sub(BLOCK as u64).ok_or_else(invalid)?;
            self.fill(&mut block)?;
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    // No number has more digits.
                    if line.len() > 20 {
                        return Err(invalid());
                    }
                    continue;
                }
                let number: u64 =
                    std::str::from_utf8(&line).ok().and_then(|line| line.parse().ok()).ok_or_else(invalid)?;
                line.clear();
                match wanted {
                    None => {
                        let segments = usize::try_from(number).map_err(|_| invalid())?;
                        check_segments(segments, position)?;
                        wanted = Some(segments * 2);
                    }
                    Some(_) => numbers.push(number),
                }
                if wanted == Some(numbers.len()) {
                    return Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
                }
            }
        }
    }

    /// Returns the content of a header that describes the next one.
    fn extended(&mut self, header: &Header<'_>, position: u64) -> Result<Vec<u8>, ArchiveError> {
        let size = header.size()?;
        if size > MAX_EXTENDED {
            return Err(ArchiveError::TooLarge { position, field: "extended header", size, limit: MAX_EXTENDED });
        }
        let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
        self.fill(&mut content)?;
        self.skip(size.next_multiple_of(BLOCK as u64) - size)?;
        Ok(content)
    }

    /// Returns the next header block; `None` at the end, which is a block of zeros or the end of the stream.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.read_input(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(ArchiveError::Truncated { position: self.position }),
                read => filled += read,
            }
        }
        Ok(block.iter().any(|byte| *byte != 0).then_some(block))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_input(&mut buffer[filled..])? {
                0 => return Err(ArchiveError::Truncated { position: self.position }),
                read => filled += read,
            }
        }
        Ok(())
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), ArchiveError> {
        let mut buffer = [0; 16 * 1024];
        while bytes > 0 {
            let want = usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
            match self.read_input(&mut buffer[..want])? {
                0 => return Err(ArchiveError::Truncated { position: self.position }),
                read => bytes -= read as u64,
            }
        }
        Ok(())
    }

    fn read_input(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            match self.input.read(buffer) {
                Ok(read) => {
                    self.position += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ArchiveError::Read { position: self.position, source }),
            }
        }
    }

    /// Reads the rest of the stream after the archive's end, so that its digest can be verified.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub fn finish(mut self) -> Result<(), ArchiveError> {
        let mut buffer = [0; 16 * 1024];
        while self.read_input(&mut buffer)? > 0 {}
        Ok(())
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.content.next() {
            Next::End => Ok(0),
            Next::Zeros(zeros) => {
                let count = usize::try_from(zeros).unwrap_or(usize::MAX).min(buffer.len());
                buffer[..count].fill(0);
                self.content.advance(count as u64);
                Ok(count)
            }
            Next::Data(bytes) => {
                let count = usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
                let read = self.read_input(&mut buffer[..count]).map_err(|error| match error {
                    ArchiveError::Read { source, .. } => source,
                    other => io::Error::other(other),
                })?;
                if read == 0 {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        ArchiveError::Truncated { position: self.position },
                    ));
                }
                self.stored -= read as u64;
                self.content.advance(read as u64);
                Ok(read)
            }
        }
    }
}

/// Extensions from preceding headers. A later one of the same kind replaces an earlier one, so that any number of them
/// takes the memory of one.
#[derive(Debug, Default)]
struct Extensions {
    records: Records,
    /// GNU's long name.
    name: Option<Vec<u8>>,
    /// GNU's long link name.
    link_name: Option<Vec<u8>>,
}

fn check_segments(segments: usize, position: u64) -> Result<(), ArchiveError> {
    check_size(segments.saturating_mul(16), MAX_SEGMENTS * 16, "sparse map", position)
}

fn check_size(size: usize, limit: usize, field: &'static str, position: u64) -> Result<(), ArchiveError> {
    if size <= limit {
        return Ok(());
    }
    Err(ArchiveError::TooLarge { position, field, size: size as u64, limit: limit as u64 })
}

/// Returns a name up to its first zero byte; `None` if it is empty.
fn until_zero(mut name: Vec<u8>) -> Option<Vec<u8>> {
    if let Some(end) = name.iter().position(|byte| *byte == 0) {
        name.truncate(end);
    }
    (!name.is_empty()).then_some(name)
}
