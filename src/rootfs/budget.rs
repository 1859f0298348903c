//! How much memory the names and attributes of a tree may take.
//!
//! They are kept for every path, so whoever makes an archive decides what they cost: a layer of a megabyte can hold a million
//! long names. The limit is half of what this container may use. An archive of that kind then ends in an error that says so,
//! where the kernel would end the build without a word; and what a machine has memory for is built.

use std::path::Path;
use std::sync::OnceLock;

use crate::fs::gated;
use crate::fs::xattr::Xattrs;

/// The most that is taken anywhere: some seven million paths. The largest images known have two.
const MOST: u64 = 2 << 30;
/// Bytes of one attribute besides its name and value, and of the map they are in: what the allocator and the map's nodes take.
const XATTR: usize = 100;

/// Where the kernel says how much memory this container may use: version 2 of control groups, and version 1.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// Where it says how much the machine has.
const MACHINE: &str = "/proc/meminfo";

/// Bytes of memory that the names and attributes of one tree may take. It is found out once, before any command can hide the
/// kernel's files.
pub fn metadata_limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let read = |path: &str| gated::read_to_string(path).ok();
        let limits = LIMITS.iter().filter_map(|path| read(path)?.trim().parse().ok());
        let machine = read(MACHINE).and_then(|text| total_memory(&text));
        limit_of(limits.chain(machine))
    })
}

/// Half of the smallest of these, which are bytes of memory.
fn limit_of(memory: impl Iterator<Item = u64>) -> usize {
    let half = memory.min().map_or(MOST, |memory| memory / 2);
    usize::try_from(half.min(MOST)).unwrap_or(usize::MAX)
}

/// The bytes in the line `MemTotal: N kB`.
fn total_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Bytes of memory that a path takes where `each` is what is kept beside it.
pub(crate) fn path_size(path: &Path, each: usize) -> usize {
    path.as_os_str().len() + each
}

/// Bytes of memory that attributes take.
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
