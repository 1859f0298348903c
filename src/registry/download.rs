//! Downloads blobs into files.
//!
//! Every byte counts towards the verification of the blob's digest and size. After a broken connection the download
//! resumes where it stopped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::access::{Access, Purpose};
use super::answer::next_chunk;
use super::body::Payload;
use super::client::Client;
use super::error::RegistryError;
use super::transport::{Endpoint, Request};
use crate::diag::progress::Transfer;
use crate::fs::{self, GrowingFile, failed_to, gated};
use crate::http::{Flow, Pace, host_of};
use crate::image::{Descriptor, Digest, Hasher, Reference};

/// The bytes after which readers are notified.
const NOTIFY_AFTER: u64 = 1 << 20;

impl Client {
    /// Downloads a blob to `destination`, which is created only when the blob is complete and verified.
    ///
    /// # Errors
    /// The registry and its mirrors cannot be reached or refuse; the blob is truncated, or its size or digest differs
    /// from the descriptor's; the file cannot be written.
    pub async fn fetch_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        destination: &Path,
    ) -> Result<(), RegistryError> {
        self.fetch_growing_blob(reference, descriptor, destination, &GrowingFile::default()).await
    }

    /// Downloads a blob like [`Client::fetch_blob`], and lets readers follow through `growing`. The caller must report
    /// the end to it. `destination` is not created if the reader has reclaimed a part of the file.
    ///
    /// # Errors
    /// As for [`Client::fetch_blob`].
    pub async fn fetch_growing_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        destination: &Path,
        growing: &GrowingFile,
    ) -> Result<(), RegistryError> {
        let sources = self.pull_sources(reference);
        for source in &sources.first {
            match self.fetch_blob_from(source, descriptor, destination, growing).await {
                Ok(()) => return Ok(()),
                Err(error) => self.try_next_source(source, error)?,
            }
        }
        self.fetch_blob_from(&sources.last, descriptor, destination, growing).await
    }

    async fn fetch_blob_from(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        destination: &Path,
        growing: &GrowingFile,
    ) -> Result<(), RegistryError> {
        let operation = format!("pull blob {} of {}", descriptor.digest, reference.without_tag());
        let access = Access::pull(&reference.repository);
        let (operation, access) = (operation.as_str(), &access);
        let path = format!("{}/blobs/{}", reference.repository, descriptor.digest);
        let path = path.as_str();
        let partial = tokio::sync::Mutex::new(PartialFile::create(destination, &descriptor.digest, growing)?);
        let partial = &partial;
        self.with_endpoint(reference, Purpose::Pull, operation, |endpoint| async move {
            let _slot = self.transfer_slot().await;
            let mut partial = partial.lock().await;
            let label = format!("pull {}", short(&descriptor.digest));
            let download = Download { endpoint: &endpoint, path, access, operation, descriptor, pace: self.pace() };
            let transfer = self.progress().transfer(label, Some(descriptor.size));
            download.attempt(&mut partial, &transfer).await?;
            transfer.done();
            Ok(())
        })
        .await
    }
}

/// The download of one blob.
struct Download<'a> {
    endpoint: &'a Endpoint,
    path: &'a str,
    access: &'a Access,
    operation: &'a str,
    descriptor: &'a Descriptor,
    pace: Pace,
}

impl Download<'_> {
    async fn attempt(&self, partial: &mut PartialFile<'_>, transfer: &Transfer) -> Result<(), RegistryError> {
        loop {
            let response = self.ask(partial).await?;
            transfer.add(partial.received());
            let host = host_of(response.url());
            self.receive(response, &host, partial, transfer).await?;
            let found = partial.finish_hash();
            if found == self.descriptor.digest {
                return partial.persist().await;
            }
            if !partial.patched {
                return Err(RegistryError::Digest {
                    operation: self.operation.to_owned(),
                    host,
                    expected: self.descriptor.digest.clone(),
                    found,
                });
            }
            // The resumed parts do not fit together: download it again, in one piece.
            tracing::debug!(digest = %self.descriptor.digest, %found, "the parts of a resumed download do not fit");
            partial.restart().await?;
            partial.resumable = false;
        }
    }

    /// Requests the missing bytes, or all if the server does not support ranges.
    async fn ask(&self, partial: &mut PartialFile<'_>) -> Result<Response, RegistryError> {
        if !partial.resumable {
            partial.restart().await?;
        }
        let received = partial.received();
        if received > 0 {
            let mut headers = HeaderMap::new();
            if let Ok(range) = HeaderValue::from_str(&format!("bytes={received}-")) {
                headers.insert(RANGE, range);
            }
            let response = self.endpoint.expect(&self.request(headers)?, &[200, 206, 416]).await?;
            if response.status().as_u16() == 206 && first_byte(&response) == Some(received) {
                tracing::debug!(received, digest = %self.descriptor.digest, "resume the download");
                partial.patched = true;
                return Ok(response);
            }
            partial.restart().await?;
            if response.status().as_u16() == 200 {
                return Ok(response);
            }
        }
        self.endpoint.expect(&self.request(HeaderMap::new())?, &[200]).await
    }

    fn request(&self, headers: HeaderMap) -> Result<Request<'_>, RegistryError> {
        Ok(Request {
            method: Method::GET,
            url: self.endpoint.url(self.path, self.operation)?,
            headers,
            payload: Payload::None,
            access: self.access,
            operation: self.operation,
        })
    }

    async fn receive(
        &self,
        mut response: Response,
        host: &str,
        partial: &mut PartialFile<'_>,
        transfer: &Transfer,
    ) -> Result<(), RegistryError> {
        let expected = self.descriptor.size;
        let operation = || self.operation.to_owned();
        let wrong_size =
            |received| RegistryError::Size { operation: operation(), host: host.to_owned(), expected, received };
        if let Some(announced) = response.content_length()
            && announced.saturating_add(partial.received()) != expected
        {
            return Err(wrong_size(announced.saturating_add(partial.received())));
        }
        let mut flow = Flow::new(self.pace);
        loop {
            let received = partial.received();
            let truncated = |source| RegistryError::Truncated {
                operation: operation(),
                host: host.to_owned(),
                expected,
                received,
                source,
            };
            let asked = Instant::now();
            match next_chunk(&mut response, self.operation, host).await {
                Ok(Some(chunk)) => {
                    if !flow.keeps_pace(asked, chunk.len()) {
                        return Err(RegistryError::Slow { operation: operation(), host: host.to_owned() });
                    }
                    if received + chunk.len() as u64 > expected {
                        return Err(wrong_size(received + chunk.len() as u64));
                    }
                    partial.write(&chunk).await?;
                    transfer.add(chunk.len() as u64);
                }
                Ok(None) if received == expected => return Ok(()),
                Ok(None) => return Err(truncated(None)),
                Err(RegistryError::Transport { source, .. }) => return Err(truncated(Some(source))),
                Err(other) => return Err(other),
            }
        }
    }
}

