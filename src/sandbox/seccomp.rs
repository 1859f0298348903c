//! Writes seccomp filters over the system calls of a command, in the few classic BPF instructions that they need.
//!
//! The numbers of system calls differ between architectures, and one kernel runs programs of two of them. So a filter
//! is written with the names of calls, and lists their numbers for each architecture.

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

use super::raw;

/// An architecture, with the numbers of the calls that filters name (the kernel's syscall tables).
pub(super) struct Architecture {
    /// AUDIT_ARCH_* of linux/audit.h.
    audit: u32,
    pub(super) socket: u32,
    pub(super) socketpair: u32,
    /// Also creates sockets; its arguments are in memory, which a filter cannot read.
    pub(super) socketcall: Option<u32>,
    pub(super) clone: u32,
    pub(super) unshare: u32,
    /// The keyring calls: `add_key`, `request_key`, `keyctl`.
    pub(super) keys: [u32; 3],
    pub(super) bpf: u32,
    pub(super) perf_event_open: u32,
    pub(super) userfaultfd: u32,
}

/// The same number on every architecture.
pub(super) const IO_URING_SETUP: u32 = 425;
pub(super) const CLONE3: u32 = 435;

#[cfg(target_arch = "x86_64")]
pub(super) const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        audit: 0xc000_003e,
        socket: 41,
        socketpair: 53,
        socketcall: None,
        clone: 56,
        unshare: 272,
        keys: [248, 249, 250],
        bpf: 321,
        perf_event_open: 298,
        userfaultfd: 323,
    },
    // 32-bit programs.
    Architecture {
        audit: 0x4000_0003,
        socket: 359,
        socketpair: 360,
        socketcall: Some(102),
        clone: 120,
        unshare: 310,
        keys: [286, 287, 288],
        bpf: 357,
        perf_event_open: 336,
        userfaultfd: 374,
    },
];
#[cfg(target_arch = "aarch64")]
pub(super) const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        audit: 0xc000_00b7,
        socket: 198,
        socketpair: 199,
        socketcall: None,
        clone: 220,
        unshare: 97,
        keys: [217, 218, 219],
        bpf: 280,
        perf_event_open: 241,
        userfaultfd: 282,
    },
    // 32-bit programs.
    Architecture {
        audit: 0x4000_0028,
        socket: 281,
        socketpair: 288,
        socketcall: None,
        clone: 120,
        unshare: 337,
        keys: [309, 310, 311],
        bpf: 386,
        perf_event_open: 364,
        userfaultfd: 388,
    },
];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const ARCHITECTURES: &[Architecture] = &[];

/// x32 programs set this bit in the numbers of x86_64. No other architecture uses it.
const WITHOUT_X32_BIT: u32 = !0x4000_0000;

/// Offsets in `struct seccomp_data` of linux/seccomp.h; of the first argument the lower half, little-endian.
const NUMBER: u32 = 0;
const AUDIT_ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// Instructions that end with a decision.
pub(super) type Block = Vec<sock_filter>;

/// Reports whether the kernel and the pod's own profile let this program install filters.
pub(super) fn is_possible() -> bool {
    !ARCHITECTURES.is_empty() && raw::can_install_filter()
}

/// Returns a filter of these rules, each the number of a call and the instructions for it. All other calls are allowed;
/// calls of other architectures return ENOSYS.
pub(super) fn program(rules: impl Fn(&Architecture) -> Vec<(u32, Block)>) -> Block {
    let mut program = vec![load(AUDIT_ARCHITECTURE)];
    for architecture in ARCHITECTURES {
        let mut calls = vec![load(NUMBER), instruction(BPF_ALU | BPF_AND | BPF_K, WITHOUT_X32_BIT)];
        calls.extend(rules(architecture).into_iter().flat_map(|(number, block)| when(BPF_JEQ, number, block)));
        calls.extend(allow());
        program.extend(when(BPF_JEQ, architecture.audit, calls));
    }
    program.extend(refuse(libc::ENOSYS));
    program
}

