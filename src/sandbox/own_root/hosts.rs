//! The host name that a build adds to the `/etc/hosts` of its commands.
//!
//! Where the pod mounts that file it cannot be replaced, so the name is written into it; the exchange puts back what
//! files of the pod in `/etc` pinned. Elsewhere a command gets a file of its own.

use std::io;
use std::path::Path;

use crate::diag::redact::Secret;
use crate::sandbox::mountinfo;
use crate::sandbox::{Mount, MountContent, Process, SandboxError, standard_files};

const PATH: &str = "/etc/hosts";

/// What a command is to find there.
#[derive(Debug)]
pub(super) struct Hosts {
    text: String,
    is_mounted: bool,
}

impl Hosts {
    /// The container's own names and the host name of the build; `None` if the build sets none. Before the exchange.
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

    /// The file that a command gets, where the pod mounts none.
    pub(super) fn mount(&self) -> Option<Mount> {
        let content =
            MountContent::File { content: Secret::new(self.text.clone().into_bytes()), mode: 0o644, uid: 0, gid: 0 };
        (!self.is_mounted).then(|| Mount { target: PATH.to_owned(), content, read_only: true })
    }

    /// Writes the text into the file that the pod mounts. During the exchange, whose end takes it away.
    pub(super) fn write(&self) {
        if self.is_mounted
            && let Err(error) = std::fs::write(PATH, &self.text)
        {
            tracing::warn!("the host name that the build asks for is missing in {PATH}: {error}");
        }
    }
}
