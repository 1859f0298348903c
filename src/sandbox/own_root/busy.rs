//! Finds the pod's mount points that a command failed to remove, replace or rename.
//!
//! They are among the image's files, and the kernel returns EBUSY. A sandbox with its own mounts would have removed the
//! image's files there. Here the only evidence is the command's output.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::sandbox::Stream;
use crate::sandbox::mountinfo::MountEntry;

/// The common part of the C libraries' texts for EBUSY, "Device or resource busy" and "Resource busy", in lower case.
const BUSY: &[u8] = b"resource busy";
/// The most bytes of a line that are searched.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// Mounts that every sandbox has, BuildKit's included.
const EVERYWHERE: [&str; 5] = ["/dev", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys"];

/// Searches a command's output for busy mount points.
#[derive(Debug)]
pub(super) struct BusyMounts {
    mounts: Vec<PathBuf>,
    /// The unfinished line of standard output, and of standard error.
    lines: [Vec<u8>; 2],
    found: BTreeSet<PathBuf>,
}

impl BusyMounts {
    /// Starts the search for these mounts.
    pub(super) fn among(mounts: &[MountEntry]) -> Self {
        let everywhere = |path: &Path| EVERYWHERE.iter().any(|place| path.starts_with(place));
        let mounts = mounts.iter().map(|mount| &mount.mount_point);
        let mounts = mounts.filter(|path| path.parent().is_some() && !everywhere(path)).cloned().collect();
        Self { mounts, lines: [Vec::new(), Vec::new()], found: BTreeSet::new() }
    }

    /// Searches the next chunk of output.
    pub(super) fn read(&mut self, stream: Stream, bytes: &[u8]) {
        if self.mounts.is_empty() {
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Self { mounts, lines: [output, error], found } = self;
            let line = match stream {
                Stream::Output => output,
                Stream::Error => error,
            };
            let room = MAX_LINE_BYTES.saturating_sub(line.len());
            line.extend(piece.iter().take(room).map(u8::to_ascii_lowercase));
            if piece.ends_with(b"\n") {
                search(line, mounts, found);
                line.clear();
            }
        }
    }

    /// Returns the mount points that were named. If a line reports a busy mount without naming one, it returns all.
    pub(super) fn found(mut self) -> Vec<PathBuf> {
        let Self { mounts, lines, found } = &mut self;
        lines.iter().for_each(|line| search(line, mounts, found));
        self.found.into_iter().collect()
    }
}

fn search(line: &[u8], mounts: &[PathBuf], found: &mut BTreeSet<PathBuf>) {
    if !contains(line, BUSY) {
        return;
    }
    let is_named = |name: &[u8]| contains(line, &name.to_ascii_lowercase());
    let by_path: Vec<&PathBuf> = mounts.iter().filter(|path| is_named(path.as_os_str().as_bytes())).collect();
    let by_name = || mounts.iter().filter(|path| path.file_name().is_some_and(|name| is_named(name.as_bytes())));
    let named = if by_path.is_empty() { by_name().collect() } else { by_path };
    found.extend(if named.is_empty() { mounts.iter().collect() } else { named }.into_iter().cloned());
}

fn contains(line: &[u8], words: &[u8]) -> bool {
    line.windows(words.len()).any(|window| window == words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pieces: &[&str]) -> Vec<String> {
        let points = ["/", "/proc", "/proc/acpi", "/dev/shm", "/etc/hosts", "/etc/hostname", "/data", "/srv/Data/x"];
        let mount = |path: &&str| MountEntry { mount_point: PathBuf::from(path), file_system: "ext4".into() };
        let mut busy = BusyMounts::among(&points.iter().map(mount).collect::<Vec<_>>());
        pieces.iter().for_each(|piece| busy.read(Stream::Error, piece.as_bytes()));
        busy.found().into_iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_busy_mount_is_found_in_a_programs_output() {
        assert_eq!(found(&["rm: cannot remove '/data': Device or resource busy\n"]), ["/data"]);
        assert_eq!(found(&["x\nmv: can't rename '/etc/host", "name': Resource ", "busy"]), ["/etc/hostname"]);
        assert_eq!(found(&["OSError: [Errno 16] Device or resource busy: 'x'\n"]), ["/srv/Data/x"]);
        assert_eq!(found(&["Resource busy\n"]), ["/data", "/etc/hostname", "/srv/Data/x"]);
    }

    #[test]
    fn other_output_names_no_mount() {
        let nothing: [&str; 0] = [];
        assert_eq!(found(&["removed /data\n", "the resource is busy\n", &"x".repeat(100_000)]), nothing);
    }
}
