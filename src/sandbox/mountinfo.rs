//! Reads the mounts that this process sees, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::SandboxError;

/// A line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountEntry {
    /// The mount point, as this process sees it.
    pub(super) mount_point: PathBuf,
    /// `ext4`, `overlay`, `proc`, ...
    pub(super) file_system: String,
}

/// Reads the mounts of this process, in the order they were made.
pub(super) fn read() -> Result<Vec<MountEntry>, SandboxError> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read(path).map_err(SandboxError::io("read", path))?;
    Ok(parse(&text))
}

/// Parses mountinfo and skips malformed lines.
pub(super) fn parse(text: &[u8]) -> Vec<MountEntry> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mount_point = fields.nth(4)?;
    let file_system = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(MountEntry {
        mount_point: PathBuf::from(OsString::from_vec(unescape(mount_point))),
        file_system: String::from_utf8_lossy(file_system).into_owned(),
    })
}

/// Decodes the octal escapes (space, tab, line feed, backslash).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok()));
        match octal {
            Some(value) => {
                out.push(value);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

/// Returns the mount that `path` (absolute, without symbolic links) is on: the longest mount point above it.
pub(super) fn mount_of<'a>(mounts: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        // Of several mounts on one mount point the last is on top.
        .max_by_key(|mount| mount.mount_point.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = b"80 52 0:39 / / rw,relatime master:3 - overlay overlay rw,lowerdir=/l\n\
        81 80 0:42 / /proc rw,nosuid - proc proc rw\n\
        99 80 254:0 /hosts /etc/hosts rw,relatime - ext4 /dev/vda rw\n\
        100 80 254:0 /a /with\\040space\\134 rw shared:1 master:2 - ext4 /dev/vda rw\n\
        nonsense\n";

    #[test]
    fn lines_are_read_and_escapes_undone() {
        let mounts = parse(SAMPLE);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[0], MountEntry { mount_point: "/".into(), file_system: "overlay".into() });
        assert_eq!(mounts[3], MountEntry { mount_point: "/with space\\".into(), file_system: "ext4".into() });
    }

    #[test]
    fn the_longest_mount_point_wins() {
        let mounts = parse(SAMPLE);
        let point = |path: &str| mount_of(&mounts, Path::new(path)).unwrap().mount_point.clone();
        assert_eq!(point("/etc/passwd"), Path::new("/"));
        assert_eq!(point("/etc/hosts"), Path::new("/etc/hosts"));
        assert_eq!(point("/process"), Path::new("/"));
        assert_eq!(point("/proc/self"), Path::new("/proc"));
    }
}
