//! Computes digests of the files that a `COPY` would read, without copying them.
//!
//! The files are selected exactly as for the copy. The digest of a file covers everything that the image records of it
//! except its time. Many files are read in parallel, in small pieces, and each file once, however many steps copy it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::context::Verdict;
use crate::diag::interrupt;
use crate::fs::xattr::capability_alone;
use crate::fs::{self, FileKind, Timestamp};
use crate::image::{Digest, Hasher};
use crate::plan;
use crate::rootfs::{Node, RootfsError};

use super::error::CopyError;
use super::mode::ModeChange;
use super::selection::{Marks, Selection};
use super::source::CopySource;
use super::source::{Finder, FoundSource};
use super::step::find;

/// Bytes of a file that are in memory at a time.
const BUFFER_SIZE: usize = 128 * 1024;
/// More threads than this only wait for the disk.
const MAX_THREADS: usize = 16;

/// Digests of files that have been read, so that each is read once.
#[derive(Debug, Default)]
pub struct FileDigests {
    digests: Mutex<HashMap<FileVersion, Digest>>,
}

/// A file at one point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileVersion {
    identity: (u64, u64),
    size: u64,
    modified: (i64, u32),
}

impl FileVersion {
    fn of(node: &Node) -> Self {
        let Timestamp { seconds, nanoseconds } = node.attributes.mtime;
        Self { identity: node.identity, size: node.size, modified: (seconds, nanoseconds) }
    }
}

impl FileDigests {
    fn lock(&self) -> MutexGuard<'_, HashMap<FileVersion, Digest>> {
        self.digests.lock()
    }
}

/// A file, directory or link that would be copied.
struct DescribedFile {
    /// The requested source, and the path below it.
    name: PathBuf,
    /// The hash of everything except the content.
    described: Hasher,
    /// The content of a regular file, unless it is a further name of one.
    content: Option<(PathBuf, FileVersion)>,
}

/// Returns the digests of what the step would copy from `source`, by name. Remote sources and here-documents are not
/// included. The directory `excluded` (device and inode) counts as missing. With `with_top`, the attributes of a
/// directory whose contents are copied count as well, except those of a build context itself, which depend on the
/// checkout (BuildKit ignores them, too).
///
/// # Errors
/// As for the copy, as far as its sources are concerned.
pub fn contents(
    step: &plan::Copy,
    source: &CopySource<'_>,
    excluded: Option<(u64, u64)>,
    with_top: bool,
    known: &FileDigests,
) -> Result<Vec<(String, Digest)>, CopyError> {
    let mode = step.chmod.as_deref().filter(|chmod| !chmod.is_empty()).map(ModeChange::parse).transpose()?;
    let is_owned = step.chown.as_deref().is_some_and(|chown| !chown.is_empty());
    let finder = Finder::new(source);
    let mut items = Vec::new();
    for (position, written) in step.sources.iter().enumerate() {
        if step.remotes.contains_key(&position) {
            continue;
        }
        let (found, selection) = find(step, &finder, written)?;
        for item in &found {
            let walk = SourceWalk {
                finder: &finder,
                selection: &selection,
                mode: mode.as_ref(),
                is_owned,
                excluded,
                links: HashMap::new(),
                items: &mut items,
            };
            walk.top(item, with_top)?;
        }
    }
    read_contents(source, &items, known)?;
    let digests = known.lock();
    let finished = items.into_iter().map(|DescribedFile { name, mut described, content }| {
        if let Some(digest) = content.and_then(|(_, version)| digests.get(&version).cloned()) {
            described.update(digest.hex().as_bytes());
        }
        (as_text(&name), described.finish())
    });
    Ok(finished.collect())
}

/// Returns a name as text. Different names stay different: a byte that is not UTF-8 becomes `\xff`, a backslash is
/// doubled.
fn as_text(name: &Path) -> String {
    let mut text = String::new();
    for chunk in name.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, r"\x{byte:02x}");
        }
    }
    text
}

