//! Packs a cache mount's directory into an archive, and unpacks it.
//!
//! The archive is a layer with exact times. Others can write to the place that it comes back from, so it is unpacked by
//! strict rules, which our own archives follow: names are plain, each member is in a directory of the archive, hard
//! links name members of the archive, there are no devices, and everything is bounded. An archive that breaks a rule is
//! refused as a whole. Links are never followed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::diag::interrupt::{self};
use crate::executor::copy::UnpackLimits;
use crate::fs::FileKind;
use crate::layer::{self, Compression, Layer, LayerOptions};
use crate::rootfs::archive::{Member, MemberKind, Reader};
use crate::rootfs::{Attributes, Tree};

use super::error::CacheArchiveError;
use super::survey::contents;

/// Permission bits with which the build can fill a directory.
const WORKING_MODE: u32 = 0o700;
/// Bytes that a member takes in an archive in addition to its content: headers, records, names.
const OVERHEAD: u64 = 4 << 10;
/// The max_bytes bytes of directories' names and extended attributes, which are in memory until the end.
const MAX_DIRECTORIES: usize = 64 << 20;

/// Writes all files of a tree to a new layer at `spool`.
///
/// # Errors
/// A file cannot be read or changes meanwhile, the layer cannot be written, or the build was asked to stop.
pub fn pack(tree: &Tree, spool: &Path) -> Result<Layer, CacheArchiveError> {
    let options = LayerOptions { compression: Compression::Zstd, exact_times: true, ..LayerOptions::default() };
    Ok(layer::write(tree, &contents(tree)?, spool, &options)?)
}

/// Unpacks a decompressed archive into a new directory. The tree records owners that cannot be set. The stream is read
/// to its end, so that a digest computed from it covers all of it.
///
/// # Errors
/// The archive cannot be read, is refused or exceeds a limit, a file cannot be written, or the build was asked to stop.
/// The caller removes the files unpacked so far.
pub fn unpack(directory: &Path, archive: impl Read, limits: UnpackLimits) -> Result<Tree, CacheArchiveError> {
    // Headers and skipped bytes count as well: a few bytes of input may be decompressed for hours.
    let max_bytes = limits.entries.saturating_add(1).saturating_mul(OVERHEAD).saturating_add(limits.bytes);
    let mut bounded = archive.take(max_bytes);
    let mut unpacking = CacheUnpacking {
        tree: Tree::create(directory)?,
        directories: BTreeMap::new(),
        room: MAX_DIRECTORIES,
        limits,
        left: limits,
    };
    let result = unpacking.members(&mut bounded);
    if bounded.limit() == 0 {
        return Err(CacheArchiveError::TooLarge { limit: limits.bytes });
    }
    result?;
    unpacking.finish()
}

struct CacheUnpacking {
    tree: Tree,
    /// The directories of the archive so far. Mode and time are set last, when nothing more is put into them.
    directories: BTreeMap<PathBuf, Attributes>,
    /// The bytes that further directories may take.
    room: usize,
    limits: UnpackLimits,
    left: UnpackLimits,
}

impl CacheUnpacking {
    fn members(&mut self, archive: impl Read) -> Result<(), CacheArchiveError> {
        let mut reader = Reader::new(archive);
        while let Some(member) = reader.next_member().map_err(CacheArchiveError::Archive)? {
            interrupt::check()?;
            self.member(&member, &mut reader)?;
        }
        reader.finish().map_err(CacheArchiveError::Archive)
    }

    fn finish(mut self) -> Result<Tree, CacheArchiveError> {
        for (path, attributes) in &self.directories {
            self.tree.set_attributes(path, attributes)?;
        }
        Ok(self.tree)
    }

