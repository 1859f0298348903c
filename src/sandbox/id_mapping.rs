//! Finds out which ids a user namespace can have in this container.
//!
//! That depends on the process that writes the maps. A process outside the namespace with CAP_SETUID and CAP_SETGID
//! maps every id of the container. An ordinary user maps what /etc/subuid grants, through `newuidmap`. Without either,
//! only the user's own id is mapped.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::capability;

/// A range of consecutive ids in a map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IdRange {
    /// The first id inside the namespace.
    pub(super) inside: u32,
    /// The first id outside, which it is mapped to.
    pub(super) outside: u32,
    /// The number of ids.
    pub(super) count: u32,
}

/// The process that writes the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum MapWriter {
    /// A process of this program outside the namespace, with CAP_SETUID and CAP_SETGID.
    Privileged,
    /// The set-user-id programs newuidmap and newgidmap.
    Programs,
    /// The process itself; it can map its own id only.
    Own,
}

/// The ids of a user namespace, and how they are mapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    pub(super) writer: MapWriter,
    pub(super) uids: Vec<IdRange>,
    pub(super) gids: Vec<IdRange>,
}

impl IdMapping {
    /// Returns the mappings that may work here, the best first.
    pub(super) fn candidates() -> Vec<Self> {
        let mut candidates = Vec::new();
        let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
        if capability::effective().is_ok_and(|effective| effective.contains(needed)) {
            // Every id is mapped to itself, so that files keep their owners.
            let identity = |map: &str| -> Vec<IdRange> {
                parse_map(&std::fs::read_to_string(map).unwrap_or_default())
                    .into_iter()
                    .map(|range| IdRange { outside: range.inside, ..range })
                    .collect()
            };
            let (uids, gids) = (identity("/proc/self/uid_map"), identity("/proc/self/gid_map"));
            candidates.push(Self { writer: MapWriter::Privileged, uids, gids });
        }
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if uid != 0 && find_program("newuidmap").is_some() && find_program("newgidmap").is_some() {
            let granted = |file: &str, own: u32| -> Option<Vec<IdRange>> {
                let name = login_name(&std::fs::read_to_string("/etc/passwd").unwrap_or_default(), uid);
                let ranges = subordinate(&std::fs::read_to_string(file).ok()?, name.as_deref(), uid);
                (!ranges.is_empty()).then(|| stack(own, &ranges))
            };
            if let (Some(uids), Some(gids)) = (granted("/etc/subuid", uid), granted("/etc/subgid", gid)) {
                candidates.push(Self { writer: MapWriter::Programs, uids, gids });
            }
        }
        candidates.push(Self {
            writer: MapWriter::Own,
            uids: vec![IdRange { inside: 0, outside: uid, count: 1 }],
            gids: vec![IdRange { inside: 0, outside: gid, count: 1 }],
        });
        candidates
    }

    /// Returns the number of user ids in the namespace.
    #[must_use]
    pub fn id_count(&self) -> u64 {
        self.uids.iter().map(|range| u64::from(range.count)).sum()
    }

    /// Reports whether only the user's own id is mapped. Files then cannot change owner, and commands run as root only.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.id_count() == 1
    }
}

impl fmt::Display for IdMapping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id_count() {
            1 => formatter.write_str("user namespace with a single id"),
            count if count >= u64::from(u32::MAX) => formatter.write_str("user namespace with all ids"),
            count => write!(formatter, "user namespace with {count} ids"),
        }
    }
}

/// Looks for a program in this program's PATH, and where distributions install newuidmap and newgidmap.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin".into(), "/usr/sbin".into(), "/bin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok())
}

pub(super) fn map_text(ranges: &[IdRange]) -> String {
    // The kernel accepts the map in a single write only.
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
}

/// Parses a uid_map or gid_map.
pub(super) fn parse_map(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some(IdRange { inside: next()?, outside: next()?, count: next()? })
        })
        .collect()
}

/// Reports whether an id of this user namespace is mapped.
pub(super) fn is_mapped(map: &Path, id: u32) -> io::Result<bool> {
    let ranges = parse_map(&std::fs::read_to_string(map)?);
    Ok(ranges.iter().any(|range| id >= range.inside && id - range.inside < range.count))
}

/// Returns the ranges that an /etc/subuid grants a user, by name or number (subuid(5)).
fn subordinate(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            if Some(owner) != name && owner != number {
                return None;
            }
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .collect()
}

/// Maps the own id to 0 and the granted ranges to 1 and upwards.
fn stack(own: u32, ranges: &[(u32, u32)]) -> Vec<IdRange> {
    let mut map = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut inside = 1;
    for &(outside, count) in ranges {
        map.push(IdRange { inside, outside, count });
        inside = inside.saturating_add(count);
    }
    map
}

fn login_name(passwd: &str, uid: u32) -> Option<String> {
    let number = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_and_written() {
        let text = "         0     100000      65536\n     70000          7          1\n";
        let ranges = parse_map(text);
        assert_eq!(ranges.len(), 2);
        assert_eq!(map_text(&ranges), "0 100000 65536\n70000 7 1\n");
    }

    #[test]
    fn subordinate_ids_follow_the_own_id() {
        let text = "other:1:2\nme:100000:65536\n1000:300000:10\n";
        let ranges = subordinate(text, Some("me"), 1000);
        assert_eq!(ranges, [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(map_text(&stack(1000, &ranges)), "0 1000 1\n1 100000 65536\n65537 300000 10\n");
    }

    #[test]
    fn login_names_come_from_passwd() {
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/:/bin/sh\n";
        assert_eq!(login_name(passwd, 1000).as_deref(), Some("me"));
        assert_eq!(login_name(passwd, 5), None);
    }
}
