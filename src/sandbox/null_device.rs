//! Creates `/dev/null` where a hand-made container lacks it: commands and this program's own processes read from it.

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::SandboxError;

const PATH: &str = "/dev/null";
const MODE: u32 = 0o666;

/// Creates the device if it is missing. It is not removed afterwards.
///
/// # Errors
/// It is missing and cannot be created: that takes root and the capability MKNOD.
pub(super) fn ensure() -> Result<(), SandboxError> {
    if Path::new(PATH).symlink_metadata().is_ok() {
        return Ok(());
    }
    let failed = |source| SandboxError::Setup { step: "create /dev/null, which this container lacks".into(), source };
    std::fs::create_dir_all("/dev").map_err(failed)?;
    // Linux, Documentation/admin-guide/devices.txt.
    mknodat(CWD, PATH, FileType::CharacterDevice, Mode::from_raw_mode(MODE), makedev(1, 3))
        .map_err(|errno| failed(errno.into()))?;
    // Independent of the umask.
    rustix::fs::chmod(PATH, Mode::from_raw_mode(MODE)).map_err(|errno| failed(errno.into()))?;
    tracing::info!("/dev/null: created, this container lacks it");
    Ok(())
}
