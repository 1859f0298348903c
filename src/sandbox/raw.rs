//! Wraps the few system calls of the second process for which no safe wrapper exists.
//!
//! They are sound because they are made in the second process, which has a single thread.

#![expect(unsafe_code, reason = "fork, execve, unshare, signal masks and seccomp have no safe wrapper")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::process::Pid;

use super::Status;
use rustix::thread::UnshareFlags;

/// The two sides of a fork.
pub(super) enum Fork {
    /// The new process.
    Child,
    /// The original process, with the id of the new one.
    Parent(Pid),
}

/// Returns the number of threads of this process.
fn thread_count() -> io::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("/proc/self/status has no line Threads:"))
}

/// Fails in a process with several threads.
pub(super) fn require_single_thread() -> io::Result<()> {
    match thread_count()? {
        1 => Ok(()),
        count => Err(io::Error::other(format!("{count} threads are running where one is allowed"))),
    }
}

/// Forks. The caller is the second process, which never starts a thread.
pub(super) fn fork() -> io::Result<Fork> {
    // SAFETY: the process has a single thread (the sandbox child starts none), so the child's copy of memory is
    // consistent and no lock is held by a thread that does not exist there.
    let result = unsafe { libc::fork() };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid).map(Fork::Parent).ok_or_else(|| io::Error::other("fork gave no process id")),
    }
}

/// Ends the process without running exit handlers, as the child of a fork must.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions; it skips the exit handlers, which belong to the parent.
    unsafe { libc::_exit(code) }
}

/// Calls `unshare(2)`, for namespaces only.
pub(super) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: CLONE_FILES, the one flag that can make descriptors of other threads dangle, is never given here.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Replaces this process's program. Returns only on failure.
pub(super) fn execve(program: &CStr, arguments: &[CString], environment: &[CString]) -> rustix::io::Errno {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last_errno()
}

/// Makes a mount and those below it read-only, without devices, or both, by `mount_setattr(2)` (Linux 5.12).
pub(super) fn restrict_mounts(target: &Path, read_only: bool, no_devices: bool) -> rustix::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;

    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    const READ_ONLY: u64 = 1;
    const NO_DEVICES: u64 = 4;
    const RECURSIVE: libc::c_uint = 0x8000;

    let path = CString::new(target.as_os_str().as_bytes()).map_err(|_| rustix::io::Errno::INVAL)?;
    let set = if read_only { READ_ONLY } else { 0 } | if no_devices { NO_DEVICES } else { 0 };
    let attributes = MountAttributes { set, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the path ends with NUL and the structure has the layout and the size that the kernel is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            RECURSIVE,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Reports whether this kernel supports seccomp filters, and the filters of this process allow to install another.
pub(super) fn can_install_filter() -> bool {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads one number from the place it is given.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0_u32, &raw const action) };
    result == 0
}

/// Installs a seccomp filter for this thread and every process that it starts. EACCES: that takes CAP_SYS_ADMIN or
/// no_new_privs.
pub(super) fn install_filter(program: &[libc::sock_filter]) -> rustix::io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| rustix::io::Errno::INVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the structure names that many instructions, which the kernel copies and does not write to.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_u32, &raw const program) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Brings the network device `lo` up in this network namespace.
pub(super) fn bring_loopback_up(socket: BorrowedFd<'_>) -> rustix::io::Result<()> {
    // SAFETY: ifreq is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *slot = byte.cast_signed();
    }
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(|_| rustix::io::Errno::INVAL)?;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, whose name ends with NUL and whose flags are set.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain data; sigemptyset and sigaddset only write into it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Blocks these signals, to be received with [`wait_signal`].
pub(super) fn block_signals(signals: &[i32]) -> io::Result<()> {
    let set = signal_set(signals);
    // SAFETY: the set is initialized; the old mask is not asked for.
    let result = unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for one of the blocked `signals`, at most `milliseconds`; `None` on timeout.
pub(super) fn wait_signal(signals: &[i32], milliseconds: u32) -> io::Result<Option<i32>> {
    let set = signal_set(signals);
    let timeout =
        libc::timespec { tv_sec: i64::from(milliseconds / 1000), tv_nsec: i64::from(milliseconds % 1000) * 1_000_000 };
    loop {
        // SAFETY: the set and the timeout are initialized; no further information is asked for.
        let result = unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const timeout) };
        if result >= 0 {
            return Ok(Some(result));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN) => return Ok(None),
            Some(libc::EINTR) => {}
            _ => return Err(error),
        }
    }
}

/// Waits for any child, of any process group; rustix's `wait` covers only the caller's group. `None` if `hang` is false
/// and no child has ended.
pub(super) fn wait_any(hang: bool) -> io::Result<Option<(i32, Status)>> {
    let options = if hang { 0 } else { libc::WNOHANG };
    let mut status = 0;
    // SAFETY: the status is a valid place for an integer.
    match unsafe { libc::waitpid(-1, &raw mut status, options) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid if libc::WIFEXITED(status) => Ok(Some((pid, Status::Exited(libc::WEXITSTATUS(status))))),
        pid => Ok(Some((pid, Status::Signaled(libc::WTERMSIG(status))))),
    }
}

/// Restores the signal dispositions and the signal mask of a fresh process.
pub(super) fn reset_signals() -> io::Result<()> {
    let none = signal_set(&[]);
    // SAFETY: the default action is set for SIGPIPE, which the Rust runtime ignores; then the mask is emptied.
    unsafe {
        if libc::signal(libc::SIGPIPE, libc::SIG_DFL) == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn last_errno() -> rustix::io::Errno {
    let number = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    rustix::io::Errno::from_raw_os_error(number)
}

/// Makes `descriptor` the standard input.
pub(super) fn replace_standard_input(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both numbers are open descriptors; the old standard input was moved away by the caller.
    let result = unsafe { libc::dup2(descriptor.as_raw_fd(), libc::STDIN_FILENO) };
    if result == libc::STDIN_FILENO { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Marks every descriptor but the standard three close-on-exec: the command must not inherit this program's files.
pub(super) fn close_descriptors_on_exec() -> io::Result<()> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse::<libc::c_int>().ok()) {
            numbers.push(number);
        }
    }
    for number in numbers.into_iter().filter(|number| *number > libc::STDERR_FILENO) {
        // SAFETY: only a flag of the descriptor is set; a number that was closed meanwhile gives EBADF.
        let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        if result == -1 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EBADF) {
                return Err(error);
            }
        }
    }
    Ok(())
}
