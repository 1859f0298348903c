//! Changes to a compressed tar, in one pass.

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
use super::tar::{Header, Writer};

/// Bytes of a file read at a time.
const CHUNK: usize = 128 * 1024;

/// A layer in its spool file.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The compressed blob.
    pub descriptor: Descriptor,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Where the blob is.
    pub path: PathBuf,
    /// Hashes of the content of all regular files in the layer, for [`Tree::absorb`].
    pub hashes: HashMap<PathBuf, ContentHash>,
}

/// Writes the changes of a tree to a new layer at `spool`.
///
/// # Errors
/// A changed file cannot be read or changes while it is read, the spool file cannot be written, or the build was asked to
/// stop. The spool file is left as it is then.
pub fn write(tree: &Tree, changes: &[Change], spool: &Path, options: &LayerOptions) -> Result<Layer, LayerError> {
    write_growing(tree, changes, spool, options, &GrowingFile::default())
}

/// The same for readers who do not wait: what has been written is read through `growing`, which is told of the end.
///
/// # Errors
/// Those of [`write()`].
pub fn write_growing(
    tree: &Tree,
    changes: &[Change],
    spool: &Path,
    options: &LayerOptions,
    growing: &GrowingFile,
) -> Result<Layer, LayerError> {
    let ((diff_id, hashes), descriptor) = spooled(spool, options, growing, |blocks| {
        let mut writing = Writing::new(tree, options, HashingWriter::new(blocks));
        for change in changes {
            writing.change(change)?;
        }
        let tar = writing.tar.finish().map_err(|source| LayerError::Compress { source })?;
        let (_, diff_id, _) = tar.finish();
        Ok((diff_id, writing.hashes))
    })?;
    Ok(Layer { descriptor, diff_id, path: spool.to_owned(), hashes })
}

/// Compresses a layer that is there as a tar to a new blob at `spool`.
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

/// Compresses what `fill` writes to a new file, which is read through `growing`.
fn spooled<T>(
    spool: &Path,
    options: &LayerOptions,
    growing: &GrowingFile,
    fill: impl FnOnce(&mut Blocks) -> Result<T, LayerError>,
) -> Result<(T, Descriptor), LayerError> {
    let compression = options.compression;
    let level = options.level.unwrap_or_else(|| compression.default_level());
    let _ending = Ending(growing);
    let file = Spool { file: fs::create(spool)?, size: 0, growing };
    growing.begin(fs::open(spool)?);
    let mut blob = HashingWriter::new(BufWriter::with_capacity(CHUNK, file));
    let filled =
        compress::compress(compression, level, options.threads, &mut blob, fill).map_err(|error| match error {
            // Compressing itself does not fail; what does is the writing behind it.
            LayerError::Compress { source } => fs::Error::new("write layer to", spool, source).into(),
            error => error,
        })?;
    let (mut file, digest, size) = blob.finish();
    file.flush().map_err(|source| fs::Error::new("write layer to", spool, source))?;
    growing.end(Ok(()));
    Ok((filled, Descriptor::new(compression.media_type(), digest, size)))
}

/// The file of a blob, whose readers are told how far it is.
struct Spool<'a> {
    file: File,
    size: u64,
    growing: &'a GrowingFile,
}

impl Write for Spool<'_> {
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

/// Whatever goes wrong, nobody waits for more than there will be.
struct Ending<'a>(&'a GrowingFile);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        // Says nothing new if the end was a good one.
        self.0.end(Err("the layer was given up".to_owned()));
    }
}

/// Writes the changes of a tree to `out` as a tar that is not compressed.
///
/// # Errors
/// A changed file cannot be read or changes while it is read, `out` cannot be written to, or the build was asked to stop.
pub fn write_tar(
    tree: &Tree,
    changes: &[Change],
    out: &mut dyn Write,
    options: &LayerOptions,
) -> Result<(), LayerError> {
    let mut writing = Writing::new(tree, options, out);
    let written = changes.iter().try_for_each(|change| writing.change(change));
    let finished =
        written.and_then(|()| writing.tar.finish().map(drop).map_err(|source| LayerError::Compress { source }));
    finished.map_err(|error| match error {
        // Nothing is compressed here.
        LayerError::Compress { source } => LayerError::Tar { source },
        error => error,
    })
}

