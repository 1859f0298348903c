//! Which capabilities a command keeps: those a container has by default.

use rustix::thread::{CapabilitySet, CapabilitySets};

/// The capabilities containerd and Docker give a container (`CapEff 00000000a80425fb`).
pub(super) const CONTAINER_DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// The capabilities of this process that take effect now.
pub(super) fn effective() -> rustix::io::Result<CapabilitySet> {
    Ok(rustix::thread::capabilities(None)?.effective)
}

/// Takes everything but `keep` from the bounding set, so that no program the command runs can get it.
pub(super) fn limit_bounding_set(keep: CapabilitySet) -> rustix::io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(capability) {
            continue;
        }
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) => rustix::thread::remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // The kernel knows no capability of this number, nor any higher one.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reduces the sets of this process to what is in `keep`.
pub(super) fn limit_own(keep: CapabilitySet) -> rustix::io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    let kept = now.permitted & keep;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_the_containers() {
        assert_eq!(CONTAINER_DEFAULT.bits(), 0xa804_25fb);
    }
}
