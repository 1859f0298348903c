//! Requests that commands stop, because another stage of the build failed and their result is not needed.
//!
//! Signals to the whole program are handled in [`crate::diag::interrupt`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::SandboxError;

/// A request that is made once, for all commands that have a clone of it.
#[derive(Debug, Clone)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// Returns a request that has not been made yet.
    ///
    /// # Errors
    /// The process has no free file descriptor.
    pub fn new() -> Result<Self, SandboxError> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let step = || "create a descriptor to stop commands with".into();
        event
            .map(|event| Self(Arc::new(event)))
            .map_err(|errno| SandboxError::Setup { step: step(), source: errno.into() })
    }

    /// Makes the request. Running commands end as for a signal, with [`SandboxError::Interrupted`].
    pub fn ask(&self) {
        // It would block only after 2^64 requests.
        if let Err(errno) = rustix::io::write(&*self.0, &1_u64.to_ne_bytes()) {
            tracing::debug!("commands cannot be stopped: {errno}");
        }
    }

    /// Returns a descriptor that becomes readable with the request; to be polled, never read.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
