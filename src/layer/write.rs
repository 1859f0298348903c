//! Writes changes as a compressed tar, in one pass.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::diag::interrupt;
use crate::fs::{self, FileKind, GrowingFile, Status, Timestamp, sys};
use crate::image::{Descriptor, Digest, HashingWriter, media_type};
use crate::rootfs::{Change, ChangeKind, ContentHash, ContentHasher, Tree};

use super::compress::{self, Blocks};
use super::error::LayerError;
use super::options::LayerOptions;
use super::tar::{MemberHeader, TarWriter};

/// Bytes of a file that are read at a time.
const CHUNK: usize = 128 * 1024;

/// A layer in a file.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The descriptor of the compressed blob.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The path of the blob.
    pub path: PathBuf,
    /// Content hashes of all regular files in the layer, for [`Tree::absorb`].
    pub hashes: HashMap<PathBuf, ContentHash>,
}

/// Writes the changes of a tree to a new layer at `spool`.
///
/// # Errors
/// A changed file cannot be read or changes meanwhile, the spool file cannot be written, or the build was asked to
/// stop. The spool file is not removed.
pub fn write(tree: &Tree, changes: &[Change], spool: &Path, options: &LayerOptions) -> Result<Layer, LayerError> {
    write_growing(tree, changes, spool, options, &GrowingFile::default())
}

/// Writes a layer like [`write()`]; `growing` can be read meanwhile, and is ended.
///
/// # Errors
/// As for [`write()`].
pub fn write_growing(
    tree: &Tree,
    changes: &[Change],
    spool: &Path,
    options: &LayerOptions,
    growing: &GrowingFile,
) -> Result<Layer, LayerError> {
    let ((diff_id, hashes), descriptor) = spooled(spool, options, growing, |blocks| {
        let mut writing = LayerWriter::new(tree, options, HashingWriter::new(blocks));
        for change in changes {
            writing.change(change)?;
        }
        let tar = writing.tar.finish().map_err(|source| LayerError::Compress { source })?;
        let (_, diff_id, _) = tar.finish();
        Ok((diff_id, writing.hashes))
    })?;
    Ok(Layer { descriptor, diff_id, path: spool.to_owned(), hashes })
}

/// Compresses a tar to a new blob at `spool`.
///
/// # Errors
/// The tar cannot be read, the spool file cannot be written, or the build was asked to stop.
pub fn compress(mut tar: impl Read, spool: &Path, options: &LayerOptions) -> Result<Descriptor, LayerError> {
    let unreadable = |source| LayerError::Read { media_type: media_type::OCI_LAYER.to_owned(), source };
    let ((), descriptor) = spooled(spool, options, &GrowingFile::default(), |blocks| {
        let mut buffer = vec![0; CHUNK];
        loop {
            interrupt::check()?;
            match tar.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => written(blocks.write_all(&buffer[..read]))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
    })?;
    Ok(descriptor)
}

/// Compresses the output of `fill` to a new file, which can be read through `growing`.
fn spooled<T>(
    spool: &Path,
    options: &LayerOptions,
    growing: &GrowingFile,
    fill: impl FnOnce(&mut Blocks) -> Result<T, LayerError>,
) -> Result<(T, Descriptor), LayerError> {
    let compression = options.compression;
    let level = options.level.unwrap_or_else(|| compression.default_level());
    let _ending = EndOnDrop(growing);
    let file = BlobFile { file: fs::create(spool)?, size: 0, growing };
    growing.begin(fs::open(spool)?);
    let mut blob = HashingWriter::new(BufWriter::with_capacity(CHUNK, file));
    let filled =
        compress::compress(compression, level, options.threads, &mut blob, fill).map_err(|error| match error {
            // Compression itself does not fail, only writing its output.
            LayerError::Compress { source } => fs::Error::new("write layer to", spool, source).into(),
            error => error,
        })?;
    let (mut file, digest, size) = blob.finish();
    file.flush().map_err(|source| fs::Error::new("write layer to", spool, source))?;
    growing.end(Ok(()));
    Ok((filled, Descriptor::new(compression.media_type(), digest, size)))
}

/// The file of a blob. Its readers see the bytes written so far.
struct BlobFile<'a> {
    file: File,
    size: u64,
    growing: &'a GrowingFile,
}

impl Write for BlobFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        self.growing.advance_to(self.size);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Ends the growing file on any error, so that its readers do not wait for ever.
struct EndOnDrop<'a>(&'a GrowingFile);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        // Has no effect if the file has ended.
        self.0.end(Err("the layer was not completed".to_owned()));
    }
}