    fn member(&mut self, member: &Member, content: &mut impl Read) -> Result<(), CacheArchiveError> {
        let refused = |problem| CacheArchiveError::Foreign {
            member: String::from_utf8_lossy(&member.name).into_owned(),
            problem,
        };
        // A sparse file counts with its full size, because its zeros take space when they are written.
        let UnpackLimits { entries, bytes } = self.limits;
        self.left.entries =
            self.left.entries.checked_sub(1).ok_or(CacheArchiveError::TooManyEntries { limit: entries })?;
        self.left.bytes =
            self.left.bytes.checked_sub(member.size).ok_or(CacheArchiveError::TooLarge { limit: bytes })?;
        let path = self.place(&member.name).map_err(refused)?;
        if self.tree.node(&path)?.is_some() {
            return Err(refused("comes twice"));
        }
        let attributes = |kind| Attributes {
            kind,
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            mtime: member.mtime,
            xattrs: member.xattrs.clone(),
        };
        match &member.kind {
            MemberKind::Directory => {
                let attributes = attributes(FileKind::Directory);
                let xattrs = attributes.xattrs.iter().map(|(name, value)| name.len() + value.len());
                let taken = path.as_os_str().len() + xattrs.sum::<usize>();
                let limit = MAX_DIRECTORIES;
                self.room = self.room.checked_sub(taken).ok_or(CacheArchiveError::TooManyDirectories { limit })?;
                let working = Attributes { mode: attributes.mode | WORKING_MODE, ..attributes.clone() };
                self.tree.create_directory(&path, &working)?;
                self.directories.insert(path, attributes);
            }
            MemberKind::File => drop(self.tree.create_file(&path, &attributes(FileKind::File), content)?),
            MemberKind::Symlink(target) => {
                self.tree.create_symlink(&path, OsStr::from_bytes(target), &attributes(FileKind::Symlink))?;
            }
            MemberKind::HardLink(target) => {
                let target = self.place(target).map_err(|_| refused("is a hard link out of the cache"))?;
                let is_file = |kind| kind != FileKind::Directory;
                if !self.tree.node(&target)?.is_some_and(|node| is_file(node.attributes.kind)) {
                    return Err(refused("is a hard link to a missing file"));
                }
                self.tree.create_hard_link(&target, &path)?;
            }
            MemberKind::Fifo => self.tree.create_special(&path, &attributes(FileKind::Fifo))?,
            MemberKind::CharDevice { .. } | MemberKind::BlockDevice { .. } => {
                return Err(refused("is a device"));
            }
        }
        Ok(())
    }

