//! One build at a time may exchange the files of `/`.
//!
//! What is exchanged is the root directory, so that is what is locked: an open `/` is the same file for every process of the
//! container, whatever its user and its work directory, and can be locked where nothing can be written. The lock ends with
//! the process. A build that only needs its own files to stay where they are shares it with others of that kind.

use std::fs::File;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::sandbox::SandboxError;

/// A lock on a directory, pinned until it is dropped.
#[derive(Debug)]
pub(super) struct RootLock {
    _directory: File,
}

impl RootLock {
    /// Keeps everybody else from taking any; `None` where somebody has one.
    pub(super) fn alone(directory: &Path) -> Result<Option<Self>, SandboxError> {
        Self::take(directory, FlockOperation::NonBlockingLockExclusive)
    }

    /// Keeps everybody else from being alone; `None` where somebody is.
    pub(super) fn shared(directory: &Path) -> Result<Option<Self>, SandboxError> {
        Self::take(directory, FlockOperation::NonBlockingLockShared)
    }

    fn take(path: &Path, operation: FlockOperation) -> Result<Option<Self>, SandboxError> {
        let directory = File::open(path).map_err(SandboxError::io("open", path))?;
        match rustix::fs::flock(&directory, operation) {
            Ok(()) => Ok(Some(Self { _directory: directory })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            // A file system without locks.
            Err(errno @ (Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK | Errno::INVAL)) => {
                tracing::warn!(
                    "{} cannot be locked ({errno}): no other build may run in this container meanwhile",
                    path.display()
                );
                Ok(Some(Self { _directory: directory }))
            }
            Err(errno) => Err(SandboxError::errno("lock", path)(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_or_several_together() {
        let directory = tempfile::tempdir().unwrap();
        let take_alone = || RootLock::alone(directory.path()).unwrap();
        let take_shared = || RootLock::shared(directory.path()).unwrap();
        let first = take_alone().unwrap();
        assert!(take_alone().is_none() && take_shared().is_none());
        drop(first);
        let (one, other) = (take_shared(), take_shared());
        assert!(one.is_some() && other.is_some() && take_alone().is_none());
        drop((one, other));
        assert!(take_alone().is_some());
    }
}
