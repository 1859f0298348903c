//! Reads Docker archives: those of `docker save`, `--tar-path` and other builders.
//!
//! The archive is scanned once, and its members are then read in place. `manifest.json` names members, never paths of
//! this machine, and links only lead to other members.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::diag::Hint;
use crate::fs::gated;

use super::ImageConfig;

/// The most bytes of `manifest.json` or a configuration.
const MAX_DOCUMENT: u64 = 8 << 20;
/// The most members of an archive.
const MAX_MEMBERS: usize = 100_000;
/// The most bytes of an archive that are read to find its members.
const MAX_HEADERS: u64 = 64 << 20;
/// The longest chain of links.
const MAX_LINKS: usize = 8;

/// Why a file is not the archive of an image.
#[derive(Debug, thiserror::Error)]
pub enum DockerArchiveError {
    /// The file cannot be read.
    #[error("failed to read the archive {}", path.display())]
    Read {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not a tar, or not one of an image.
    #[error("{} is not an archive of docker save: {problem}", path.display())]
    NotAnArchive {
        /// The archive.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
    /// A document is not the expected JSON.
    #[error("failed to read {member} of {} as JSON", path.display())]
    Json {
        /// The archive.
        path: PathBuf,
        /// The document.
        member: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Hint for DockerArchiveError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } => source.hint(),
            Self::NotAnArchive { .. } | Self::Json { .. } => None,
        }
    }
}

/// An image in an archive.
#[derive(Debug, Clone)]
pub struct SavedImage {
    /// The configuration's bytes, whose digest is the image's ID.
    pub config_bytes: Vec<u8>,
    /// The configuration.
    pub config: ImageConfig,
    /// The layers, lowest first, compressed or not.
    pub layers: Vec<ArchivedLayer>,
}

/// A layer in an archive.
#[derive(Debug, Clone)]
pub struct ArchivedLayer {
    /// Its name in the archive.
    pub member: String,
    file: Arc<File>,
    place: ByteRange,
}

#[derive(Debug, Clone, Copy)]
struct ByteRange {
    offset: u64,
    size: u64,
}

impl ArchivedLayer {
    /// Returns a reader of its bytes.
    #[must_use]
    pub fn open(&self) -> impl Read + use<> {
        Member { file: Arc::clone(&self.file), place: self.place }
    }
}

/// Reads a range of a file.
struct Member {
    file: Arc<File>,
    place: ByteRange,
}

impl Read for Member {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.place.size).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..want], self.place.offset)?;
        if read == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.place.offset += read as u64;
        self.place.size -= read as u64;
        Ok(read)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    layers: Vec<String>,
}

/// Reads the only image of the archive at `path`.
///
/// # Errors
/// The archive cannot be read, has no image or several, or the image is incomplete.
pub fn read_docker_archive(path: &Path) -> Result<SavedImage, DockerArchiveError> {
    let file = gated::open(path).map_err(|source| DockerArchiveError::Read { path: path.to_owned(), source })?;
    let archive = Archive { path, file: Arc::new(file), members: BTreeMap::new() }.scanned()?;
    let mut entries: Vec<Entry> = archive.json("manifest.json", &archive.document("manifest.json")?)?;
    let entry = match (entries.pop(), entries.len()) {
        (Some(entry), 0) => entry,
        (None, _) => return Err(archive.problem("it has no image")),
        (Some(_), others) => return Err(archive.problem(format!("it has {} images instead of one", others + 1))),
    };
    let config_bytes = archive.document(&entry.config)?;
    let config: ImageConfig = archive.json(&entry.config, &config_bytes)?;
    if config.rootfs.diff_ids.len() != entry.layers.len() {
        return Err(archive.problem("its configuration has a different number of layers"));
    }
    let layer = |member: String| {
        let place = archive.place(&member)?;
        Ok(ArchivedLayer { member, file: Arc::clone(&archive.file), place })
    };
    let layers = entry.layers.into_iter().map(layer).collect::<Result<_, DockerArchiveError>>()?;
    Ok(SavedImage { config_bytes, config, layers })
}

/// The parts of an archive that are read to find its members. Their total size is limited, because the library reads
/// names and records of any size into memory.
struct Headers<'f> {
    file: &'f File,
    left: u64,
}

impl Read for Headers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, format!("its headers have more than {MAX_HEADERS} bytes"))
        })?;
        Ok(read)
    }
}

impl Seek for Headers<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

enum Found {
    Content(ByteRange),
    /// The name of a different member.
    Link(String),
}

struct Archive<'p> {
    path: &'p Path,
    file: Arc<File>,
    members: BTreeMap<String, Found>,
}

