//! Implements `RUN --network=none` where network namespaces are not available: a seccomp filter that refuses every
//! socket but unix sockets.
//!
//! The error is EAFNOSUPPORT, as from a kernel without that kind of network, which programs handle. io_uring can create
//! sockets past a filter, so it returns ENOSYS, and programs fall back to ordinary calls. The filter applies to the
//! command and every process that it starts.

use rustix::io::Errno;

use super::raw;
use super::seccomp::{self, Block, IO_URING_SETUP, allow, if_first_argument, refuse};

/// The operations of `socketcall` that create sockets: `SYS_SOCKET` and `SYS_SOCKETPAIR` of linux/net.h.
const BY_POINTER: [u32; 2] = [1, 8];

/// Installs the filter for this thread and every process that it starts. Without CAP_SYS_ADMIN this sets no_new_privs:
/// set-user-id bits and file capabilities then have no effect.
pub(super) fn install() -> rustix::io::Result<()> {
    let program = program();
    match raw::install_filter(&program) {
        Err(Errno::ACCESS) => {
            rustix::thread::set_no_new_privs(true)?;
            raw::install_filter(&program)
        }
        answer => answer,
    }
}

fn program() -> Block {
    seccomp::program(|architecture| {
        let refused = refuse(libc::EAFNOSUPPORT);
        let by_domain = if_first_argument(&[libc::AF_UNIX.cast_unsigned()], &allow(), refused.clone());
        let by_pointer = architecture.socketcall.map(|call| (call, if_first_argument(&BY_POINTER, &refused, allow())));
        let rules = [
            (IO_URING_SETUP, refuse(libc::ENOSYS)),
            (architecture.socket, by_domain.clone()),
            (architecture.socketpair, by_domain),
        ];
        rules.into_iter().chain(by_pointer).collect()
    })
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, socketpair};

    use super::super::seccomp::ARCHITECTURES;
    use super::super::seccomp::tests::{ALLOWED, decision, refused};
    use super::*;

    #[test]
    fn only_unix_sockets_are_allowed_on_every_architecture() {
        let (program, refused_socket) = (program(), refused(libc::EAFNOSUPPORT));
        for architecture in ARCHITECTURES {
            for number in [architecture.socket, architecture.socketpair] {
                let domain = |domain: i32| decision(&program, architecture, number, domain as u32);
                assert_eq!(domain(libc::AF_UNIX), ALLOWED);
                for other in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK, 0, -1] {
                    assert_eq!(domain(other), refused_socket);
                }
            }
            if let Some(number) = architecture.socketcall {
                assert_eq!(BY_POINTER.map(|call| decision(&program, architecture, number, call)), [refused_socket; 2]);
                // connect(2) on a socket that was created in another way.
                assert_eq!(decision(&program, architecture, number, 3), ALLOWED);
            }
            assert_eq!(decision(&program, architecture, IO_URING_SETUP, 0), refused(libc::ENOSYS));
            assert_eq!(decision(&program, architecture, 0, 2), ALLOWED);
        }
    }

    #[test]
    fn the_kernel_accepts_the_filter() {
        assert!(seccomp::is_possible());
        // A filter and no_new_privs apply to this thread only.
        let thread = std::thread::spawn(|| {
            install().unwrap();
            let socket = |family| socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).map(drop);
            let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
            (socket(AddressFamily::INET), socket(AddressFamily::NETLINK), socket(AddressFamily::UNIX), pair.is_ok())
        });
        let refused = Err(Errno::AFNOSUPPORT);
        assert_eq!(thread.join().unwrap(), (refused, refused, Ok(()), true));
    }
}