/// Returns the first characters of a digest, for progress lines.
fn short(digest: &Digest) -> String {
    format!("{}:{}", digest.algorithm(), digest.hex().get(..12).unwrap_or(digest.hex()))
}

/// Returns the first byte of a partial response: `Content-Range: bytes 42-99/100`.
fn first_byte(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// The file of an incomplete download, removed unless it is persisted.
struct PartialFile<'a> {
    growing: &'a GrowingFile,
    /// The bytes that `growing` has been notified of.
    announced: u64,
    file: tokio::io::BufWriter<tokio::fs::File>,
    path: PathBuf,
    destination: PathBuf,
    digest: Digest,
    hasher: Hasher,
    /// True if the content comes from several responses.
    patched: bool,
    /// True if the download may be resumed.
    resumable: bool,
    kept: bool,
}

impl<'a> PartialFile<'a> {
    fn create(destination: &Path, digest: &Digest, growing: &'a GrowingFile) -> Result<Self, RegistryError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        if let Some(parent) = destination.parent() {
            gated::create_dir_all(parent).map_err(failed_to("create", parent))?;
        }
        let mut name = destination.as_os_str().to_owned();
        name.push(format!(".partial.{}.{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
        let path = PathBuf::from(name);
        let file = gated::create(&path).map_err(failed_to("create", &path))?;
        growing.begin(open_both_ways(&path).map_err(failed_to("open", &path))?);
        Ok(Self {
            growing,
            announced: 0,
            file: tokio::io::BufWriter::with_capacity(256 << 10, tokio::fs::File::from_std(file)),
            path,
            destination: destination.to_owned(),
            digest: digest.clone(),
            hasher: digest.hasher(),
            patched: false,
            resumable: true,
            kept: false,
        })
    }

    fn received(&self) -> u64 {
        self.hasher.bytes()
    }

    fn error(&self, verb: &'static str) -> impl FnOnce(std::io::Error) -> fs::Error + use<> {
        failed_to(verb, &self.path)
    }

    /// Discards the content.
    async fn restart(&mut self) -> Result<(), RegistryError> {
        if self.received() > 0 {
            // First, so that a reader does not mistake the shorter file for the end.
            self.growing.begin(open_both_ways(&self.path).map_err(self.error("open"))?);
            self.announced = 0;
            self.file.rewind().await.map_err(self.error("rewind"))?;
            self.file.get_mut().set_len(0).await.map_err(self.error("truncate"))?;
            self.hasher = self.digest.hasher();
        }
        self.patched = false;
        Ok(())
    }

    async fn write(&mut self, chunk: &[u8]) -> Result<(), RegistryError> {
        self.hasher.update(chunk);
        self.file.write_all(chunk).await.map_err(self.error("write"))?;
        if self.received() - self.announced >= NOTIFY_AFTER {
            self.announce().await?;
        }
        Ok(())
    }

    /// Notifies readers of the new bytes.
    async fn announce(&mut self) -> Result<(), RegistryError> {
        self.file.flush().await.map_err(self.error("write"))?;
        self.announced = self.received();
        self.growing.advance_to(self.announced);
        Ok(())
    }

    /// Returns the digest of all bytes. Resets it for the next attempt.
    fn finish_hash(&mut self) -> Digest {
        self.resumable = false;
        self.hasher.clone().finish()
    }

    /// Moves the verified file to its destination, unless its reader has reclaimed a part of it.
    async fn persist(&mut self) -> Result<(), RegistryError> {
        self.announce().await?;
        if !self.growing.try_persist() {
            return Ok(());
        }
        gated::rename(&self.path, &self.destination).map_err(self.error("rename"))?;
        self.kept = true;
        Ok(())
    }
}

/// Opens the file for a reader that may also reclaim what it has read.
fn open_both_ways(path: &Path) -> std::io::Result<std::fs::File> {
    gated::open_with(path, std::fs::OpenOptions::new().read(true).write(true))
}

impl Drop for PartialFile<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = gated::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a partial download cannot be removed");
        }
    }
}
