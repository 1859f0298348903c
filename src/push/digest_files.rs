//! Writes `--digest-file` and related files, from which a pipeline reads what was built. The content equals kaniko's,
//! including newlines.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use reqwest::Url;

use super::{PushError, send};
use crate::diag::redact;
use crate::fs::{self, failed_to, gated};
use crate::image::{Digest, Reference};

/// The requested files, as typed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DigestFiles {
    /// `--digest-file`: `sha256:…`, without a newline.
    pub digest: Option<PathBuf>,
    /// `--image-name-with-digest-file`: `registry/repository@sha256:…` and a newline for each destination.
    pub name_with_digest: Option<PathBuf>,
    /// `--image-name-tag-with-digest-file`: `registry/repository:tag@sha256:…` and a newline for each destination.
    pub name_tag_with_digest: Option<PathBuf>,
}

/// Writes the files, before the push and also without one. Missing directories are made. A file that is a URL is sent
/// there.
///
/// # Errors
/// A file cannot be written, or the text cannot be sent to a URL.
pub async fn write_digest_files(
    files: &DigestFiles,
    digest: &Digest,
    destinations: &[Reference],
) -> Result<(), PushError> {
    let with_tags = files.name_tag_with_digest.is_some();
    let names: String = destinations
        .iter()
        .map(|destination| {
            // If both files are requested, kaniko writes the tags into both, and pipelines rely on that.
            if with_tags {
                format!("{}:{}@{digest}\n", destination.name(), destination.tag_or_latest())
            } else {
                format!("{}@{digest}\n", destination.name())
            }
        })
        .collect();
    if let Some(path) = &files.digest {
        write("--digest-file", path, &digest.to_string()).await?;
    }
    if let Some(path) = &files.name_with_digest {
        write("--image-name-with-digest-file", path, &names).await?;
    }
    if let Some(path) = &files.name_tag_with_digest {
        write("--image-name-tag-with-digest-file", path, &names).await?;
    }
    Ok(())
}

async fn write(flag: &'static str, path: &Path, content: &str) -> Result<(), PushError> {
    let text = path.to_string_lossy();
    if !text.starts_with("https://") && !text.starts_with("http://") {
        return Ok(write_file(path, content)?);
    }
    let shown = redact::url(&text);
    match Url::parse(&text) {
        Ok(url) if url.scheme() == "https" => {
            send::put(&url, content).await.map_err(|source| PushError::Send { url: shown, source })
        }
        _ => Err(PushError::DigestUrl { flag, value: shown }),
    }
}

/// Writes a small file for a pipeline.
pub(super) fn write_file(path: &Path, content: &str) -> Result<(), fs::Error> {
    if path == Path::new("/dev/stdout") {
        // Opening it again fails for a socket, and would overwrite the start of a file.
        let mut output = io::stdout().lock();
        return output.write_all(content.as_bytes()).and_then(|()| output.flush()).map_err(failed_to("write", path));
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let mut directories = DirBuilder::new();
        gated::create_dir_with(parent, directories.recursive(true).mode(0o700)).map_err(failed_to("create", parent))?;
    }
    // A link is not replaced; its target is.
    let target = gated::canonicalize(path).unwrap_or_else(|_missing| path.to_owned());
    let is_special = gated::metadata(&target).is_ok_and(|found| !found.is_file());
    if !is_special {
        match replace(&target, content) {
            Ok(()) => return Ok(()),
            // Files such as /dev/termination-log are mounts that cannot be replaced by renaming, and a directory that
            // is not writable may have a writable file.
            // cannot be written to may hold a file that can.
            Err(source) if is_unmovable(&source) => {}
            Err(source) => return Err(failed_to("write", path)(source)),
        }
    }
    overwrite(&target, content).map_err(failed_to("write", path))
}

