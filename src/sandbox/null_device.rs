//! `/dev/null`, which containers made by hand sometimes lack: commands read from it, and so do the processes of this program.

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::SandboxError;

const PATH: &str = "/dev/null";
const MODE: u32 = 0o666;

/// Makes the device where it is missing; it stays, as it does no harm.
///
/// # Errors
/// It is missing and cannot be made: that takes root and the capability MKNOD.
pub(super) fn ensure() -> Result<(), SandboxError> {
    if Path::new(PATH).symlink_metadata().is_ok() {
        return Ok(());
    }
    let failed = |source| SandboxError::Setup { step: "make /dev/null, which this container lacks".into(), source };
    std::fs::create_dir_all("/dev").map_err(failed)?;
    // Linux, Documentation/admin-guide/devices.txt.
    mknodat(CWD, PATH, FileType::CharacterDevice, Mode::from_raw_mode(MODE), makedev(1, 3))
        .map_err(|errno| failed(errno.into()))?;
    // Whatever the umask is.
    rustix::fs::chmod(PATH, Mode::from_raw_mode(MODE)).map_err(|errno| failed(errno.into()))?;
    tracing::info!("made /dev/null, which this container lacks");
    Ok(())
}
