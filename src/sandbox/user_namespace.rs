//! Moves the whole program into a user namespace, where it is root with all capabilities over its own namespaces.

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::thread::UnshareFlags;

use super::id_mapping::{IdMapping, IdRange, MapWriter, find_program, map_text};
use super::launch::spawn_init;
use super::message::{self, Failure, Job, Report};
use super::{Chosen, SandboxError, raw};

/// Moves this process into the user namespace that [`mod@super::probe`] chose, if it chose one.
///
/// Must be called before any thread exists. Afterwards the process is root in that namespace, with its own mount
/// namespace. Does nothing if no user namespace is needed.
///
/// # Errors
/// Threads already exist, or a step that worked in the probe fails now.
pub fn enter_user_namespace(chosen: &Chosen) -> Result<(), SandboxError> {
    let Some(mapping) = chosen.id_mapping() else { return Ok(()) };
    enter(mapping).map_err(SandboxError::from)
}

/// Enters a new user namespace with these ids.
pub(super) fn enter(mapping: &IdMapping) -> Result<(), Failure> {
    raw::require_single_thread().map_err(Failure::io("enter a user namespace"))?;
    // The helper must be outside of the namespace, so it starts before this process enters it.
    let helper = match mapping.writer {
        MapWriter::Privileged | MapWriter::Programs => {
            Some(spawn_init().map_err(Failure::io("start the process that maps ids"))?)
        }
        MapWriter::Own => None,
    };
    if let Err(errno) = raw::unshare(UnshareFlags::NEWUSER) {
        if let Some((mut child, channel)) = helper {
            // It ends because it gets no job. It must be reaped: where this program is the first process of its
            // container, a zombie would be visible to every command.
            drop(channel);
            child.wait().map_err(Failure::io("wait for the process that maps ids"))?;
        }
        return Err(Failure::step("unshare the user namespace")(errno));
    }
    match helper {
        None => {
            // user_namespaces(7): a process may map its own group only after it has disabled setgroups.
            std::fs::write("/proc/self/setgroups", "deny").map_err(Failure::io("write /proc/self/setgroups"))?;
            write_maps(mapping, rustix::process::getpid().as_raw_nonzero().get())?;
        }
        Some((mut child, channel)) => {
            let job = Job::MapIds { pid: rustix::process::getpid().as_raw_nonzero().get(), mapping: mapping.clone() };
            let outcome = request_mapping(&channel, &job);
            drop(channel);
            child.wait().map_err(Failure::io("wait for the process that maps ids"))?;
            outcome?;
        }
    }
    let root_group = rustix::process::Gid::ROOT;
    rustix::thread::set_thread_res_gid(root_group, root_group, root_group)
        .map_err(Failure::step("become the root group of the user namespace"))?;
    let root = rustix::process::Uid::ROOT;
    rustix::thread::set_thread_res_uid(root, root, root).map_err(Failure::step("become root of the user namespace"))?;
    raw::unshare(UnshareFlags::NEWNS).map_err(Failure::step("unshare the mount namespace"))
}

/// Writes the id maps of process `pid`. Called outside of its namespace.
pub(super) fn write_maps(mapping: &IdMapping, pid: i32) -> Result<(), Failure> {
    match mapping.writer {
        MapWriter::Privileged | MapWriter::Own => {
            for (map, ranges) in [("uid_map", &mapping.uids), ("gid_map", &mapping.gids)] {
                let path = format!("/proc/{pid}/{map}");
                std::fs::write(&path, map_text(ranges)).map_err(Failure::io(format!("write {path}")))?;
            }
            Ok(())
        }
        MapWriter::Programs => {
            for (program, ranges) in [("newuidmap", &mapping.uids), ("newgidmap", &mapping.gids)] {
                run_map_program(program, pid, ranges)?;
            }
            Ok(())
        }
    }
}

fn request_mapping(channel: &UnixStream, job: &Job) -> Result<(), Failure> {
    message::send(channel, job).map_err(Failure::io("request_mapping for an id map"))?;
    let mut reader = BufReader::new(channel);
    match message::receive(&mut reader).map_err(Failure::io("request_mapping for an id map"))? {
        Some(Report::Mapped) => Ok(()),
        Some(Report::Failed(failure)) => Err(failure),
        _ => Err(Failure::io("request_mapping for an id map")(io::ErrorKind::UnexpectedEof.into())),
    }
}

fn run_map_program(program: &str, pid: i32, ranges: &[IdRange]) -> Result<(), Failure> {
    let path = find_program(program).unwrap_or_else(|| program.into());
    let mut command = Command::new(path);
    command.arg(pid.to_string());
    for range in ranges {
        command.args([range.inside, range.outside, range.count].map(|number| number.to_string()));
    }
    let output = command.output().map_err(Failure::io(format!("run {program}")))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Step { step: format!("run {program} ({})", stderr.trim()), errno: libc::EPERM })
}
