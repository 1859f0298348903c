//! Limits the memory for the names and attributes of a tree.
//!
//! They are in memory for every path, so the author of an archive decides how much they take: a layer of a megabyte can
//! contain a million long names. The limit is half of the memory that this container may use. Such an archive then
//! fails with an error message instead of a kill by the kernel, and images that fit into the machine's memory can be
//! built.

use std::path::Path;
use std::sync::OnceLock;

use crate::fs::gated;
use crate::fs::xattr::Xattrs;

/// The upper limit: about seven million paths. The largest known images have two million.
const MOST: u64 = 2 << 30;
/// Bytes of an attribute in addition to its name and value, for the allocator and the map's nodes.
const XATTR: usize = 100;

/// The files with this container's memory limit: cgroups version 2, and version 1.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// The file with the machine's memory.
const MACHINE: &str = "/proc/meminfo";

/// Returns the most bytes of memory for the names and attributes of one tree. It is determined once, before a command
/// can hide the kernel's files.
pub fn metadata_limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let read = |path: &str| gated::read_to_string(path).ok();
        let limits = LIMITS.iter().filter_map(|path| read(path)?.trim().parse().ok());
        let machine = read(MACHINE).and_then(|text| total_memory(&text));
        limit_of(limits.chain(machine))
    })
}

/// Returns half of the smallest of these numbers of bytes.
fn limit_of(memory: impl Iterator<Item = u64>) -> usize {
    let half = memory.min().map_or(MOST, |memory| memory / 2);
    usize::try_from(half.min(MOST)).unwrap_or(usize::MAX)
}

/// Parses the bytes in the line `MemTotal: N kB`.
fn total_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Returns the bytes of memory for a path, where `each` is the size of its entry.
pub(crate) fn path_size(path: &Path, each: usize) -> usize {
    path.as_os_str().len() + each
}

/// Returns the bytes of memory for attributes.
pub(crate) fn xattrs_size(xattrs: &Xattrs) -> usize {
    if xattrs.is_empty() {
        0
    } else {
        xattrs.iter().fold(XATTR, |sum, (name, value)| sum + XATTR + name.len() + value.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_half_of_the_smaller_one() {
        let meminfo = "MemFree:  1 kB\nMemTotal:       16384 kB\nBuffers: 3 kB\n";
        assert_eq!(total_memory(meminfo), Some(16 << 20));
        assert_eq!(limit_of([16 << 20, 8 << 20].into_iter()), 4 << 20);
        assert_eq!(limit_of([1 << 40].into_iter()), 2 << 30);
        assert_eq!(limit_of(std::iter::empty()), 2 << 30);
        assert!(metadata_limit() > 0);
    }
}
