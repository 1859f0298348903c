//! Lets only one build at a time exchange the files of `/`.
//!
//! The lock is on the root directory itself: an open `/` is the same file for every process of the container, whatever
//! its user and work directory, and can be locked where nothing can be written. The lock ends with the process. Builds
//! that only need their own files to stay in place share it.

use std::fs::File;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::sandbox::SandboxError;

/// A lock on a directory, released when dropped.
#[derive(Debug)]
pub(super) struct RootLock {
    _directory: File,
}

impl RootLock {
    /// Takes the lock exclusively; `None` if another build has it in either way.
    pub(super) fn exclusive(directory: &Path) -> Result<Option<Self>, SandboxError> {
        Self::take(directory, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock with other builds that share it; `None` if a build has it exclusively.
    pub(super) fn shared(directory: &Path) -> Result<Option<Self>, SandboxError> {
        Self::take(directory, FlockOperation::NonBlockingLockShared)
    }

    fn take(path: &Path, operation: FlockOperation) -> Result<Option<Self>, SandboxError> {
        let directory = File::open(path).map_err(SandboxError::io("open", path))?;
        match rustix::fs::flock(&directory, operation) {
            Ok(()) => Ok(Some(Self { _directory: directory })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            // The file system does not support locks.
            Err(errno @ (Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK | Errno::INVAL)) => {
                tracing::warn!(
                    "{}: cannot be locked ({errno}); no other build may run in this container meanwhile",
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
    fn the_lock_is_exclusive_or_shared() {
        let directory = tempfile::tempdir().unwrap();
        let take_alone = || RootLock::exclusive(directory.path()).unwrap();
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
