//! Turns the forked child into the command: namespaces, files, ids, capabilities, environment, exec.

use std::ffi::CString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Access, Mode};
use rustix::io::Errno;
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::UnshareFlags;

use super::message::{self, Failure, NamespaceSpec, Report, RunSpec};
use super::{Network, capability, id_mapping, kernel_filter, mounts, raw, seccomp, socket_filter};

/// Executes the command of `spec`. Returns only if that failed, with the reason.
pub(super) fn become_command(spec: &RunSpec, channel: &UnixStream) -> Failure {
    match prepare(spec, channel) {
        Ok((program, arguments, environment)) => {
            let errno = raw::execve(&program, &arguments, &environment);
            not_executable(spec, &program, errno)
        }
        Err(failure) => failure,
    }
}

type Execution = (CString, Vec<CString>, Vec<CString>);

fn prepare(spec: &RunSpec, channel: &UnixStream) -> Result<Execution, Failure> {
    die_with_supervisor()?;
    if let Some(namespace) = &spec.namespace {
        enter_namespaces(namespace, spec.network, channel)?;
    }
    rustix::process::setsid().map_err(Failure::step("start a session"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    own_output(spec.user.uid);
    rustix::process::chdir(spec.working_directory.as_str()).map_err(|errno| Failure::WorkingDirectory {
        path: spec.working_directory.clone(),
        errno: errno.raw_os_error(),
    })?;
    if spec.namespace.is_some() {
        // Installing the filter takes CAP_SYS_ADMIN, which the process still has here.
        if seccomp::is_possible() {
            kernel_filter::install().map_err(Failure::step("limit the system calls of the command"))?;
        } else {
            note(channel, "system calls are not filtered: seccomp is not available".to_owned());
        }
        capability::limit_bounding_set(capability::CONTAINER_DEFAULT)
            .map_err(Failure::step("limit the capabilities of the command"))?;
        rustix::thread::clear_ambient_capability_set().map_err(Failure::step("clear the ambient capabilities"))?;
    }
    if spec.namespace.is_none() && spec.network == Network::None {
        // Before the change of ids, which may drop the capability that this takes.
        socket_filter::install().map_err(Failure::step("cut the command off from the network"))?;
    }
    take_ids(spec)?;
    if spec.namespace.is_some() {
        capability::limit_own(capability::CONTAINER_DEFAULT)
            .map_err(Failure::step("limit the capabilities of the command"))?;
    }
    // A change of ids clears the death signal.
    die_with_supervisor()?;
    let arguments = c_strings(&spec.arguments)?;
    let environment: Vec<String> = spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let environment = c_strings(&environment)?;
    let program = find(spec)?;
    raw::reset_signals().map_err(Failure::io("reset signals"))?;
    Ok((program, arguments, environment))
}

fn die_with_supervisor() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(Failure::step("ask for a signal at the parent's death"))
}

fn enter_namespaces(namespace: &NamespaceSpec, network: Network, channel: &UnixStream) -> Result<(), Failure> {
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    if network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    raw::unshare(flags).map_err(Failure::step("unshare the namespaces of the command"))?;
    let mut note = |text| note(channel, text);
    if network == Network::None
        && let Err(errno) = loopback()
    {
        note(format!("the loopback device stays down: {errno}"));
    }
    if let Err(errno) = rustix::system::sethostname(namespace.hostname.as_bytes()) {
        note(format!("the host name stays as it is: {errno}"));
    }
    mounts::set_up(namespace, &mut note)
}

fn note(channel: &UnixStream, text: String) {
    // If the first process has ended, there is no log any more to write the line to.
    message::send(channel, &Report::Note(text)).unwrap_or_default();
}

fn loopback() -> rustix::io::Result<()> {
    use std::os::fd::AsFd;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    raw::bring_loopback_up(socket.as_fd())
}

/// Lets the command open `/dev/stdout` and `/dev/stderr`, pipes that otherwise belong to root.
fn own_output(uid: u32) {
    let owner = Some(Uid::from_raw(uid));
    for result in [rustix::fs::fchown(io::stdout(), owner, None), rustix::fs::fchown(io::stderr(), owner, None)] {
        // Some systems do not allow it for pipes. The descriptors that are already open work all the same.
        result.unwrap_or_default();
    }
}

fn take_ids(spec: &RunSpec) -> Result<(), Failure> {
    let user = &spec.user;
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    match rustix::thread::set_thread_groups(&groups) {
        Ok(()) => {}
        // In a namespace with a single id groups cannot be set, and root does not need them.
        Err(Errno::PERM | Errno::INVAL) if user.uid == 0 && user.gid == 0 => {}
        Err(errno) => return Err(no_ids(spec, errno)),
    }
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|errno| no_ids(spec, errno))?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|errno| no_ids(spec, errno))
}