/// Adds the digest of every file to `known`.
fn read_contents(source: &CopySource<'_>, items: &[DescribedFile], known: &FileDigests) -> Result<(), CopyError> {
    let mut unread: HashMap<FileVersion, &Path> = HashMap::new();
    let digests = known.lock();
    let contents = items.iter().filter_map(|item| item.content.as_ref());
    unread.extend(
        contents
            .filter(|(_, version)| !digests.contains_key(version))
            .map(|(path, version)| (*version, path.as_path())),
    );
    drop(digests);
    let unread: Vec<(FileVersion, &Path)> = unread.into_iter().collect();
    let next = AtomicUsize::new(0);
    let read = || -> Result<(), CopyError> {
        let mut buffer = vec![0; BUFFER_SIZE];
        while let Some((version, path)) = unread.get(next.fetch_add(1, Ordering::Relaxed)) {
            interrupt::check()?;
            let digest = digest(source, path, &mut buffer)?;
            known.lock().insert(*version, digest);
        }
        Ok(())
    };
    // Few files are read faster than threads start.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(MAX_THREADS).min(unread.len() / 16 + 1);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(read)).collect();
        let mut result = read();
        for other in others {
            // A panic of a thread is passed on.
            result = result.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        result
    })
}

fn digest(source: &CopySource<'_>, path: &Path, buffer: &mut [u8]) -> Result<Digest, CopyError> {
    let mut file = source.tree.open_file(path)?;
    let mut hasher = Hasher::new();
    loop {
        let failed = |error| RootfsError::from(fs::Error::new("read", source.tree.path().join(path), error));
        match file.read(buffer).map_err(failed)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The walk through one source.
struct SourceWalk<'a> {
    finder: &'a Finder<'a>,
    selection: &'a Selection,
    mode: Option<&'a ModeChange>,
    /// Whether `--chown` sets the owner.
    is_owned: bool,
    excluded: Option<(u64, u64)>,
    /// Names of files that have several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    items: &'a mut Vec<DescribedFile>,
}

impl SourceWalk<'_> {
    fn top(mut self, found: &FoundSource, with_top: bool) -> Result<(), CopyError> {
        // The name matters if the destination is a directory.
        let name = found.requested.with_file_name(&found.name);
        if found.node.attributes.kind != FileKind::Directory {
            self.add(&name, &found.path, &found.node);
            return Ok(());
        }
        let is_context = self.finder.source.reset_owner && found.path.as_os_str().is_empty();
        if with_top && !is_context {
            self.add(&name, &found.path, &found.node);
        }
        self.directory(&found.path, &name, Path::new(""), found.verdict, Marks::default())
    }

    fn directory(
        &mut self,
        from: &Path,
        name: &Path,
        below: &Path,
        verdict: Verdict,
        marks: Marks,
    ) -> Result<(), CopyError> {
        for entry in self.finder.tree().list(from)? {
            interrupt::check()?;
            let (from, name, below) = (from.join(&entry), name.join(&entry), below.join(&entry));
            let marks = self.selection.marks(&below, marks);
            let selected = self.selection.takes(marks);
            if !selected && !self.selection.may_take_below(&below, marks) {
                continue;
            }
            let verdict = self.finder.ignore().verdict(&from, verdict);
            let Some(node) = self.finder.tree().node(&from)? else { continue };
            if !self.finder.is_visible(&from, node.attributes.kind, verdict)? || self.excluded == Some(node.identity) {
                continue;
            }
            match (node.attributes.kind, selected) {
                (FileKind::Directory, selected) => {
                    let before = self.items.len();
                    self.add(&name, &from, &node);
                    self.directory(&from, &name, &below, verdict, marks)?;
                    // A directory that is not selected itself is copied with the files below it.
                    if !selected && self.items.len() == before + 1 {
                        self.items.truncate(before);
                    }
                }
                (_, true) => self.add(&name, &from, &node),
                (_, false) => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &Path, from: &Path, node: &Node) {
        let kind = node.attributes.kind;
        let mut described = Hasher::new();
        let mut put = |bytes: &[u8]| {
            described.update(&(bytes.len() as u64).to_be_bytes());
            described.update(bytes);
        };
        let (letter, major, minor) = match kind {
            FileKind::File => (b'f', 0, 0),
            FileKind::Directory => (b'd', 0, 0),
            FileKind::Symlink => (b'l', 0, 0),
            FileKind::CharDevice { major, minor } => (b'c', major, minor),
            FileKind::BlockDevice { major, minor } => (b'b', major, minor),
            FileKind::Fifo => (b'p', 0, 0),
            // Images cannot hold sockets.
            FileKind::Socket => return,
        };
        let mode = match self.mode {
            Some(change) if kind != FileKind::Symlink => {
                change.apply(node.attributes.mode, kind == FileKind::Directory)
            }
            _ => node.attributes.mode,
        };
        put(&[letter]);
        [major, minor, mode].iter().for_each(|number| put(&number.to_be_bytes()));
        put(node.link_target.as_deref().unwrap_or_default().as_bytes());
        if !self.finder.source.reset_owner {
            if !self.is_owned {
                put(&node.attributes.uid.to_be_bytes());
                put(&node.attributes.gid.to_be_bytes());
            }
            let capabilities = capability_alone(&node.attributes.xattrs);
            put(&(capabilities.len() as u64).to_be_bytes());
            for (attribute, value) in capabilities {
                put(attribute.as_bytes());
                put(&value);
            }
        }
        let mut content = None;
        if kind == FileKind::File {
            match self.links.get(&node.identity) {
                Some(first) => put(first.as_os_str().as_bytes()),
                None => content = Some((from.to_owned(), FileVersion::of(node))),
            }
            if node.link_count > 1 {
                self.links.entry(node.identity).or_insert_with(|| name.to_owned());
            }
        }
        self.items.push(DescribedFile { name: name.to_owned(), described, content });
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{hard_link, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use crate::context::IgnoreMatcher;
    use crate::rootfs::Tree;

    use super::*;

    /// Returns what a step reads of a directory as a build context.
    fn read(directory: &Path, change: impl FnOnce(&mut plan::Copy)) -> Vec<(String, Digest)> {
        read_ignoring(directory, &IgnoreMatcher::default(), change)
    }

    fn read_ignoring(
        directory: &Path,
        ignore: &IgnoreMatcher,
        change: impl FnOnce(&mut plan::Copy),
    ) -> Vec<(String, Digest)> {
        let tree = Tree::open(directory).unwrap();
        let source = CopySource { tree: &tree, ignore: Some(ignore), reset_owner: true, describe: "context" };
        let mut step = plan::Copy {
            sources: vec![".".to_owned()],
            destination: "/".to_owned(),
            working_directory: "/".to_owned(),
            ..plan::Copy::default()
        };
        change(&mut step);
        contents(&step, &source, None, false, &FileDigests::default()).unwrap()
    }

    fn names(contents: &[(String, Digest)]) -> Vec<&str> {
        contents.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn context() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(path("src/deep")).unwrap();
        for (name, content) in [("a", "1"), ("src/b", "2"), ("src/deep/c", "3")] {
            write(path(name), content).unwrap();
            set_permissions(path(name), std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        symlink("a", path("link")).unwrap();
        directory
    }

    #[test]
    fn exactly_the_copied_files_are_named() {
        let directory = context();
        assert_eq!(names(&read(directory.path(), |_| ())), ["a", "link", "src", "src/b", "src/deep", "src/deep/c"]);
        let ignore = IgnoreMatcher::new(["src/deep", "link"]).unwrap();
        assert_eq!(names(&read_ignoring(directory.path(), &ignore, |_| ())), ["a", "src", "src/b"]);
        let excluded = read(directory.path(), |step| step.excludes = vec!["**/c".to_owned()]);
        assert_eq!(names(&excluded), ["a", "link", "src", "src/b", "src/deep"]);
        let parents = read(directory.path(), |step| {
            step.parents = true;
            step.sources = vec!["src/*/c".to_owned()];
        });
        assert_eq!(names(&parents), ["src", "src/deep", "src/deep/c"]);
        assert_eq!(names(&read(directory.path(), |step| step.sources = vec!["sr*".to_owned()])).len(), 3);
    }

    #[test]
    fn times_and_owners_of_a_context_do_not_count() {
        let directory = context();
        let before = read(directory.path(), |_| ());
        let path = directory.path().join("src/b");
        write(&path, "2").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        assert_eq!(read(directory.path(), |_| ()), before);
        assert_eq!(read(context().path(), |_| ()), before, "a different checkout");
    }

    #[test]
    fn contents_modes_targets_and_hard_links_count() {
        let directory = context();
        let path = |name: &str| directory.path().join(name);
        let mut seen = vec![read(directory.path(), |_| ())];
        let mut note = |what: &str| {
            let now = read(directory.path(), |_| ());
            assert!(!seen.contains(&now), "{what} does not count");
            seen.push(now);
        };
        write(path("src/b"), "x").unwrap();
        note("content");
        set_permissions(path("src/b"), std::fs::Permissions::from_mode(0o755)).unwrap();
        note("a mode");
        std::fs::remove_file(path("link")).unwrap();
        symlink("src", path("link")).unwrap();
        note("a link's target");
        write(path("d"), "1").unwrap();
        note("a new file");
        std::fs::remove_file(path("d")).unwrap();
        hard_link(path("a"), path("d")).unwrap();
        note("a further name of a file");
    }

    #[test]
    fn names_are_bytes() {
        use std::ffi::OsStr;
        let named = |name: &[u8]| {
            let directory = tempfile::tempdir().unwrap();
            write(directory.path().join(OsStr::from_bytes(name)), "1").unwrap();
            let [(name, _)]: [_; 1] = read(directory.path(), |_| ()).try_into().unwrap();
            name
        };
        let all: [&[u8]; 7] =
            [b"a\xff", b"a\xfe", "a\u{fffd}".as_bytes(), b"a\\xff", b"a\\\\xff", b"a\xc3", b"a\xc3\xa9"];
        let names = all.map(named);
        assert_eq!(names[0], r"a\xff");
        assert_eq!(names[3], r"a\\xff");
        assert_eq!(names[6], "a\u{e9}");
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }

    #[test]
    fn the_mode_of_a_mounted_directory_counts_unless_it_is_the_context_itself() {
        let directory = context();
        let mounted = |source: &str, reset_owner: bool| {
            let tree = Tree::open(directory.path()).unwrap();
            let source_of = CopySource { tree: &tree, ignore: None, reset_owner, describe: "context" };
            let step = plan::Copy { sources: vec![source.to_owned()], ..plan::Copy::default() };
            contents(&step, &source_of, None, true, &FileDigests::default()).unwrap()
        };
        let all = || [mounted(".", true), mounted("/", true), mounted("src", true), mounted(".", false)];
        let before = all();
        for path in ["", "src"] {
            set_permissions(directory.path().join(path), std::fs::Permissions::from_mode(0o711)).unwrap();
            let after = all();
            let same: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before == after).collect();
            let expected = if path.is_empty() { [true, true, true, false] } else { [false; 4] };
            assert_eq!(same, expected, "{path:?}");
        }
    }

    #[test]
    fn modes_of_files_do_not_count_if_the_step_sets_them() {
        let directory = context();
        let fixed = |step: &mut plan::Copy| step.chmod = Some("755".to_owned());
        let before = read(directory.path(), fixed);
        set_permissions(directory.path().join("a"), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(directory.path(), fixed), before);
    }

    #[test]
    fn many_files_are_read_in_parallel_and_once() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..200 {
            write(directory.path().join(format!("file{number}")), number.to_string()).unwrap();
        }
        let tree = Tree::open(directory.path()).unwrap();
        let source = CopySource { tree: &tree, ignore: None, reset_owner: true, describe: "context" };
        let step = plan::Copy { sources: vec![".".to_owned()], ..plan::Copy::default() };
        let known = FileDigests::default();
        let first = contents(&step, &source, None, false, &known).unwrap();
        assert_eq!(first.len(), 200);
        assert_eq!(known.lock().len(), 200);
        let distinct: std::collections::BTreeSet<&Digest> = first.iter().map(|(_, digest)| digest).collect();
        assert_eq!(distinct.len(), 200);
        assert_eq!(contents(&step, &source, None, false, &known).unwrap(), first);
    }
}
