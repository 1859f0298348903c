//! Asking commands to end because nobody wants their result any more: another stage of the build has failed.
//!
//! A signal to the whole program is another matter ([`crate::diag::interrupt`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::SandboxError;

/// A request that is made once, for all commands that were given a clone of this.
#[derive(Debug, Clone)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// A request that has not been made.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> Result<Self, SandboxError> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let step = || "make a descriptor to stop commands with".into();
        event
            .map(|event| Self(Arc::new(event)))
            .map_err(|errno| SandboxError::Setup { step: step(), source: errno.into() })
    }

    /// Makes it. Commands that run end as they do for a signal, with [`SandboxError::Interrupted`].
    pub fn ask(&self) {
        // It cannot block before it was made as often as there are numbers.
        if let Err(errno) = rustix::io::write(&*self.0, &1_u64.to_ne_bytes()) {
            tracing::debug!("commands are not stopped: {errno}");
        }
    }

    /// Turns readable with the request; to be polled, never read.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
