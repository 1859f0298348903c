//! Reads the host name of commands: BuildKit's build argument `BUILDKIT_SANDBOX_HOSTNAME`.

use super::{Options, PlanError};

pub(super) const NAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// The most bytes that Linux accepts (`__NEW_UTS_LEN`).
const LONGEST: usize = 64;

/// Returns the name, if the build argument is set.
pub(super) fn host_name(options: &Options) -> Option<&str> {
    options.build_arg(NAME).filter(|name| !name.is_empty())
}

/// Checks that it is a valid host name: it is also written to a line of `/etc/hosts`.
pub(super) fn check(options: &Options) -> Result<(), PlanError> {
    let Some(name) = host_name(options) else { return Ok(()) };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.len() <= LONGEST && name.bytes().all(is_name) {
        return Ok(());
    }
    let hint = format!("a host name has letters, digits, hyphens, underscores and dots, {LONGEST} of them at most");
    Err(PlanError::new(format!("{NAME} cannot be {name:?}")).with_hint(hint))
}