    /// Returns the path of a member, whose directory must be in this archive.
    fn place(&self, name: &[u8]) -> Result<PathBuf, &'static str> {
        let path = Path::new(OsStr::from_bytes(name));
        if !path.components().all(|component| matches!(component, Component::Normal(_))) {
            return Err("leads out of the cache");
        }
        match path.parent() {
            None => Err("has no name"),
            Some(above) if above.as_os_str().is_empty() || self.directories.contains_key(above) => {
                // Without the slash at the end of a directory's name.
                Ok(path.components().collect())
            }
            Some(_) => Err("is not in a directory of the cache"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    use super::*;

    const LIMITS: UnpackLimits = UnpackLimits { entries: 50, bytes: 10_000 };

    fn archive_of(directory: &Path) -> Vec<u8> {
        let spool = directory.with_extension("spool");
        let layer = pack(&Tree::open(directory).unwrap(), &spool).unwrap();
        let mut plain = Vec::new();
        let packed = Cursor::new(fs::read(&spool).unwrap());
        layer::reader(packed, &layer.descriptor.media_type).unwrap().read_to_end(&mut plain).unwrap();
        plain
    }

    #[test]
    fn unpacking_restores_everything() {
        let place = tempfile::tempdir().unwrap();
        let (here, there) = (place.path().join("here"), place.path().join("there"));
        fs::create_dir_all(here.join("closed/deep")).unwrap();
        fs::write(here.join("closed/deep/file"), "content").unwrap();
        fs::write(here.join(".wh.file"), "no whiteout").unwrap();
        fs::hard_link(here.join("closed/deep/file"), here.join("linked")).unwrap();
        symlink("/etc/passwd", here.join("out")).unwrap();
        symlink("closed", here.join("in")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, here.join("pipe"), rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
        drop(std::os::unix::net::UnixListener::bind(here.join("socket")).unwrap());
        let moment = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
        fs::File::open(here.join("linked")).unwrap().set_modified(moment).unwrap();
        fs::set_permissions(here.join("linked"), PermissionsExt::from_mode(0o4751)).unwrap();
        fs::File::open(here.join("closed")).unwrap().set_modified(moment).unwrap();
        fs::set_permissions(here.join("closed"), PermissionsExt::from_mode(0o1555)).unwrap();

        let archive = archive_of(&here);
        unpack(&there, archive.as_slice(), LIMITS).unwrap();
        assert_eq!(archive_of(&there), archive, "the copy has the same archive");
        assert_eq!(fs::read_to_string(there.join("closed/deep/file")).unwrap(), "content");
        let (one, other) =
            (there.join("linked").metadata().unwrap(), there.join("closed/deep/file").metadata().unwrap());
        assert_eq!((one.ino(), one.mode() & 0o7777, one.modified().unwrap()), (other.ino(), 0o4751, moment));
        let closed = there.join("closed").metadata().unwrap();
        assert_eq!((closed.mode() & 0o1555, closed.modified().unwrap()), (0o1555, moment));
        assert_eq!(fs::read_link(there.join("out")).unwrap(), Path::new("/etc/passwd"));
        assert!(there.join(".wh.file").exists() && there.join("pipe").exists() && !there.join("socket").exists());
    }

    #[test]
    fn owners_that_cannot_be_set_are_recorded() {
        let place = tempfile::tempdir().unwrap();
        let there = place.path().join("there");
        let mut header = header(b"file", b'0', b"");
        header.set_uid(3_000_000_000);
        header.set_gid(12);
        let tree = unpack(&there, archive(&[header.clone()]).as_slice(), LIMITS).unwrap();
        let moved = place.path().join("moved");
        fs::rename(&there, &moved).unwrap();
        let node = tree.moved_to(&moved).unwrap().node(Path::new("file")).unwrap().unwrap();
        assert_eq!((node.attributes.uid, node.attributes.gid), (3_000_000_000, 12));
    }

    fn header(name: &[u8], kind: u8, target: &[u8]) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        let fields = header.as_ustar_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name);
        fields.linkname[..target.len()].copy_from_slice(target);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(1);
        header
    }

    /// An archive of members without content.
    fn archive(headers: &[tar::Header]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for header in headers {
            let mut header = header.clone();
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
        }
        bytes.extend_from_slice(&[0; 1024]);
        bytes
    }

    #[test]
    fn archives_that_break_a_rule_are_refused() {
        let directory = header(b"d/", b'5', b"");
        let link = header(b"l", b'2', b"/");
        let file = header(b"f", b'0', b"");
        let cases: &[(&str, Vec<tar::Header>, &str)] = &[
            ("climbs", vec![header(b"../x", b'0', b"")], "leads out of the cache"),
            ("climbs later", vec![directory.clone(), header(b"d/../../x", b'0', b"")], "leads out of the cache"),
            ("absolute", vec![header(b"/x", b'0', b"")], "leads out of the cache"),
            ("the directory itself", vec![header(b"./", b'5', b"")], "leads out of the cache"),
            ("no name", vec![header(b"", b'0', b"")], "has no name"),
            ("through a link", vec![link.clone(), header(b"l/x", b'0', b"")], "is not in a directory of the cache"),
            ("through a file", vec![file.clone(), header(b"f/x", b'0', b"")], "is not in a directory of the cache"),
            ("nowhere", vec![header(b"a/b", b'0', b"")], "is not in a directory of the cache"),
            ("a link replaces a directory", vec![directory.clone(), header(b"d", b'2', b"/")], "comes twice"),
            ("a directory replaces a link", vec![link.clone(), header(b"l/", b'5', b"")], "comes twice"),
            ("twice", vec![file.clone(), file], "comes twice"),
            ("hard link out", vec![header(b"h", b'1', b"/etc/passwd")], "is a hard link out of the cache"),
            ("hard link up", vec![header(b"h", b'1', b"../x")], "is a hard link out of the cache"),
            (
                "hard link through a link",
                vec![link, header(b"h", b'1', b"l/etc/passwd")],
                "is a hard link out of the cache",
            ),
            ("hard link to nothing", vec![header(b"h", b'1', b"x")], "is a hard link to a missing file"),
            ("hard link to a directory", vec![directory, header(b"h", b'1', b"d")], "is a hard link to a missing file"),
            ("hard link to itself", vec![header(b"h", b'1', b"h")], "is a hard link to a missing file"),
            ("character device", vec![header(b"c", b'3', b"")], "is a device"),
            ("block device", vec![header(b"b", b'4', b"")], "is a device"),
        ];
        for (name, headers, expected) in cases {
            let place = tempfile::tempdir().unwrap();
            match unpack(&place.path().join("new"), archive(headers).as_slice(), LIMITS) {
                Err(CacheArchiveError::Foreign { problem, .. }) => assert_eq!(problem, *expected, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
            assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "{name}");
        }
    }

    #[test]
    fn entries_and_bytes_are_bounded() {
        let unpacked = |archive: &mut dyn Read, limits| {
            let place = tempfile::tempdir().unwrap();
            unpack(&place.path().join("new"), archive, limits).map(drop).map_err(|error| error.to_string())
        };
        let names: Vec<tar::Header> = (0..4).map(|number| header(&[b'a' + number], b'0', b"")).collect();
        let few = UnpackLimits { entries: 4, ..LIMITS };
        assert_eq!(unpacked(&mut archive(&names).as_slice(), few), Ok(()));
        let fewer = UnpackLimits { entries: 3, ..LIMITS };
        assert_eq!(unpacked(&mut archive(&names).as_slice(), fewer), Err("it has more than 3 files".to_owned()));
        let mut large = header(b"large", b'0', b"");
        large.set_size(10_001);
        let too_large = Err("it unpacks to more than 10000 bytes (--cache-mounts-limit)".to_owned());
        assert_eq!(unpacked(&mut archive(&[large]).as_slice().chain(std::io::repeat(0)), LIMITS), too_large);
        // Bytes after the end, and headers, take time but no space.
        assert_eq!(unpacked(&mut archive(&names).as_slice().chain(std::io::repeat(0)), LIMITS), too_large);
        let mut record = header(b"x", b'x', b"");
        record.set_size(1 << 20);
        let mut records = archive(&[record])[..512].to_vec();
        records.resize(512 + (1 << 20), b'\n');
        assert!(unpacked(&mut records.as_slice(), LIMITS).is_err());
        assert!(unpacked(&mut &archive(&names)[..700], few).is_err(), "it ends early");
    }

    /// A small archive may name many directories, each with a long name.
    #[test]
    fn memory_for_directories_is_bounded() {
        let nested = archive(&[header(b"a/", b'5', b""), header(b"a/bc/", b'5', b""), header(b"a/bc/d", b'0', b"")]);
        for (room, fits) in [(5, true), (4, false)] {
            let place = tempfile::tempdir().unwrap();
            let tree = Tree::create(place.path().join("new")).unwrap();
            let mut unpacking =
                CacheUnpacking { tree, directories: BTreeMap::new(), room, limits: LIMITS, left: LIMITS };
            let result = unpacking.members(nested.as_slice());
            assert_eq!(matches!(result, Err(CacheArchiveError::TooManyDirectories { .. })), !fits, "{room}");
            assert_eq!(result.is_ok(), fits, "{room}");
        }
    }
}