/// Writes a temporary file and renames it: readers see the old or the new content, never a part.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut options = OpenOptions::new();
    // A temporary file that a killed build left is overwritten. Links are not followed.
    options.write(true).create(true).truncate(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
    let written = gated::open_with(&temporary, &options).and_then(|mut file| {
        if let Ok(found) = gated::metadata(path) {
            file.set_permissions(found.permissions())?;
            let now = file.metadata()?;
            if (now.uid(), now.gid()) != (found.uid(), found.gid()) {
                fchown(&file, Some(found.uid()), Some(found.gid()))?;
            }
        }
        file.write_all(content.as_bytes())?;
        gated::rename(&temporary, path)
    });
    if written.is_err()
        && let Err(left) = gated::remove_file(&temporary)
        && left.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(path = %temporary.display(), %left, "could not remove a temporary file");
    }
    written
}

/// Reports whether the file cannot be replaced here, as opposed to a full disk.
fn is_unmovable(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(error.kind(), ResourceBusy | CrossesDevices | PermissionDenied | ReadOnlyFilesystem)
}

/// Overwrites the existing file. It is truncated at the end, so that a full disk does not leave it empty.
fn overwrite(path: &Path, content: &str) -> io::Result<()> {
    let mut file = gated::open_with(path, OpenOptions::new().write(true).create(true).truncate(false).mode(0o644))?;
    file.write_all(content.as_bytes())?;
    if file.metadata()?.is_file() {
        file.set_len(content.len() as u64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(files: &DigestFiles, digest: &Digest, destinations: &[Reference]) -> Result<(), PushError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(write_digest_files(files, digest, destinations))
    }

    #[test]
    fn files_equal_those_of_kaniko() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(directory.path().join("new/deeper").join(name));
        let digest = Digest::sha256_of(b"");
        let destinations = ["app", "r.example:5000/team/app:v1"].map(|text| Reference::parse(text).unwrap());
        let read = |path: &Option<PathBuf>| std::fs::read_to_string(path.as_ref().unwrap()).unwrap();

        let mut files = DigestFiles { digest: at("1"), name_with_digest: at("2"), name_tag_with_digest: None };
        write(&files, &digest, &destinations).unwrap();
        assert_eq!(read(&files.digest), digest.to_string());
        assert_eq!(
            read(&files.name_with_digest),
            format!("index.docker.io/library/app@{digest}\nr.example:5000/team/app@{digest}\n")
        );
        let mode = std::fs::metadata(directory.path().join("new/deeper")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);

        files.name_tag_with_digest = at("3");
        write(&files, &digest, &destinations).unwrap();
        let tagged = format!("index.docker.io/library/app:latest@{digest}\nr.example:5000/team/app:v1@{digest}\n");
        assert_eq!(read(&files.name_tag_with_digest), tagged);
        assert_eq!(read(&files.name_with_digest), tagged);
    }

    #[test]
    fn files_are_replaced_atomically_and_keep_mode_and_links() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "what was there before, and longer").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let before = std::fs::File::open(&file).unwrap();
        write_file(&link, "new").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(io::read_to_string(before).unwrap(), "what was there before, and longer", "readers of the old file");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file remains");
    }

    #[test]
    fn devices_and_pipes_are_written_in_place() {
        write_file(Path::new("/dev/null"), "x").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
        let full = write_file(Path::new("/dev/full"), "x").unwrap_err();
        assert!(full.to_string().contains("/dev/full"), "{full}");
    }

    #[test]
    fn refused_urls_are_shown_without_credentials() {
        for url in ["http://u:p@h.example/d?sig=s", "https://:::/u:p@h.example/d?sig=s"] {
            let files = DigestFiles { digest: Some(PathBuf::from(url)), ..DigestFiles::default() };
            let error = write(&files, &Digest::sha256_of(b""), &[]).unwrap_err().to_string();
            assert!(error.contains("h.example/d") && error.contains("only sent to https URLs"), "{error}");
            assert!(!error.contains("sig=s"), "{error}");
        }
    }
}
