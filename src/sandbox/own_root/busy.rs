//! Mount points of the pod that a command tried in vain to remove, replace or rename.
//!
//! They lie among the image's files, and the kernel answers EBUSY. A sandbox with mounts of its own would have removed what
//! the image has there; here nothing tells but what the command says of it.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::sandbox::Stream;
use crate::sandbox::mountinfo::Mount;

/// What C libraries call EBUSY, "Device or resource busy" and "Resource busy", in lower case.
const BUSY: &[u8] = b"resource busy";
/// As much of a line is looked at.
const LONGEST_LINE: usize = 16 * 1024;
/// Mounts that every sandbox has, BuildKit's too.
const EVERYWHERE: [&str; 5] = ["/dev", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys"];

/// Reads along what a command says.
#[derive(Debug)]
pub(super) struct BusyMounts {
    mounts: Vec<PathBuf>,
    /// Of standard output and standard error, the line that has not ended yet.
    lines: [Vec<u8>; 2],
    found: BTreeSet<PathBuf>,
}

impl BusyMounts {
    /// Looks for these.
    pub(super) fn among(mounts: &[Mount]) -> Self {
        let everywhere = |path: &Path| EVERYWHERE.iter().any(|place| path.starts_with(place));
        let mounts = mounts.iter().map(|mount| &mount.mount_point);
        let mounts = mounts.filter(|path| path.parent().is_some() && !everywhere(path)).cloned().collect();
        Self { mounts, lines: [Vec::new(), Vec::new()], found: BTreeSet::new() }
    }

    /// Takes the next piece of output.
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
            let room = LONGEST_LINE.saturating_sub(line.len());
            line.extend(piece.iter().take(room).map(u8::to_ascii_lowercase));
            if piece.ends_with(b"\n") {
                look(line, mounts, found);
                line.clear();
            }
        }
    }

    /// Those that were named; if one was and it was not said which, all there are.
    pub(super) fn found(mut self) -> Vec<PathBuf> {
        let Self { mounts, lines, found } = &mut self;
        lines.iter().for_each(|line| look(line, mounts, found));
        self.found.into_iter().collect()
    }
}

fn look(line: &[u8], mounts: &[PathBuf], found: &mut BTreeSet<PathBuf>) {
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
        let mount = |path: &&str| Mount { mount_point: PathBuf::from(path), file_system: "ext4".into() };
        let mut busy = BusyMounts::among(&points.iter().map(mount).collect::<Vec<_>>());
        pieces.iter().for_each(|piece| busy.read(Stream::Error, piece.as_bytes()));
        busy.found().into_iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_programs_say_of_a_busy_mount_names_it() {
        assert_eq!(found(&["rm: cannot remove '/data': Device or resource busy\n"]), ["/data"]);
        assert_eq!(found(&["x\nmv: can't rename '/etc/host", "name': Resource ", "busy"]), ["/etc/hostname"]);
        assert_eq!(found(&["OSError: [Errno 16] Device or resource busy: 'x'\n"]), ["/srv/Data/x"]);
        assert_eq!(found(&["Resource busy\n"]), ["/data", "/etc/hostname", "/srv/Data/x"]);
    }

    #[test]
    fn other_output_names_none() {
        let nothing: [&str; 0] = [];
        assert_eq!(found(&["removed /data\n", "the resource is busy\n", &"x".repeat(100_000)]), nothing);
    }
}