struct Writing<'a, W> {
    tree: &'a Tree,
    options: &'a LayerOptions,
    tar: Writer<W>,
    /// The directory of the last change; the next one mostly is in the same.
    parent: Option<(PathBuf, OwnedFd)>,
    /// The first name of each file with several.
    links: HashMap<(u64, u64), PathBuf>,
    hashes: HashMap<PathBuf, ContentHash>,
    buffer: Vec<u8>,
}

impl<'a, W: Write> Writing<'a, W> {
    fn new(tree: &'a Tree, options: &'a LayerOptions, out: W) -> Self {
        Self {
            tree,
            options,
            tar: Writer::new(out),
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
            return written(self.tar.header(&Header::whiteout(whiteout.as_os_str().as_bytes())));
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
        let header = Header {
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: self.time(attributes.mtime),
            // A link's header has them too: who unpacks it sets the owner, which takes capabilities away.
            xattrs: Some(&attributes.xattrs),
            ..Header::whiteout(path.as_os_str().as_bytes())
        };
        if attributes.kind == FileKind::Directory {
            let name = [header.name, b"/"].concat();
            return written(self.tar.header(&Header { kind: b'5', name: &name, ..header }));
        }
        if status.link_count > 1 {
            let identity = (status.device, status.inode);
            if let Some(first) = self.links.get(&identity).cloned() {
                written(self.tar.header(&Header { kind: b'1', link_name: first.as_os_str().as_bytes(), ..header }))?;
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
                written(self.tar.header(&Header { kind: b'2', link_name: target.to_bytes(), ..header }))
            }
            FileKind::CharDevice { major, minor } => {
                written(self.tar.header(&Header { kind: b'3', device: (major, minor), ..header }))
            }
            FileKind::BlockDevice { major, minor } => {
                written(self.tar.header(&Header { kind: b'4', device: (major, minor), ..header }))
            }
            FileKind::Fifo => written(self.tar.header(&Header { kind: b'6', ..header })),
            FileKind::Socket | FileKind::Directory => {
                tracing::warn!(path = %path.display(), "a socket cannot be part of a layer and is left out");
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
        header: &Header<'_>,
    ) -> Result<(), LayerError> {
        let opened = sys::open_at(directory, name, OFlags::RDONLY | OFlags::NONBLOCK, 0)
            .and_then(|file| Ok((Status::of(&file)?.size, File::from(file))));
        let (expected, mut file) = opened.map_err(|errno| self.failed("open", path, errno))?;
        written(self.tar.header(&Header { size: expected, ..header.clone() }))?;
        let mut hasher = ContentHasher::new();
        let mut found = 0;
        loop {
            // One byte more than is left, to see a file that grows.
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

/// The tar goes to the compressor, so that is what a failing write is about.
fn written(result: io::Result<()>) -> Result<(), LayerError> {
    result.map_err(|source| LayerError::Compress { source })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fs::{Completion, GrowingFileReader, ReadAt as _};

    /// Bytes that stay as many when they are compressed: xorshift.
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
            // Waits for the content, which is the end of this test if none comes.
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
    fn a_layer_that_is_given_up_has_no_waiting_readers() {
        let directory = tempfile::tempdir().unwrap();
        for spool in [directory.path().join("layer"), directory.path().join("missing/layer")] {
            let growing = Arc::new(GrowingFile::default());
            let reader = GrowingFileReader::new(Arc::clone(&growing));
            let failed: Result<((), _), _> = spooled(&spool, &LayerOptions::default(), &growing, |blocks| {
                written(blocks.write_all(b"some"))?;
                Err(interrupt::Interrupted { signal: 15 }.into())
            });
            failed.unwrap_err();
            assert_eq!(reader.read_at(&mut [0; 9], 0).unwrap_err().to_string(), "the layer was given up");
        }
    }
}
