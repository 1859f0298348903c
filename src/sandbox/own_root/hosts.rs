//! Adds a build's host name to the `/etc/hosts` of its commands.
//!
//! A mounted `/etc/hosts` cannot be replaced, so the name is written into it; the exchange restores the content of
//! pinned files in `/etc`. Otherwise the command gets its own file.

use std::io;
use std::path::Path;

use crate::diag::redact::Secret;
use crate::sandbox::mountinfo;
use crate::sandbox::{Mount, MountContent, Process, SandboxError, standard_files};

const PATH: &str = "/etc/hosts";

/// The text of a command's `/etc/hosts`.
#[derive(Debug)]
pub(super) struct Hosts {
    text: String,
    is_mounted: bool,
}

impl Hosts {
    /// Returns the container's own names with the host name of the build; `None` if the build sets none. Called before
    /// the exchange.
    pub(super) fn of(process: &Process) -> Result<Option<Self>, SandboxError> {
        if process.hostname.is_empty() {
            return Ok(None);
        }
        let own = match std::fs::read(PATH) {
            Ok(own) => own,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(SandboxError::io("read", PATH)(error)),
        };
        let text = standard_files::hosts(&String::from_utf8_lossy(&own), &process.hostname);
        let is_mounted = mountinfo::read()?.iter().any(|mount| mount.mount_point == Path::new(PATH));
        Ok(Some(Self { text, is_mounted }))
    }

    /// Returns the mount of the command's own file, unless the pod mounts one.
    pub(super) fn mount(&self) -> Option<Mount> {
        let content =
            MountContent::File { content: Secret::new(self.text.clone().into_bytes()), mode: 0o644, uid: 0, gid: 0 };
        (!self.is_mounted).then(|| Mount { target: PATH.to_owned(), content, read_only: true })
    }

    /// Writes the text into the pod's mounted file. Called during the exchange, whose end restores the file.
    pub(super) fn write(&self) {
        if self.is_mounted
            && let Err(error) = std::fs::write(PATH, &self.text)
        {
            tracing::warn!("{PATH}: the build's host name cannot be added: {error}");
        }
    }
}