/// Writes the changes of a tree to `out` as an uncompressed tar.
///
/// # Errors
/// A changed file cannot be read or changes meanwhile, `out` cannot be written to, or the build was asked to stop.
pub fn write_tar(
    tree: &Tree,
    changes: &[Change],
    out: &mut dyn Write,
    options: &LayerOptions,
) -> Result<(), LayerError> {
    let mut writing = LayerWriter::new(tree, options, out);
    let written = changes.iter().try_for_each(|change| writing.change(change));
    let finished =
        written.and_then(|()| writing.tar.finish().map(drop).map_err(|source| LayerError::Compress { source }));
    finished.map_err(|error| match error {
        // Nothing is compressed here.
        LayerError::Compress { source } => LayerError::Tar { source },
        error => error,
    })
}

struct LayerWriter<'a, W> {
    tree: &'a Tree,
    options: &'a LayerOptions,
    tar: TarWriter<W>,
    /// The directory of the last change; the next one is mostly in the same directory.
    parent: Option<(PathBuf, OwnedFd)>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
    hashes: HashMap<PathBuf, ContentHash>,
    buffer: Vec<u8>,
}

impl<'a, W: Write> LayerWriter<'a, W> {
    fn new(tree: &'a Tree, options: &'a LayerOptions, out: W) -> Self {
        Self {
            tree,
            options,
            tar: TarWriter::new(out),
            parent: None,
            links: HashMap::new(),
            hashes: HashMap::new(),
            buffer: vec![0; CHUNK],
        }
    }

    fn change(&mut self, change: &Change) -> Result<(), LayerError> {
        interrupt::check()?;
        let path = change.path.as_path();
        let Some(name) = path.file_name() else {
            return Err(self.failed("put into a layer", path, Errno::INVAL));
        };
        let above = path.parent().unwrap_or(Path::new(""));
        if change.kind == ChangeKind::Removed {
            let whiteout = above.join(OsStr::from_bytes(&[b".wh.", name.as_bytes()].concat()));
            return written(self.tar.header(&MemberHeader::whiteout(whiteout.as_os_str().as_bytes())));
        }
        let (directory_path, directory) = match self.parent.take().filter(|(path, _)| path == above) {
            Some(parent) => parent,
            None => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let opened = self.tree.root().open_at(above, flags);
                (above.to_owned(), opened.map_err(|errno| self.failed("open directory", above, errno))?)
            }
        };
        self.file(directory.as_fd(), name, path)?;
        self.parent = Some((directory_path, directory));
        Ok(())
    }

    fn file(&mut self, directory: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), LayerError> {
        let status = Status::at(directory, name).map_err(|errno| self.failed("look at", path, errno))?;
        let attributes = self
            .tree
            .attributes_at(directory, name, &status)
            .map_err(|errno| self.failed("read attributes of", path, errno))?;
        let header = MemberHeader {
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: self.time(attributes.mtime),
            // The header of a hard link has them, too: unpacking sets the owner, which clears capabilities.
            xattrs: Some(&attributes.xattrs),
            ..MemberHeader::whiteout(path.as_os_str().as_bytes())
        };
        if attributes.kind == FileKind::Directory {
            let name = [header.name, b"/"].concat();
            return written(self.tar.header(&MemberHeader { kind: b'5', name: &name, ..header }));
        }
        if status.link_count > 1 {
            let identity = (status.device, status.inode);
            if let Some(first) = self.links.get(&identity).cloned() {
                written(self.tar.header(&MemberHeader {
                    kind: b'1',
                    link_name: first.as_os_str().as_bytes(),
                    ..header
                }))?;
                if let Some(hash) = self.hashes.get(&first).copied() {
                    self.hashes.insert(path.to_owned(), hash);
                }
                return Ok(());
            }
            self.links.insert(identity, path.to_owned());
        }
        match attributes.kind {
            FileKind::File => self.content(directory, name, path, &header),
            FileKind::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new())
                    .map_err(|errno| self.failed("read link", path, errno))?;
                written(self.tar.header(&MemberHeader { kind: b'2', link_name: target.to_bytes(), ..header }))
            }
            FileKind::CharDevice { major, minor } => {
                written(self.tar.header(&MemberHeader { kind: b'3', device: (major, minor), ..header }))
            }
            FileKind::BlockDevice { major, minor } => {
                written(self.tar.header(&MemberHeader { kind: b'4', device: (major, minor), ..header }))
            }
            FileKind::Fifo => written(self.tar.header(&MemberHeader { kind: b'6', ..header })),
            FileKind::Socket | FileKind::Directory => {
                tracing::warn!(path = %path.display(), "socket left out: layers cannot hold sockets");
                Ok(())
            }
        }
    }

    fn time(&self, time: Timestamp) -> Timestamp {
        let time = if self.options.exact_times { time } else { Timestamp::from_seconds(time.seconds) };
        self.options.clamp_mtime.map_or(time, |latest| time.min(Timestamp::from_seconds(latest)))
    }

    fn content(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        header: &MemberHeader<'_>,
    ) -> Result<(), LayerError> {
        let opened = sys::open_at(directory, name, OFlags::RDONLY | OFlags::NONBLOCK, 0)
            .and_then(|file| Ok((Status::of(&file)?.size, File::from(file))));
        let (expected, mut file) = opened.map_err(|errno| self.failed("open", path, errno))?;
        written(self.tar.header(&MemberHeader { size: expected, ..header.clone() }))?;
        let mut hasher = ContentHasher::new();
        let mut found = 0;
        loop {
            // Reads one byte more than expected, to detect a file that grows.
            let left = usize::try_from(expected - found).unwrap_or(usize::MAX);
            let want = left.saturating_add(1).min(self.buffer.len());
            let read = match file.read(&mut self.buffer[..want]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(fs::Error::new("read", self.tree.path().join(path), source).into()),
            };
            let piece = &self.buffer[..read];
            if read > left || (read == 0 && left > 0) {
                let path = self.tree.path().join(path);
                return Err(LayerError::FileChanged { path, expected, found: found + read as u64 });
            }
            if read == 0 {
                break;
            }
            hasher.update(piece);
            written(self.tar.content(piece))?;
            found += read as u64;
            interrupt::check()?;
        }
        written(self.tar.pad(expected))?;
        self.hashes.insert(path.to_owned(), hasher.finish());
        Ok(())
    }

    fn failed(&self, verb: &'static str, path: &Path, errno: Errno) -> LayerError {
        fs::Error::new(verb, self.tree.path().join(path), errno).into()
    }
}

