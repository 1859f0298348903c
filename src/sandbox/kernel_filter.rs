//! Refuses system calls to a command in a namespace: those that the default profiles of container runtimes refuse and
//! that take no privilege.
//!
//! Most pods in which namespaces work have no seccomp profile. A nested user namespace would give the command every
//! capability there, and with them access to the parts of the kernel where most vulnerabilities were found. Keyrings,
//! BPF, performance events, userfaultfd and io_uring are refused for the same reason. clone3(2) has its flags in
//! memory, where a filter cannot read them. It returns ENOSYS, so that C libraries fall back to clone(2).

use super::raw;
use super::seccomp::{self, Block, CLONE3, IO_URING_SETUP, allow, if_first_argument_has, refuse};

/// Installs the filter for this thread and every process that it starts. Takes CAP_SYS_ADMIN in its user namespace.
pub(super) fn install() -> rustix::io::Result<()> {
    raw::install_filter(&program())
}

fn program() -> Block {
    seccomp::program(|architecture| {
        let new_user = if_first_argument_has(libc::CLONE_NEWUSER.cast_unsigned(), refuse(libc::EPERM), allow());
        let [add_key, request_key, keyctl] = architecture.keys;
        let refused =
            [add_key, request_key, keyctl, architecture.bpf, architecture.perf_event_open, architecture.userfaultfd];
        let by_flags = [(architecture.clone, new_user.clone()), (architecture.unshare, new_user)];
        let unknown = [CLONE3, IO_URING_SETUP].map(|call| (call, refuse(libc::ENOSYS)));
        let refused = refused.map(|call| (call, refuse(libc::EPERM)));
        by_flags.into_iter().chain(unknown).chain(refused).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::seccomp::ARCHITECTURES;
    use super::super::seccomp::tests::{ALLOWED, decision, refused};
    use super::*;

    #[test]
    fn threads_and_processes_are_allowed_and_user_namespaces_refused() {
        let program = program();
        for architecture in ARCHITECTURES {
            for call in [architecture.clone, architecture.unshare] {
                let flags = |flags: i32| decision(&program, architecture, call, flags as u32);
                assert_eq!(flags(libc::CLONE_VM | libc::CLONE_THREAD | libc::SIGCHLD), ALLOWED);
                assert_eq!(flags(libc::CLONE_NEWUSER | libc::SIGCHLD), refused(libc::EPERM));
            }
            for call in [CLONE3, IO_URING_SETUP] {
                assert_eq!(decision(&program, architecture, call, 0), refused(libc::ENOSYS));
            }
            for call in architecture.keys.into_iter().chain([architecture.bpf, architecture.userfaultfd]) {
                assert_eq!(decision(&program, architecture, call, 0), refused(libc::EPERM));
            }
            assert_eq!(decision(&program, architecture, architecture.socket, 2), ALLOWED);
        }
    }
}
