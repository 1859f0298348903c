//! `--digest-file` and its relatives: how a pipeline learns what was built. As in kaniko, to the newline.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use reqwest::Url;

use super::{PushError, send};
use crate::diag::redact;
use crate::image::{Digest, Reference};

/// Which files are wanted; values as they were typed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DigestFiles {
    /// `--digest-file`: `sha256:…`, without a newline.
    pub digest: Option<PathBuf>,
    /// `--image-name-with-digest-file`: `registry/repository@sha256:…` and a newline for each destination.
    pub name_with_digest: Option<PathBuf>,
    /// `--image-name-tag-with-digest-file`: `registry/repository:tag@sha256:…` and a newline for each destination.
    pub name_tag_with_digest: Option<PathBuf>,
}

/// Writes the files; before the push, and also where there is none. Missing directories are made, and what goes to a URL is
/// sent there.
///
/// # Errors
/// A file cannot be written, or a URL not be sent to.
pub async fn write_digest_files(
    files: &DigestFiles,
    digest: &Digest,
    destinations: &[Reference],
) -> Result<(), PushError> {
    let with_tags = files.name_tag_with_digest.is_some();
    let names: String = destinations
        .iter()
        .map(|destination| {
            // With both files asked for, kaniko writes the tags into both, and pipelines have grown used to it.
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
        return write_file(path, content);
    }
    let shown = redact::url(&text);
    match Url::parse(&text) {
        Ok(url) if url.scheme() == "https" => {
            send::put(&url, content).await.map_err(|source| PushError::Send { url: shown, source })
        }
        _ => Err(PushError::DigestUrl { flag, value: shown }),
    }
}

/// Writes a small file that a pipeline reads.
pub(super) fn write_file(path: &Path, content: &str) -> Result<(), PushError> {
    let error = |verb, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| PushError::File { verb, path, source }
    };
    if path == Path::new("/dev/stdout") {
        // Opening it anew fails for a socket, and would overwrite a file's beginning.
        let mut output = io::stdout().lock();
        return output.write_all(content.as_bytes()).and_then(|()| output.flush()).map_err(error("write", path));
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(error("create", parent))?;
    }
    // In place: /dev/termination-log and the like are single mounted files that cannot be renamed over.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
        .map_err(error("open", path))?;
    file.write_all(content.as_bytes()).map_err(error("write", path))
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
    fn files_are_kanikos_to_the_newline() {
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
    fn urls_that_are_not_sent_to_are_refused_without_their_credentials() {
        for url in ["http://u:p@h.example/d?sig=s", "https://:::/u:p@h.example/d?sig=s"] {
            let files = DigestFiles { digest: Some(PathBuf::from(url)), ..DigestFiles::default() };
            let error = write(&files, &Digest::sha256_of(b""), &[]).unwrap_err().to_string();
            assert!(error.contains("h.example/d") && error.contains("https URLs only"), "{error}");
            assert!(!error.contains("sig=s"), "{error}");
        }
    }
}
