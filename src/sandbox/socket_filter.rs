//! `RUN --network=none` where no network namespace is to be had: a seccomp filter that leaves a command its unix sockets and
//! refuses every other kind.
//!
//! The refusal is EAFNOSUPPORT, the answer of a kernel that was built without that kind of network, which programs know.
//! io_uring can make sockets past a filter, so it gets ENOSYS, upon which programs use ordinary calls. The filter holds for
//! the command and all it starts.

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
use rustix::io::Errno;

use super::raw;

/// The calls of one architecture that make sockets. Numbers: the kernel's syscall tables.
struct Architecture {
    /// AUDIT_ARCH_* of linux/audit.h.
    audit: u32,
    /// Their first argument is the domain: socket(2) and socketpair(2).
    by_domain: [u32; 2],
    /// socketcall(2), whose arguments are in memory, which a filter cannot read.
    by_pointer: Option<u32>,
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: &[Architecture] = &[
    Architecture { audit: 0xc000_003e, by_domain: [41, 53], by_pointer: None },
    // Programs of 32 bits.
    Architecture { audit: 0x4000_0003, by_domain: [359, 360], by_pointer: Some(102) },
];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: &[Architecture] = &[
    Architecture { audit: 0xc000_00b7, by_domain: [198, 199], by_pointer: None },
    // Programs of 32 bits.
    Architecture { audit: 0x4000_0028, by_domain: [281, 288], by_pointer: None },
];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURES: &[Architecture] = &[];

/// The same everywhere.
const IO_URING_SETUP: u32 = 425;
/// What `socketcall` is asked for: `SYS_SOCKET` and `SYS_SOCKETPAIR` of linux/net.h.
const POINTER_CALLS: [u32; 2] = [1, 8];
/// Programs for x32 have this bit in the numbers of x86_64; no other architecture has it.
const WITHOUT_X32_BIT: u32 = !0x4000_0000;

/// Where things are in `struct seccomp_data` of linux/seccomp.h; of the first argument the lower half, little-endian.
const NUMBER: u32 = 0;
const AUDIT_ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// Whether the kernel, and the pod's own profile, let this program install such a filter.
pub(super) fn is_possible() -> bool {
    !ARCHITECTURES.is_empty() && raw::can_filter_calls()
}

/// Installs the filter for this thread and what it starts. Without CAP_SYS_ADMIN that takes a promise to gain no privileges
/// by executing a program: set-user-id bits and file capabilities have no effect then.
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

fn program() -> Vec<sock_filter> {
    let refused = || answer(libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT.cast_unsigned());
    let unknown = || answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned());
    let allowed = || answer(libc::SECCOMP_RET_ALLOW);
    let mut program = vec![load(AUDIT_ARCHITECTURE)];
    for architecture in ARCHITECTURES {
        let mut calls = vec![load(NUMBER), instruction(BPF_ALU | BPF_AND | BPF_K, WITHOUT_X32_BIT)];
        calls.extend(when(IO_URING_SETUP, vec![unknown()]));
        for number in architecture.by_domain {
            let mut domain = vec![load(FIRST_ARGUMENT)];
            domain.extend(when(libc::AF_UNIX.cast_unsigned(), vec![allowed()]));
            domain.push(refused());
            calls.extend(when(number, domain));
        }
        if let Some(number) = architecture.by_pointer {
            let mut call = vec![load(FIRST_ARGUMENT)];
            call.extend(POINTER_CALLS.into_iter().flat_map(|wanted| when(wanted, vec![refused()])));
            call.push(allowed());
            calls.extend(when(number, call));
        }
        calls.push(allowed());
        program.extend(when(architecture.audit, calls));
    }
    program.push(unknown());
    program
}

/// `block`, which ends with an answer, if what was loaded last is `value`; else what follows.
fn when(value: u32, block: Vec<sock_filter>) -> Vec<sock_filter> {
    let past = u8::try_from(block.len()).unwrap_or(u8::MAX);
    let mut instructions = vec![sock_filter { jf: past, ..instruction(BPF_JMP | BPF_JEQ | BPF_K, value) }];
    instructions.extend(block);
    instructions
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn answer(action: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, action)
}

fn instruction(code: u32, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, socketpair};

    use super::*;

    /// What the filter answers to a call, by the rules of classic BPF.
    fn answered(audit: u32, number: u32, argument: u32) -> u32 {
        let program = program();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let found = program[at];
            at += 1;
            match u32::from(found.code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    loaded = match found.k {
                        NUMBER => number,
                        AUDIT_ARCHITECTURE => audit,
                        FIRST_ARGUMENT => argument,
                        other => panic!("reads at {other}"),
                    };
                }
                code if code == BPF_ALU | BPF_AND | BPF_K => loaded &= found.k,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => {
                    at += usize::from(if loaded == found.k { found.jt } else { found.jf });
                }
                code if code == BPF_RET | BPF_K => return found.k,
                other => panic!("unknown instruction {other}"),
            }
        }
    }

    const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;
    const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32;
    const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    #[test]
    fn only_unix_sockets_are_made_on_every_architecture_that_runs_here() {
        for architecture in ARCHITECTURES {
            for number in architecture.by_domain {
                let domain = |domain: i32| answered(architecture.audit, number, domain as u32);
                assert_eq!(domain(libc::AF_UNIX), ALLOWED);
                for other in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK, 0, -1] {
                    assert_eq!(domain(other), REFUSED);
                }
            }
            if let Some(number) = architecture.by_pointer {
                assert_eq!(POINTER_CALLS.map(|call| answered(architecture.audit, number, call)), [REFUSED; 2]);
                // connect(2) on a socket that was made otherwise.
                assert_eq!(answered(architecture.audit, number, 3), ALLOWED);
            }
            assert_eq!(answered(architecture.audit, IO_URING_SETUP, 0), UNKNOWN);
            assert_eq!(answered(architecture.audit, 0, 2), ALLOWED);
        }
        assert_eq!(answered(0x1234, 0, 0), UNKNOWN);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_numbers_are_those_of_this_architecture_and_of_x32() {
        let [own, _] = ARCHITECTURES else { panic!("two architectures") };
        assert_eq!(own.by_domain.map(i64::from), [libc::SYS_socket, libc::SYS_socketpair]);
        assert_eq!(i64::from(IO_URING_SETUP), libc::SYS_io_uring_setup);
        assert_eq!(answered(own.audit, 0x4000_0000 | own.by_domain[0], libc::AF_INET as u32), REFUSED);
    }

    #[test]
    fn the_kernel_takes_it() {
        assert!(is_possible());
        // A filter is the thread's own, and so is the promise it takes.
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
