//! Kills every process that a command left, where no process namespace does it.
//!
//! The supervisor is a child subreaper: every process that a command starts stays its descendant, daemons in their own
//! sessions included. They are killed until none is left, because a process may fork while the list is read.

use std::collections::HashMap;
use std::io;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::raw;

/// Kills all descendants of this process and reaps them.
pub(super) fn end_descendants() -> io::Result<()> {
    let own = rustix::process::getpid();
    loop {
        let processes = processes()?;
        for pid in descendants(&processes, own.as_raw_nonzero().get()) {
            kill(pid)?;
        }
        // A killed process becomes a child of this one at the latest when its parent has died. Blocking in wait for the
        // next one lets that happen without spinning.
        match raw::wait_any(true) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(()),
            Err(error) => return Err(error),
        }
        while matches!(raw::wait_any(false), Ok(Some(_))) {}
    }
}

/// Kills the descendants of this process that are in a different session: those of a command whose supervisor died.
///
/// Other children, such as credential helpers, are in this process's session and live on. Their exit status belongs to
/// the code that started them, so only processes killed here are reaped.
pub(super) fn end_other_sessions() -> io::Result<()> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    loop {
        let processes = processes()?;
        let session = processes.get(&own).map_or(0, |process| process.session);
        let mut remain = false;
        for pid in descendants(&processes, own) {
            let Some(process) = processes.get(&pid).filter(|process| process.session != session) else { continue };
            // A zombie is reaped by its parent, and becomes a child of this process when that parent has died too.
            if process.is_zombie && process.parent != own {
                continue;
            }
            remain = true;
            kill(pid)?;
            if process.parent == own {
                match waitpid(Pid::from_raw(pid), WaitOptions::empty()) {
                    Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::CHILD) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if !remain {
            return Ok(());
        }
    }
}

fn kill(pid: i32) -> io::Result<()> {
    match Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL)) {
        None | Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
        Some(Err(error)) => Err(error.into()),
    }
}

/// The fields of a process that are needed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: i32,
    session: i32,
    is_zombie: bool,
}

fn processes() -> io::Result<HashMap<i32, Process>> {
    let mut processes = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        match std::fs::read(format!("/proc/{pid}/stat")) {
            Ok(stat) => {
                if let Some(process) = parse_stat(&String::from_utf8_lossy(&stat)) {
                    processes.insert(pid, process);
                }
            }
            // The process has ended meanwhile.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {}
            // Processes hidden by hidepid belong to other users, so they are not descendants.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(processes)
}

/// Parses the third, fourth and sixth field of proc_pid_stat(5). The second is a name in parentheses that may contain
/// any characters.
fn parse_stat(stat: &str) -> Option<Process> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let is_zombie = fields.next()? == "Z";
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { parent, session, is_zombie })
}

fn descendants(processes: &HashMap<i32, Process>, ancestor: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, process) in processes {
        children.entry(process.parent).or_default().push(*pid);
    }
    let mut found = Vec::new();
    let mut pending = vec![ancestor];
    while let Some(pid) = pending.pop() {
        let Some(next) = children.remove(&pid) else { continue };
        found.extend(&next);
        pending.extend(next);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_after_any_name() {
        assert_eq!(parse_stat("12 (a) b) (c) S 7 12 13 0"), Some(Process { parent: 7, session: 13, is_zombie: false }));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn descendants_of_descendants_are_found_and_others_are_not() {
        let processes = HashMap::from(
            [(2, 1), (3, 2), (4, 3), (5, 1), (1, 0)]
                .map(|(pid, parent)| (pid, Process { parent, session: 1, is_zombie: false })),
        );
        let mut found = descendants(&processes, 2);
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }
}