/// Allows the call.
pub(super) fn allow() -> Block {
    vec![instruction(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW)]
}

/// Fails the call with this error.
pub(super) fn refuse(errno: i32) -> Block {
    vec![instruction(BPF_RET | BPF_K, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())]
}

/// Executes `then` if the first argument is one of `values`, `otherwise` if not.
pub(super) fn if_first_argument(values: &[u32], then: &[sock_filter], otherwise: Block) -> Block {
    let tests = values.iter().flat_map(|value| when(BPF_JEQ, *value, then.to_vec()));
    std::iter::once(load(FIRST_ARGUMENT)).chain(tests).chain(otherwise).collect()
}

/// Executes `then` if the first argument has a bit of `mask`, `otherwise` if not.
pub(super) fn if_first_argument_has(mask: u32, then: Block, otherwise: Block) -> Block {
    std::iter::once(load(FIRST_ARGUMENT)).chain(when(BPF_JSET, mask, then)).chain(otherwise).collect()
}

/// Executes `block` if the loaded value passes the test, and the following instructions if not.
fn when(test: u32, value: u32, block: Block) -> Block {
    // A block that is longer than a jump reaches would fail the tests of the filters.
    let past = u8::try_from(block.len()).unwrap_or(u8::MAX);
    let mut instructions = vec![sock_filter { jf: past, ..instruction(BPF_JMP | test | BPF_K, value) }];
    instructions.extend(block);
    instructions
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn instruction(code: u32, k: u32) -> sock_filter {
    // All codes are below 256.
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: 0, jf: 0, k }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sandbox) const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;

    pub(in crate::sandbox) fn refused(errno: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | errno as u32
    }

    /// Returns a filter's decision for a call, by the rules of classic BPF.
    pub(in crate::sandbox) fn decision(
        program: &[sock_filter],
        architecture: &Architecture,
        number: u32,
        argument: u32,
    ) -> u32 {
        decision_for(program, architecture.audit, number, argument)
    }

    fn decision_for(program: &[sock_filter], audit: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let found = program[at];
            at += 1;
            let mut jump = |holds: bool| at += usize::from(if holds { found.jt } else { found.jf });
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
                code if code == BPF_JMP | BPF_JEQ | BPF_K => jump(loaded == found.k),
                code if code == BPF_JMP | BPF_JSET | BPF_K => jump(loaded & found.k != 0),
                code if code == BPF_RET | BPF_K => return found.k,
                other => panic!("unknown instruction {other}"),
            }
        }
    }

    #[test]
    fn rules_apply_to_their_call_only_and_to_x32() {
        let program = program(|architecture| vec![(architecture.socket, refuse(libc::EPERM))]);
        for architecture in ARCHITECTURES {
            let own = |number| decision(&program, architecture, number, 0);
            assert_eq!(own(architecture.socket), refused(libc::EPERM));
            assert_eq!(own(architecture.socket | !WITHOUT_X32_BIT), refused(libc::EPERM));
            assert_eq!(own(architecture.socketpair), ALLOWED);
        }
        assert_eq!(decision_for(&program, 0x1234, 0, 0), refused(libc::ENOSYS));
    }

    #[test]
    fn the_numbers_are_those_of_this_architecture() {
        let own = &ARCHITECTURES[0];
        let [add_key, request_key, keyctl] = own.keys;
        for (ours, number) in [
            (own.socket, libc::SYS_socket),
            (own.socketpair, libc::SYS_socketpair),
            (own.clone, libc::SYS_clone),
            (own.unshare, libc::SYS_unshare),
            (add_key, libc::SYS_add_key),
            (request_key, libc::SYS_request_key),
            (keyctl, libc::SYS_keyctl),
            (own.bpf, libc::SYS_bpf),
            (own.perf_event_open, libc::SYS_perf_event_open),
            (own.userfaultfd, libc::SYS_userfaultfd),
            (IO_URING_SETUP, libc::SYS_io_uring_setup),
            (CLONE3, libc::SYS_clone3),
        ] {
            assert_eq!(i64::from(ours), number);
        }
    }
}