/// Converts a failed write: the tar goes to the compressor.
fn written(result: io::Result<()>) -> Result<(), LayerError> {
    result.map_err(|source| LayerError::Compress { source })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fs::{Completion, GrowingFileReader, ReadAt as _};

    /// Incompressible bytes (xorshift).
    fn noise(bytes: usize) -> Vec<u8> {
        let next = |last: &u64| {
            let mixed = last ^ (last << 13);
            let mixed = mixed ^ (mixed >> 7);
            Some(mixed ^ (mixed << 17))
        };
        std::iter::successors(Some(1), next).flat_map(u64::to_le_bytes).take(bytes).collect()
    }

    #[test]
    fn a_layer_is_read_before_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let spool = directory.path().join("layer");
        let growing = Arc::new(GrowingFile::default());
        let reader = GrowingFileReader::new(Arc::clone(&growing));
        let mut buffer = vec![0; 64 << 10];
        let ((), descriptor) = spooled(&spool, &LayerOptions::default(), &growing, |blocks| {
            written(blocks.write_all(&noise(3 << 20)))?;
            // Waits for content; without it, the test does not end.
            assert!(reader.read_at(&mut buffer, 0).unwrap() > 0);
            assert!(!growing.is_over());
            written(blocks.write_all(b"the rest"))
        })
        .unwrap();
        assert_eq!(reader.wait(), Completion::Complete);
        let mut all = Vec::new();
        loop {
            match reader.read_at(&mut buffer, all.len() as u64).unwrap() {
                0 => break,
                read => all.extend_from_slice(&buffer[..read]),
            }
        }
        assert_eq!((Digest::sha256_of(&all), all.len() as u64), (descriptor.digest, descriptor.size));
    }

    #[test]
    fn an_incomplete_layer_has_no_waiting_readers() {
        let directory = tempfile::tempdir().unwrap();
        for spool in [directory.path().join("layer"), directory.path().join("missing/layer")] {
            let growing = Arc::new(GrowingFile::default());
            let reader = GrowingFileReader::new(Arc::clone(&growing));
            let failed: Result<((), _), _> = spooled(&spool, &LayerOptions::default(), &growing, |blocks| {
                written(blocks.write_all(b"some"))?;
                Err(interrupt::Interrupted { signal: 15 }.into())
            });
            failed.unwrap_err();
            assert_eq!(reader.read_at(&mut [0; 9], 0).unwrap_err().to_string(), "the layer was not completed");
        }
    }
}