fn no_ids(spec: &RunSpec, errno: Errno) -> Failure {
    let mapped = |map: &str, id: u32| id_mapping::is_mapped(Path::new(map), id).unwrap_or(true);
    let user = &spec.user;
    let reason = if !mapped("/proc/self/uid_map", user.uid) || !mapped("/proc/self/gid_map", user.gid) {
        "the user namespace of this build has no such id; run the container as root (runAsUser: 0), or grant the user a \
         range in /etc/subuid and /etc/subgid and install newuidmap and newgidmap"
            .to_owned()
    } else if errno == Errno::PERM {
        "the container may not change ids; give it the capabilities SETUID and SETGID, and for files of users other \
         than root CHOWN, DAC_OVERRIDE and FOWNER (securityContext.capabilities.add), or leave the container its \
         default capabilities"
            .to_owned()
    } else {
        message::describe(errno.raw_os_error())
    };
    Failure::Ids { uid: user.uid, gid: user.gid, reason }
}

fn c_strings(strings: &[String]) -> Result<Vec<CString>, Failure> {
    strings
        .iter()
        .map(|string| {
            CString::new(string.as_str())
                .map_err(|_| Failure::Step { step: format!("pass {string:?} to the command"), errno: libc::EINVAL })
        })
        .collect()
}

const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// Returns the program to execute: the name itself if it has a slash, otherwise the first match in the PATH of the
/// environment.
fn find(spec: &RunSpec) -> Result<CString, Failure> {
    let Some(name) = spec.arguments.first() else {
        return Err(Failure::Program {
            program: "RUN".into(),
            reason: "no command was given".into(),
            exit_code: NOT_FOUND,
        });
    };
    let failure = |reason: String, exit_code| Failure::Program { program: name.clone(), reason, exit_code };
    let c_string =
        |path: String| CString::new(path).map_err(|_| failure("its name holds a NUL byte".into(), NOT_FOUND));
    if name.contains('/') {
        return c_string(name.clone());
    }
    let path = spec.environment.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_str());
    let Some(path) = path else {
        return Err(failure("PATH is not set, so only a path with a slash can be run".into(), NOT_FOUND));
    };
    let mut refused = None;
    for directory in path.split(':') {
        let candidate = if directory.is_empty() { format!("./{name}") } else { format!("{directory}/{name}") };
        if !std::fs::metadata(&candidate).is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        if rustix::fs::access(candidate.as_str(), Access::EXEC_OK).is_ok() {
            return c_string(candidate);
        }
        refused.get_or_insert(candidate);
    }
    Err(match refused {
        Some(candidate) => failure(format!("{candidate} is not executable"), NOT_EXECUTABLE),
        None => failure(format!("executable file not found in PATH ({path})"), NOT_FOUND),
    })
}

/// Explains why execve failed.
fn not_executable(spec: &RunSpec, program: &CString, errno: Errno) -> Failure {
    let path = program.to_string_lossy().into_owned();
    let (reason, exit_code) = match errno {
        Errno::NOENT if Path::new(&path).exists() => (
            "no such file or directory (the file exists, but its interpreter, from the #! line or the dynamic \
             loader, does not)"
                .to_owned(),
            NOT_FOUND,
        ),
        Errno::NOEXEC => (
            "exec format error (it is for another architecture, or a script without a #! line)".to_owned(),
            NOT_EXECUTABLE,
        ),
        Errno::NOENT | Errno::NOTDIR => (message::describe(errno.raw_os_error()).to_lowercase(), NOT_FOUND),
        other => (message::describe(other.raw_os_error()).to_lowercase(), NOT_EXECUTABLE),
    };
    let name = spec.arguments.first().cloned().unwrap_or_else(|| path.clone());
    let program = if name == path { name } else { format!("{name} ({path})") };
    Failure::Program { program, reason, exit_code }
}