impl Archive<'_> {
    fn problem(&self, problem: impl Into<String>) -> DockerArchiveError {
        DockerArchiveError::NotAnArchive { path: self.path.to_owned(), problem: problem.into() }
    }

    fn scanned(mut self) -> Result<Self, DockerArchiveError> {
        let unreadable = |source| DockerArchiveError::Read { path: self.path.to_owned(), source };
        let headers = Headers { file: self.file.as_ref(), left: MAX_HEADERS };
        let mut tar = tar::Archive::new(BufReader::new(headers));
        let mut members = BTreeMap::new();
        for entry in tar.entries_with_seek().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if members.len() == MAX_MEMBERS {
                return Err(self.problem(format!("it has more than {MAX_MEMBERS} members")));
            }
            let name = clean(&String::from_utf8_lossy(&entry.path_bytes()), "");
            let kind = entry.header().entry_type();
            let found = match (kind, entry.link_name_bytes()) {
                // The archive has fewer bytes of a sparse file than its size.
                (tar::EntryType::Regular | tar::EntryType::Continuous, _) => {
                    Found::Content(ByteRange { offset: entry.raw_file_position(), size: entry.size() })
                }
                (tar::EntryType::Symlink, Some(target)) => {
                    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                    Found::Link(clean(&String::from_utf8_lossy(&target), directory))
                }
                (tar::EntryType::Link, Some(target)) => Found::Link(clean(&String::from_utf8_lossy(&target), "")),
                _ => continue,
            };
            members.insert(name, found);
        }
        self.members = members;
        Ok(self)
    }

    fn place(&self, member: &str) -> Result<ByteRange, DockerArchiveError> {
        let mut name = clean(member, "");
        for _ in 0..MAX_LINKS {
            match self.members.get(&name) {
                Some(Found::Content(place)) => return Ok(*place),
                Some(Found::Link(target)) => name.clone_from(target),
                None => return Err(self.problem(format!("it has no {member}"))),
            }
        }
        Err(self.problem(format!("{member} is a link to a missing member")))
    }

    fn document(&self, member: &str) -> Result<Vec<u8>, DockerArchiveError> {
        let place = self.place(member)?;
        if place.size > MAX_DOCUMENT {
            return Err(self.problem(format!("{member} has more than {MAX_DOCUMENT} bytes")));
        }
        let mut bytes = Vec::new();
        Member { file: Arc::clone(&self.file), place }
            .read_to_end(&mut bytes)
            .map_err(|source| DockerArchiveError::Read { path: self.path.to_owned(), source })?;
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, member: &str, bytes: &[u8]) -> Result<T, DockerArchiveError> {
        serde_json::from_slice(bytes).map_err(|source| DockerArchiveError::Json {
            path: self.path.to_owned(),
            member: member.to_owned(),
            source,
        })
    }
}

/// Returns a member's name without `.`, `..` and repeated slashes; `name` is relative to `directory` unless it starts
/// with a slash.
fn clean(name: &str, directory: &str) -> String {
    let directory = if name.starts_with('/') { "" } else { directory };
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;
    use crate::image::RootFs;

    /// An archive of these members; one whose content begins with `->` is a link.
    fn archive(members: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.as_file());
        for (name, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            if let Some(target) = content.strip_prefix(b"->") {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, name, String::from_utf8_lossy(target).as_ref()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                tar.append_data(&mut header, name, *content).unwrap();
            }
        }
        tar.finish().unwrap();
        drop(tar);
        file
    }

    fn config(layers: &[&[u8]]) -> Vec<u8> {
        let diff_ids = layers.iter().map(|layer| Digest::sha256_of(layer)).collect();
        let rootfs = RootFs { diff_ids, ..RootFs::default() };
        ImageConfig { rootfs, ..ImageConfig::default() }.to_bytes().unwrap()
    }

    #[test]
    fn layers_are_found_through_links() {
        let config = config(&[b"one", b"one"]);
        let file = archive(&[
            ("./c.json", &config),
            ("a/layer.tar", b"one"),
            ("b/layer.tar", b"->../a/layer.tar"),
            ("manifest.json", br#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]"#),
        ]);
        let image = read_docker_archive(file.path()).unwrap();
        assert_eq!(image.config_bytes, config);
        for layer in &image.layers {
            let mut content = String::new();
            layer.open().read_to_string(&mut content).unwrap();
            assert_eq!(content, "one", "{}", layer.member);
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let config = config(&[b"one"]);
        let manifest = |layers: &str| format!(r#"[{{"Config":"c","Layers":[{layers}]}}]"#).into_bytes();
        for (members, message) in [
            (vec![("x", b"y".to_vec())], "it has no manifest.json"),
            (vec![("manifest.json", b"[]".to_vec())], "it has no image"),
            (vec![("manifest.json", br#"[{"Config":"a"},{"Config":"b"}]"#.to_vec())], "it has 2 images"),
            (vec![("manifest.json", b"{}".to_vec())], "read manifest.json of"),
            (vec![("manifest.json", manifest("\"l\""))], "it has no c"),
            (vec![("c", config.clone()), ("manifest.json", manifest(""))], "a different number of layers"),
            (vec![("c", config.clone()), ("manifest.json", manifest("\"/etc/passwd\""))], "it has no /etc/passwd"),
            (
                vec![("c", config), ("l", b"->l".to_vec()), ("manifest.json", manifest("\"l\""))],
                "l is a link to a missing member",
            ),
        ] {
            let members: Vec<(&str, &[u8])> =
                members.iter().map(|(name, content)| (*name, content.as_slice())).collect();
            let error = read_docker_archive(archive(&members).path()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"not a tar").unwrap();
        assert!(read_docker_archive(file.path()).is_err());
    }

    /// The library would store a record of any size.
    #[test]
    fn headers_are_bounded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(2 << 30);
        header.set_cksum();
        std::fs::write(file.path(), header.as_bytes()).unwrap();
        // Zeros that take no disk space.
        file.as_file().set_len(3 << 30).unwrap();
        let error = read_docker_archive(file.path()).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "its headers have more than 67108864 bytes");
    }

    #[test]
    fn a_member_cut_short_is_an_error() {
        let config = config(&[b"one"]);
        let file =
            archive(&[("c", &config), ("manifest.json", br#"[{"Config":"c","Layers":["l"]}]"#), ("l", &[7; 2000])]);
        file.as_file().set_len(file.as_file().metadata().unwrap().len() - 2048).unwrap();
        let read = read_docker_archive(file.path()).map(|image| image.layers[0].open().read_to_end(&mut Vec::new()));
        assert!(!matches!(read, Ok(Ok(_))), "{read:?}");
    }
}
