//! Which ids a user namespace can have here.
//!
//! How many ids its root has depends on who maps them: a process with CAP_SETUID and CAP_SETGID outside maps every id
//! of the container, an ordinary user maps what /etc/subuid grants through `newuidmap`, and without either only the
//! user's own id is there.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::capability;

/// A run of consecutive ids of a map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IdRange {
    /// The first id as seen in the namespace.
    pub(super) inside: u32,
    /// The first id outside that it stands for.
    pub(super) outside: u32,
    /// How many.
    pub(super) count: u32,
}

/// Who writes the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Writer {
    /// A process of this program outside the namespace, with CAP_SETUID and CAP_SETGID.
    Privileged,
    /// The set-user-id programs newuidmap and newgidmap.
    Programs,
    /// The process itself: its own id only.
    Own,
}

/// How the ids of a user namespace are mapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    pub(super) writer: Writer,
    pub(super) uids: Vec<IdRange>,
    pub(super) gids: Vec<IdRange>,
}

impl IdMapping {
    /// The mappings worth trying here, the best first.
    pub(super) fn candidates() -> Vec<Self> {
        let mut candidates = Vec::new();
        let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
        if capability::effective().is_ok_and(|effective| effective.contains(needed)) {
            // Every id that exists here stands for itself, so that files keep their owners.
            let identity = |map: &str| -> Vec<IdRange> {
                parse_map(&std::fs::read_to_string(map).unwrap_or_default())
                    .into_iter()
                    .map(|range| IdRange { outside: range.inside, ..range })
                    .collect()
            };
            let (uids, gids) = (identity("/proc/self/uid_map"), identity("/proc/self/gid_map"));
            candidates.push(Self { writer: Writer::Privileged, uids, gids });
        }
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if uid != 0 && find_program("newuidmap").is_some() && find_program("newgidmap").is_some() {
            let granted = |file: &str, own: u32| -> Option<Vec<IdRange>> {
                let name = login_name(&std::fs::read_to_string("/etc/passwd").unwrap_or_default(), uid);
                let ranges = subordinate(&std::fs::read_to_string(file).ok()?, name.as_deref(), uid);
                (!ranges.is_empty()).then(|| stack(own, &ranges))
            };
            if let (Some(uids), Some(gids)) = (granted("/etc/subuid", uid), granted("/etc/subgid", gid)) {
                candidates.push(Self { writer: Writer::Programs, uids, gids });
            }
        }
        candidates.push(Self {
            writer: Writer::Own,
            uids: vec![IdRange { inside: 0, outside: uid, count: 1 }],
            gids: vec![IdRange { inside: 0, outside: gid, count: 1 }],
        });
        candidates
    }

    /// How many user ids the namespace has.
    #[must_use]
    pub fn id_count(&self) -> u64 {
        self.uids.iter().map(|range| u64::from(range.count)).sum()
    }

    /// Whether only the user's own id is mapped: files cannot change owner, and commands run as root only.
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

/// Looks in this program's PATH, and where distributions put the two programs.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin".into(), "/usr/sbin".into(), "/bin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok())
}

pub(super) fn map_text(ranges: &[IdRange]) -> String {
    // The kernel takes the map in one write.
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
}

/// Reads a uid_map or gid_map.
pub(super) fn parse_map(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some(IdRange { inside: next()?, outside: next()?, count: next()? })
        })
        .collect()
}

/// Whether an id of this user namespace is mapped at all.
pub(super) fn is_mapped(map: &Path, id: u32) -> io::Result<bool> {
    let ranges = parse_map(&std::fs::read_to_string(map)?);
    Ok(ranges.iter().any(|range| id >= range.inside && id - range.inside < range.count))
}

/// The ranges that a /etc/subuid grants a user, by name or number (subuid(5)).
fn subordinate(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let who = fields.next()?;
            if Some(who) != name && who != number {
                return None;
            }
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .collect()
}

/// Own id as 0, then the granted ranges from 1 upwards.
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
    fn subordinate_ids_are_stacked_above_the_own_one() {
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
